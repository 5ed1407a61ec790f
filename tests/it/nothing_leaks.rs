//! The program's own descriptors are in its own registry, and `/proc/PID/fd` agrees.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use super::server::Server;

fn numbers(open: &[(i32, String)]) -> Vec<i32> {
    open.iter().map(|(number, _)| *number).collect()
}

#[test]
fn the_custody_table_lists_exactly_the_open_descriptors() {
    let mut server = Server::start_on(&["127.0.0.1:0", "127.0.0.1:0"], &["--log-format", "json"]);
    assert_eq!(server.custody(), numbers(&server.open_descriptors()));
    let mut clients: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(server.custody(), numbers(&server.open_descriptors()));
}

#[test]
fn the_text_custody_table_has_owner_kind_and_site() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let peer = client.local_addr().unwrap();
    server.signal(Signal::USR1);
    server.wait_for_line("custody: ");
    server.wait_for_line(&format!("`echo {peer}` (running"));
    server.wait_for_line("tcp stream fd");
    server.wait_for_line("acquired at src/server/accept.rs:");
    server.wait_for_line("given");
}

#[test]
fn a_thousand_clients_leave_no_descriptor_open() {
    let server = Server::start(&[]);
    let before = server.open_descriptors();
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(server.open_descriptors().len(), before.len() + 1000);
    drop(clients);
    // By identity: the same sockets and pipes under the same numbers.
    server.wait_for_descriptors(|open| open == before);
}
