//! Clients that reset, half-close, send single bytes, never read, or stay idle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::dialect::{Calm, Dialect};
use crate::common::wait_until;

/// Closes with a reset (`SO_LINGER` of 0), even with unsent or unread bytes.
pub fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

pub fn resets_at_every_stage_leave_no_resources(dialect: &Dialect) {
    let mut server = dialect.start(&["--log-format", "json"]);
    let calm = Calm::of(&server);
    let mut innocent = server.connect();
    for n in 0..20 {
        reset(server.connect());
        let mut unread = server.connect();
        unread.write_all(&(dialect.request)(n, 100)).unwrap();
        reset(unread);
        let mut begun = server.connect();
        begun.write_all(&(dialect.request)(n, 100)[..50]).unwrap();
        reset(begun);
        let mut served = server.connect();
        dialect.exchange(&mut served, n);
        reset(served);
        let mut half_read = server.connect();
        half_read.write_all(&(dialect.request)(n, 50_000)).unwrap();
        half_read.read_exact(&mut [0; 10]).unwrap();
        reset(half_read);
        dialect.exchange(&mut innocent, n);
    }
    drop(innocent);
    calm.assert_restored(dialect, &mut server);
}

pub fn a_half_closed_client_gets_everything_and_then_end_of_stream(dialect: &Dialect) {
    let mut server = dialect.start(&["--log-format", "json"]);
    let calm = Calm::of(&server);
    for n in 0..20 {
        let mut client = server.connect();
        let request = (dialect.request)(n, 10_000);
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).expect("FIN, not a reset");
        assert!(reply == (dialect.reply)(&request));
    }
    calm.assert_restored(dialect, &mut server);
}

pub fn requests_sent_byte_by_byte_are_served(dialect: &Dialect) {
    let server = dialect.start(&[]);
    let mut client = server.connect();
    client.set_nodelay(true).unwrap();
    let request = (dialect.request)(1, 200);
    for byte in &request {
        client.write_all(std::slice::from_ref(byte)).unwrap();
    }
    (dialect.hear)(&mut client, &(dialect.reply)(&request)).unwrap();
}

pub fn a_peer_that_never_reads_is_disconnected_by_the_write_timeout(dialect: &Dialect) {
    let mut server = dialect.start(&["--write-timeout", "200ms", "--log-format", "json"]);
    let calm = Calm::of(&server);
    let mut greedy = server.connect();
    greedy.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let request = (dialect.request)(1, 1024 * 1024);
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    // The disconnect is an error other than a timeout: the connection is closed.
    wait_until("it to be cut", || {
        let written = greedy.write(&request);
        written.is_err_and(|error| !matches!(error.kind(), WouldBlock | TimedOut))
    });
    drop(greedy);
    calm.assert_restored(dialect, &mut server);
}

pub fn an_idle_peer_is_closed_by_the_idle_timeout(dialect: &Dialect) {
    let mut server = dialect.start(&["--idle-timeout", "150ms", "--log-format", "json"]);
    let calm = Calm::of(&server);
    let mut idle = server.connect();
    dialect.exchange(&mut idle, 1);
    let since = Instant::now();
    let _ = idle.read(&mut [0]);
    assert!(since.elapsed() >= Duration::from_millis(140), "closed after {:?}", since.elapsed());
    drop(idle);
    calm.assert_restored(dialect, &mut server);
}
