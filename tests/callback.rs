//! Callbacks: what a `SocketManager` promises, by its public names.
//!
//! Each test runs as a root task in a registry of its own, which has to be clean afterwards unless
//! the test breaks rules on purpose: every descriptor of the manager's has an owner, and none is left.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::DEADLINE;

mod common;

#[path = "callback/recorder.rs"]
mod recorder;

#[path = "callback/senders.rs"]
mod senders;

#[path = "callback/transfers.rs"]
mod transfers;

#[path = "callback/managers.rs"]
mod managers;

#[path = "callback/listening.rs"]
mod listening;

#[path = "callback/connecting.rs"]
mod connecting;

#[path = "callback/connections.rs"]
mod connections;

fn dial(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it is listened on");
    client.set_read_timeout(Some(DEADLINE)).expect("it is no zero");
    client.set_write_timeout(Some(DEADLINE)).expect("it is no zero");
    client
}

/// Closes with a reset.
fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("it is open");
}

/// Asserts that the other end has closed, by FIN or by a reset.
#[track_caller]
fn assert_is_over(client: &mut TcpStream) {
    let read = client.read(&mut [0; 100]);
    let is_over = match &read {
        Ok(bytes) => *bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(is_over, "{read:?}");
}

#[track_caller]
fn exchange(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).expect("it is read");
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).expect("it is answered");
    assert_eq!(back, bytes);
}
