//! Twenty upgrades under load, in each style: every connect succeeds, and every connection that is
//! shorter than the drain timeout is served to its end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::broadcast::{frame, try_hear};
use super::super::server::{DEADLINE, pattern};
use super::{Folder, Server, assert_ends_well, assert_ends_without, stop};
use crate::common::stall;

const UPGRADES: usize = 20;

/// How long a long connection lasts.
const LONG: Duration = Duration::from_millis(400);

/// Sends a message and returns what comes back for it.
fn ask(stream: &mut (impl Read + Write), style: &str, message: &[u8]) -> Vec<u8> {
    match style {
        "broadcast" => {
            stream.write_all(&frame(message)).expect("the server reads");
            loop {
                // Those of the other clients come, too.
                let heard = try_hear(stream).expect("the frame comes back");
                if heard == message {
                    return heard;
                }
            }
        }
        _ => {
            stream.write_all(message).expect("the server reads");
            let mut back = vec![0; message.len()];
            stream.read_exact(&mut back).expect("the bytes come back");
            back
        }
    }
}

/// A message that no other client sends. In the `staged` style it is a line.
fn message(client: usize, number: usize) -> Vec<u8> {
    let mut message = format!("{client} {number} ").into_bytes();
    message.extend(pattern(200).iter().map(|byte| b'a' + byte % 26));
    message.push(b'\n');
    message
}

/// A client: connections one after the other, until `stopped`. Returns how many there were.
fn client<S: Read + Write>(
    style: &str,
    number: usize,
    lasts: Duration,
    stopped: &AtomicBool,
    connect: impl Fn() -> S,
    finish: impl Fn(&S),
) -> usize {
    let mut connections = 0;
    let mut messages = 0;
    while !stopped.load(Ordering::Relaxed) {
        let mut stream = connect();
        let until = Instant::now() + lasts;
        loop {
            let message = message(number, messages);
            assert_eq!(ask(&mut stream, style, &message), message, "{style}");
            messages += 1;
            if Instant::now() >= until {
                break;
            }
            stall(Duration::from_millis(10));
        }
        finish(&stream);
        if style != "broadcast" {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("the connection ends without an error");
            assert_eq!(rest, b"", "{style}");
        }
        connections += 1;
    }
    connections
}

/// Stops the clients, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("every connect succeeds");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn unix(path: &str) -> UnixStream {
    let stream = UnixStream::connect(path).expect("every connect succeeds");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[track_caller]
fn upgrade_under_load(style: &str, arguments: &[&str]) {
    let folder = Folder::new();
    let path = folder.path("echo");
    let endpoint = format!("unix:{path}");
    let own = ["--style", style, "--listen", &endpoint, "--drain-timeout", "20s"];
    let arguments = [&own, arguments].concat();
    let mut servers: Vec<Server> = vec![folder.serve(&arguments)];
    let address = servers[0].address();
    let stopped = AtomicBool::new(false);
    let connections = std::thread::scope(|threads| {
        let (stopped, path) = (&stopped, &path);
        let short = threads.spawn(move || {
            let finish = |stream: &TcpStream| stream.shutdown(Shutdown::Write).unwrap();
            client(style, 1, Duration::ZERO, stopped, || tcp(address), finish)
        });
        let short_unix = threads.spawn(move || {
            let finish = |stream: &UnixStream| stream.shutdown(Shutdown::Write).unwrap();
            client(style, 2, Duration::ZERO, stopped, || unix(path), finish)
        });
        let long = threads.spawn(move || {
            let finish = |stream: &TcpStream| stream.shutdown(Shutdown::Write).unwrap();
            client(style, 3, LONG, stopped, || tcp(address), finish)
        });
        let stop = Stop(stopped);
        for _ in 0..UPGRADES {
            servers.push(folder.take_over(&arguments));
        }
        drop(stop);
        let ended = [short, short_unix, long].map(|it| it.join().ok());
        ended.into_iter().sum::<Option<usize>>()
    });
    let Some(connections) = connections else {
        let logs: Vec<&[String]> = servers.iter_mut().map(Server::lines).collect();
        panic!("a client failed: {logs:#?}");
    };
    assert!(connections > UPGRADES, "{connections} connections");
    let last = servers.pop().expect("there are some");
    assert_eq!(last.address(), address);
    for server in servers {
        match style {
            // These clients leave before they have read the frames of the others, which resets.
            "broadcast" => assert_ends_without(server, &["aborted", "panics", "leaks", "refused"]),
            _ => assert_ends_well(server),
        }
    }
    stop(last);
}

#[test]
fn twenty_upgrades_of_an_echo_server_lose_no_connection() {
    upgrade_under_load("echo", &["--acceptors", "2"]);
}

#[test]
fn twenty_upgrades_of_a_server_that_parks_lose_no_connection() {
    upgrade_under_load("echo", &["--park", "--acceptors", "2"]);
}

#[test]
fn twenty_upgrades_of_a_callback_server_lose_no_connection() {
    upgrade_under_load("callback", &[]);
}

#[test]
fn twenty_upgrades_of_a_staged_server_lose_no_connection() {
    // Four are the default, and a connection counts until its task has ended.
    upgrade_under_load("staged", &["--max-connections", "64"]);
}

#[test]
fn twenty_upgrades_of_a_broadcast_server_lose_no_connection() {
    upgrade_under_load("broadcast", &[]);
}
