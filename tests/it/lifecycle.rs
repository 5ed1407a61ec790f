//! Starting, draining, stopping.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::server::{DEADLINE, Server, exchange, never_reads, pattern, serve};
use crate::common::reserved::Reserved;
use crate::common::stall;

#[test]
fn an_idle_server_exits_with_0_on_sigint_and_sigterm() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut server = Server::start(&[]);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    }
}

#[test]
fn an_idle_connection_does_not_delay_the_drain() {
    let server = Server::start(&["--drain-timeout", "1h"]);
    let mut idle = server.connect();
    idle.write_all(b"x").unwrap();
    idle.read_exact(&mut [0]).unwrap();
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "the connection ends with FIN, not with a reset");
}

#[test]
fn bytes_sent_before_the_drain_are_echoed_in_full() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    // Less than the kernel's buffers hold on both sides: the server has received all of it when it
    // is written and the first byte is echoed.
    let sent = pattern(64 * 1024);
    client.write_all(&sent).unwrap();
    let mut back = vec![0; 1];
    client.read_exact(&mut back).unwrap();
    server.signal(Signal::TERM);
    client.read_to_end(&mut back).unwrap();
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
}

#[test]
fn a_peer_that_never_reads_is_disconnected_at_the_deadline() {
    let mut server = Server::start(&["--drain-timeout", "300ms"]);
    let _greedy = never_reads(&server);
    let ordered = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let took = ordered.elapsed();
    assert!(took >= Duration::from_millis(300), "disconnected after {took:?}: {:#?}", server.seen);
    assert!(server.seen.iter().any(|line| line.contains("1 aborted")), "{:#?}", server.seen);
    assert!(server.seen.iter().any(|line| line.contains("0 leaks, 0 violations")));
}

#[test]
fn new_clients_are_not_accepted_after_the_drain() {
    let reserved = Reserved::new();
    let address = reserved.address();
    let server = Server::start_on(&[&address.to_string()], &[]);
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_second_signal_stops_the_server_immediately() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let _greedy = never_reads(&server);
        server.signal(signal);
        server.wait_for_line("draining");
        assert_eq!(server.signal_until_it_ends(signal).code(), Some(code), "{:#?}", server.seen);
    }
}

#[test]
fn sighup_does_not_drain() {
    let mut server = Server::start(&[]);
    server.signal(Signal::HUP);
    server.wait_for_line("reopening files");
    assert_eq!(exchange(server.connect(), b"still here"), b"still here");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn a_server_started_with_sigint_ignored_drains_on_sigterm() {
    // What a shell does to a background job.
    let program = env!("CARGO_BIN_EXE_echown");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("trap '' INT; exec {program} serve --listen 127.0.0.1:0")]);
    let server = Server::run(&mut command, 1);
    server.signal(Signal::INT);
    assert_eq!(exchange(server.connect(), b"still here"), b"still here");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn a_busy_port_gives_a_one_line_error_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = serve(&[&address], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        format!(
            "echown: failed to listen on {address}: in use by another program; \
             stop that program or choose another address with --listen\n"
        )
    );
}

#[test]
fn if_one_of_two_ports_is_busy_the_other_is_released() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let reserved = Reserved::new();
    let free = reserved.address().to_string();
    let busy = taken.local_addr().unwrap().to_string();
    let output = serve(&[&free, &busy], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    TcpListener::bind(&free).expect("the first port is free again");
}

#[test]
fn an_exchange_in_progress_at_the_drain_ends_with_fin_not_with_a_reset() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.write_all(b"begun").unwrap();
    let mut first = [0; 5];
    client.read_exact(&mut first).unwrap();
    server.signal(Signal::TERM);
    let mut rest = Vec::new();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.read_to_end(&mut rest).expect("FIN, not a reset");
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn threads_start_with_many_clients_and_end_with_them() {
    const CROWD: usize = 200;
    /// Twice as many as the pool keeps: fewer idle threads are not ended while tasks run.
    const KEPT_MAX: usize = 32;
    let server = Server::start(&[]);
    server.wait_for("the acceptor", |server| server.is_in_a_poll_of_two());
    let before = server.threads();
    assert!(before < 10, "{before} threads without a client");
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(server.threads(), before + CROWD, "one for each");
    drop(crowd);
    server.wait_for("their end", |server| server.threads() <= before + KEPT_MAX);
}

#[test]
fn an_idle_server_uses_no_cpu() {
    const CROWD: usize = 300;
    /// Enough to detect activity ten times a second, or once.
    const WINDOW: Duration = Duration::from_secs(2);
    let server = Server::start(&[]);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    // A thread that has just served may not be blocked yet: one window must be without activity.
    server.wait_for("stillness", |server| {
        let before = server.times_scheduled();
        stall(WINDOW);
        server.times_scheduled() == before
    });
}
