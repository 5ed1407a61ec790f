//! Client limits: clients above a limit, and limits that the system does not allow.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::hostile::as_unprivileged_user;
use super::server::{Server, exchange, serve};
use super::status::events::Viewer;
use super::status::http::{get, status_of};

#[test]
fn a_client_above_the_limit_is_closed_immediately_and_counted() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let mut inside: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let mut outside = server.connect();
    let mut back = Vec::new();
    outside.read_to_end(&mut back).expect("closed without a reset");
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
    let rejected: u64 = summary
        .split(", ")
        .find_map(|part| part.strip_suffix(" refused"))
        .and_then(|count| count.parse().ok())
        .unwrap();
    assert!(rejected >= 1, "{summary}");
}

/// The task of the client that left may not have exited yet: then the next one is also rejected.
fn exchange_or_refused(server: &Server) -> bool {
    let mut client = server.connect();
    let mut back = Vec::new();
    client.write_all(b"later").is_ok()
        && client.shutdown(std::net::Shutdown::Write).is_ok()
        && client.read_to_end(&mut back).is_ok()
        && back == b"later"
}

#[test]
fn a_client_limit_above_the_fd_limit_is_lowered_with_a_remedy() {
    let mut server = Server::start(&["--max-connections", "100000000"]);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.seen.join("\n");
    assert!(log.contains("--max-connections 100000000 is lowered to "));
    assert!(log.contains("raise it with `ulimit -n 10000"), "{log}");
}

#[test]
fn a_default_client_limit_above_the_fd_limit_is_lowered_silently() {
    let mut server = under("--nofile=64", &[]);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.seen.join("\n");
    assert!(log.contains(" connections fit, fewer than the default of 1024: RLIMIT_NOFILE is 64"));
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_limit_raised_as_the_warning_states_admits_all_clients() {
    let mut server = under("--nofile=64", &["--max-connections", "100"]);
    let log = server.lines().join("\n");
    let enough = log.split("`ulimit -n ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let mut server = under(&format!("--nofile={enough}"), &["--max-connections", "100"]);
    assert_filled_and_refused(&mut server, 100, "--max-connections");
}

#[test]
fn at_the_fd_limit_new_clients_are_rejected_and_others_continue() {
    let mut server = under("--nofile=64", &["--max-connections", "1000"]);
    let fit = lowered_to(&mut server);
    assert!((30..64).contains(&fit), "{fit}");
    assert_filled_and_refused(&mut server, fit, "RLIMIT_NOFILE of 64 allows no more");
}

#[test]
fn at_the_fd_limit_the_status_has_descriptors_of_its_own() {
    let arguments = ["--max-connections", "1000", "--status", "127.0.0.1:0"];
    let mut server = under("--nofile=64", &arguments);
    let status = status_of(&mut server);
    let fit = lowered_to(&mut server);
    // Its listener, the two ends of its stop pipe, 8 clients, and 4 and one more that are rejected.
    let without = lowered_to(&mut under("--nofile=64", &arguments[..2]));
    assert_eq!(without - fit, 3 + 8 + 4 + 1);
    let crowd: Vec<TcpStream> = (0..fit).map(|_| server.connect()).collect();
    server.wait_for("all clients", |server| server.open_descriptors().len() >= fit);
    assert!(is_refused(&mut server.connect()));
    let mut viewers: Vec<Viewer> = (0..8).map(|_| Viewer::connect(status)).collect();
    viewers.iter_mut().for_each(|viewer| drop(viewer.wait_for_event("live")));
    assert_eq!(get(status, "/snapshot.json").code, 503, "the ninth gets a response, too");
    let lines = server.lines().join("\n");
    assert!(!lines.contains("accept paused"), "no descriptor was missing: {lines}");
    drop(crowd);
}

#[test]
fn at_the_thread_limit_new_clients_are_rejected_and_others_continue() {
    // Each style separately: one of them has two tasks per connection.
    for (style, is_enough) in [("echo", 30..64), ("broadcast", 15..32)] {
        let Some((mut command, _copy)) = as_unprivileged_user(&format!("limit {style}")) else {
            eprintln!("skipped: needs root, to become a user without privileges");
            return;
        };
        command.args(["--max-connections", "1000", "--style", style]);
        let mut limited = std::process::Command::new("prlimit");
        limited.arg("--nproc=64").arg(command.get_program()).args(command.get_args());
        let mut server = Server::run(&mut limited, 1);
        let fit = lowered_to(&mut server);
        assert!(is_enough.contains(&fit), "{style}: {fit}");
        if style == "echo" {
            assert_filled_and_refused(&mut server, fit, "RLIMIT_NPROC of 64 allows no more");
        } else {
            let crowd: Vec<_> = (0..fit).map(|_| server.connect()).collect();
            server.wait_for("all threads", |server| server.threads() > 2 * crowd.len());
            assert!(is_refused(&mut server.connect()));
            assert!(!server.lines().join("").contains("failed to start its writer"));
        }
    }
}

/// A server under a limit that `prlimit(1)` sets.
fn under(limit: &str, arguments: &[&str]) -> Server {
    let program = serve(&["127.0.0.1:0"], arguments);
    let mut command = std::process::Command::new("prlimit");
    command.arg(limit).arg(program.get_program()).args(program.get_args());
    Server::run(&mut command, 1)
}

fn lowered_to(server: &mut Server) -> usize {
    let log = server.lines().join("\n");
    let fit = log.split("is lowered to ").nth(1).and_then(|rest| rest.split(':').next());
    fit.and_then(|fit| fit.parse().ok()).unwrap_or_else(|| panic!("not lowered: {log}"))
}

/// Fills a server with clients, and asserts that further ones are rejected for this reason, that
/// the connected clients are not affected, and that nothing is exhausted.
fn assert_filled_and_refused(server: &mut Server, fit: usize, reason: &str) {
    let mut inside: Vec<TcpStream> = (0..fit).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).expect("it is served");
    }
    for round in 0..30 {
        assert!(is_refused(&mut server.connect()), "round {round}");
        let client = &mut inside[round % fit];
        client.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).expect("it is not disturbed");
    }
    for client in inside.drain(..) {
        assert_eq!(exchange(client, b"bye"), b"bye");
    }
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.seen.join("\n");
    assert!(log.contains(reason), "{reason:?} is not in {log}");
    assert!(!log.contains("accept paused"), "the ceiling was too high: {log}");
}

/// Whether a client is closed immediately, with nothing sent: with FIN, or with a reset if the
/// client wrote first.
fn is_refused(client: &mut TcpStream) -> bool {
    client.read_to_end(&mut Vec::new()).map_or(true, |bytes| bytes == 0)
}
