//! A client of `serve` gets all of its own bytes, in order, and then end of stream.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::server::{Server, exchange, pattern};
use crate::common::wait_until;

#[test]
fn hello_comes_back() {
    let server = Server::start(&[]);
    assert_eq!(exchange(server.connect(), b"Hello\n"), b"Hello\n");
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn a_half_closed_client_gets_everything_echoed_even_100_mib() {
    let server = Server::start(&[]);
    let sent = pattern(100 * 1024 * 1024);
    let back = exchange(server.connect(), &sent);
    assert_eq!(back.len(), sent.len());
    assert!(back == sent, "the bytes differ");
}

#[test]
fn bytes_are_echoed_while_the_client_keeps_sending() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for round in 0_u8..100 {
        client.write_all(&[round]).unwrap();
        let mut back = [0];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [round]);
    }
}

#[test]
fn a_client_that_connects_and_disconnects_is_counted_as_served() {
    let server = Server::start(&[]);
    drop(server.connect());
    assert_eq!(exchange(server.connect(), b"next"), b"next");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line.starts_with("2 connections, 0 refused")), "{lines:#?}");
}

#[test]
fn a_client_reset_ends_only_that_clients_task() {
    let server = Server::start(&[]);
    let mut innocent = server.connect();
    innocent.write_all(b"before ").unwrap();
    for _ in 0..50 {
        let mut rude = server.connect();
        rude.write_all(b"never read").unwrap();
        let mut first = [0];
        rude.read_exact(&mut first).unwrap();
        // Closing with unread bytes, or with zero linger, sends a reset.
        socket_reset(rude);
    }
    innocent.write_all(b"after").unwrap();
    innocent.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    innocent.read_to_string(&mut back).unwrap();
    assert_eq!(back, "before after");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line.starts_with("51 connections")), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("0 panics, 0 leaks, 0 violations")),
        "{lines:#?}"
    );
}

/// Closes with a reset (`SO_LINGER` of 0), even with unsent or unread bytes.
fn socket_reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
}

#[test]
fn several_addresses_are_served_by_one_process() {
    let server = Server::start_on(&["127.0.0.1:0", "127.0.0.1:0"], &[]);
    assert_ne!(server.addresses[0], server.addresses[1]);
    for &address in &server.addresses {
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(exchange(client, b"either"), b"either");
    }
}

#[test]
fn a_thousand_concurrent_clients_are_served() {
    let server = Server::start(&[]);
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        write!(client, "client {n}").unwrap();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let expected = format!("client {n}");
        let mut back = vec![0; expected.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, expected.as_bytes());
    }
}

/// A reply in two parts, of which the second is short: it must not wait for the acknowledgement of
/// the first, which the client's kernel delays by 40 ms.
#[test]
fn the_short_tail_of_a_reply_does_not_wait_for_an_acknowledgement() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let message = pattern(16 * 1024 + 100);
    let mut batch = || {
        let mut times: Vec<Duration> = (0..61)
            .map(|_| {
                let began = Instant::now();
                client.write_all(&message).unwrap();
                let mut reply = vec![0; message.len()];
                client.read_exact(&mut reply).unwrap();
                assert!(reply == message);
                began.elapsed()
            })
            .collect();
        times.sort();
        times
    };
    // The first few are always acknowledged immediately; a loaded machine may delay a whole batch.
    wait_until("two thirds of a batch to take less than 35 ms", || {
        batch()[40] < Duration::from_millis(35)
    });
}

#[test]
fn a_buffer_grows_with_the_reads_and_is_freed_when_the_client_is_idle() {
    const SMALL: &str = "0x800";
    const LARGE: &str = "0x10000";
    // With an idle timeout, which ends the connection in any case, the buffer stays.
    for (arguments, in_the_end) in [(&[][..], SMALL), (&["--idle-timeout", "60s"], LARGE)] {
        let server = Server::start(arguments);
        let mut client = server.connect();
        client.write_all(b"little").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        server.wait_for("a small buffer", |server| server.is_reading(SMALL));
        for _ in 0..3 {
            let mut back = vec![0; 1024 * 1024];
            let mut writer = client.try_clone().unwrap();
            let sent = pattern(back.len());
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&sent).unwrap());
                client.read_exact(&mut back).unwrap();
            });
            assert!(back == sent, "the bytes differ");
            server.wait_for("the end of it", |server| server.is_reading(in_the_end));
        }
        assert_eq!(server.stop().0, Some(0));
    }
}
