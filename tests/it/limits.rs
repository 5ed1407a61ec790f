//! Limits: what happens to one client too many, and to a limit that cannot be kept.

use std::io::{Read, Write};

use super::server::{Server, exchange};

#[test]
fn one_client_too_many_is_accepted_closed_at_once_and_counted() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let mut inside: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let mut outside = server.connect();
    let mut back = Vec::new();
    outside.read_to_end(&mut back).expect("closed in an orderly way");
    assert!(back.is_empty());

    // A place that becomes free is given to the next client.
    drop(inside.pop());
    server.wait_for_descriptors(|open| {
        open.iter().filter(|(_, target)| target.starts_with("socket:")).count() <= 4
    });
    let served = (0..1000).any(|_| exchange_or_refused(&server));
    assert!(served, "a later client is served");
    drop(inside);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let summary = server.seen.iter().find(|line| line.contains(" refused,")).unwrap();
    let refused: u64 = summary
        .split(", ")
        .find_map(|part| part.strip_suffix(" refused"))
        .and_then(|count| count.parse().ok())
        .unwrap();
    assert!(refused >= 1, "{summary}");
}

/// The task of the client that left may still be ending: then the next one is refused as well.
fn exchange_or_refused(server: &Server) -> bool {
    let mut client = server.connect();
    let mut back = Vec::new();
    client.write_all(b"later").is_ok()
        && client.shutdown(std::net::Shutdown::Write).is_ok()
        && client.read_to_end(&mut back).is_ok()
        && back == b"later"
}

#[test]
fn a_limit_above_the_descriptors_warns_and_starts() {
    let mut server = Server::start(&["--max-connections", "100000000"]);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let said = server.seen.join("\n");
    assert!(said.contains("--max-connections 100000000 is more than the limit of"), "{said}");
    assert!(said.contains("descriptors"), "{said}");
}
