//! Broadcast: every client receives every frame; and the bugs of mob, the reference server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::server::{DEADLINE, Server, pattern};
use crate::common::wait_until;

mod closing;
mod draining;
mod many_clients;
mod slow_readers;

/// A payload as sent on the wire. Independent of the program's encoder, which is under test.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u64).to_be_bytes().to_vec();
    wire.extend_from_slice(payload);
    wire
}

/// The payload of the next frame.
pub fn try_hear(client: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    client.read_exact(&mut length)?;
    let mut payload = vec![0; usize::try_from(u64::from_be_bytes(length)).expect("a valid length")];
    client.read_exact(&mut payload)?;
    Ok(payload)
}

fn hear(client: &mut TcpStream) -> Vec<u8> {
    try_hear(client).expect("a frame arrives")
}

fn say(client: &mut TcpStream, payload: &[u8]) {
    client.write_all(&frame(payload)).expect("the server reads");
}

/// Whether the server has closed the connection of a client: with FIN, or with a reset.
fn is_closed_by_server(client: &mut TcpStream) -> bool {
    loop {
        match client.read(&mut [0; 65536]) {
            Ok(0) => return true,
            Ok(_) => {}
            // `BrokenPipe` is a reset that comes after FIN.
            Err(error) => {
                use io::ErrorKind::{BrokenPipe, ConnectionReset};
                return matches!(error.kind(), BrokenPipe | ConnectionReset);
            }
        }
    }
}

fn start(arguments: &[&str]) -> Server {
    Server::start(&[&["--style", "broadcast"], arguments].concat())
}

/// A client that has received its own first frame: from now on it receives every frame.
fn enter(server: &Server) -> TcpStream {
    let mut client = server.connect();
    client.set_nodelay(true).expect("it is a TCP address");
    let name = format!("entering from {}", client.local_addr().expect("it is connected"));
    say(&mut client, name.as_bytes());
    while hear(&mut client) != name.as_bytes() {}
    client
}

/// Several clients, each of which has received the first frames of all.
fn enter_all(server: &Server, clients: usize) -> Vec<TcpStream> {
    let mut inside: Vec<TcpStream> = (0..clients).map(|_| enter(server)).collect();
    for (place, client) in inside.iter_mut().enumerate() {
        for _ in place + 1..clients {
            hear(client);
        }
    }
    inside
}

/// A client whose receive buffer holds very little while it does not read.
pub fn with_a_small_receive_buffer(server: &Server) -> TcpStream {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    // Only for this connection, not for servers that other tests start meanwhile.
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    rustix::net::connect(&socket, &server.address()).unwrap();
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client
}

/// A client that sends more than all kernel buffers can hold, and reads nothing.
/// For a server whose send queues can hold it.
pub fn never_reads(server: &Server) -> TcpStream {
    const MEBIBYTES: usize = 32;
    let mut greedy = with_a_small_receive_buffer(server);
    let mebibyte = frame(&pattern(1024 * 1024));
    for _ in 0..MEBIBYTES {
        greedy.write_all(&mebibyte).expect("the server reads");
    }
    greedy
}

/// Resident memory of the server, in bytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux reports it");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A total of the server: the number in front of a word of its last log line.
fn total(lines: &[String], what: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains("broadcast: ")).expect("the message says so");
    let mut numbers = line.rsplit("broadcast: ").next().unwrap().split(", ");
    let part = numbers.find(|part| part.contains(what)).expect("one of its numbers");
    part.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn every_frame_goes_to_every_client_and_to_the_sender() {
    let server = start(&[]);
    let mut clients = enter_all(&server, 3);
    for sender in 0..3 {
        let payload = pattern(1000 + sender);
        say(&mut clients[sender], &payload);
        for client in &mut clients {
            assert_eq!(hear(client), payload);
        }
    }
}

#[test]
fn a_frame_length_received_in_parts_is_reassembled() {
    let server = start(&[]);
    let mut clients = enter_all(&server, 2);
    for cut in 1..8 {
        let wire = frame(b"after a split header");
        clients[0].write_all(&wire[..cut]).unwrap();
        // The exchange of the other client gives the server time to read the first part.
        say(&mut clients[1], b"meanwhile");
        assert_eq!(hear(&mut clients[1]), b"meanwhile");
        clients[0].write_all(&wire[cut..]).unwrap();
        assert_eq!(hear(&mut clients[1]), b"after a split header");
        assert_eq!(hear(&mut clients[0]), b"meanwhile");
        assert_eq!(hear(&mut clients[0]), b"after a split header");
    }
}

#[test]
fn a_split_payload_is_one_frame_and_joined_frames_are_several() {
    let server = start(&[]);
    let mut client = enter(&server);
    let payload = pattern(500);
    for byte in frame(&payload) {
        client.write_all(&[byte]).unwrap();
    }
    assert_eq!(hear(&mut client), payload);
    let joined: Vec<u8> = (0..100).flat_map(|n| frame(&pattern(n))).collect();
    client.write_all(&joined).unwrap();
    for n in 0..100 {
        assert_eq!(hear(&mut client), pattern(n), "frame {n}; the first one is empty");
    }
}

#[test]
fn an_excessive_length_closes_only_its_connection_with_a_reason() {
    for (length, reason) in [
        (u64::MAX, "frame too long: 18446744073709551615 bytes announced"),
        (1 << 40, "frame too long: 1099511627776 bytes announced"),
        (16 * 1024 * 1024 + 1, "16777217 bytes announced, at most 16777216 allowed (--max-frame)"),
    ] {
        let mut server = start(&[]);
        let mut innocent = enter(&server);
        let before = memory(&server);
        let mut absurd = server.connect();
        absurd.write_all(&length.to_be_bytes()).unwrap();
        assert!(is_closed_by_server(&mut absurd), "{length}");
        let line = server.wait_for_line("disconnected: ");
        let name = absurd.local_addr().unwrap().to_string();
        assert!(line.contains(&name) && line.contains(reason), "{line}");
        assert!(memory(&server) < before + 8 * 1024 * 1024, "no memory was reserved for it");
        say(&mut innocent, b"still here");
        assert_eq!(hear(&mut innocent), b"still here");
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn memory_is_allocated_for_received_bytes_not_for_the_announced_length() {
    let server = start(&["--max-frame", "8TiB"]);
    let mut client = enter(&server);
    let before = memory(&server);
    for _ in 0..20 {
        let mut boaster = server.connect();
        boaster.write_all(&(1_u64 << 42).to_be_bytes()).unwrap();
        boaster.write_all(&pattern(1000)).unwrap();
        say(&mut client, b"x");
        assert_eq!(hear(&mut client), b"x");
    }
    assert!(memory(&server) < before + 16 * 1024 * 1024, "for an announced 80 TiB");
}

#[test]
fn a_small_frame_does_not_wait_until_the_one_before_it_is_acknowledged() {
    use rustix::net::sockopt::set_tcp_quickack;
    const ROUNDS: usize = 40;
    let server = start(&[]);
    let mut clients = enter_all(&server, 2);
    let (listener, speaker) = clients.split_at_mut(1);
    let (listener, speaker) = (&mut listener[0], &mut speaker[0]);
    let mut batch = || {
        let mut gaps: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                // From now on the kernel delays acknowledgements, as it does in a conversation; the
                // client sends nothing that could carry an acknowledgement.
                set_tcp_quickack(&*listener, false).unwrap();
                for payload in [b"first", b"other"] {
                    say(speaker, payload);
                    assert_eq!(hear(speaker), payload);
                    if payload == b"first" {
                        assert_eq!(hear(listener), payload);
                    }
                }
                let since = Instant::now();
                assert_eq!(hear(listener), b"other");
                since.elapsed()
            })
            .collect();
        gaps.sort();
        gaps
    };
    // With the bug nearly all would take 40 ms; a loaded machine delays some, or a whole batch.
    wait_until("a quarter of a batch to take less than 20 ms", || {
        batch()[ROUNDS / 4] < Duration::from_millis(20)
    });
}

#[test]
fn a_frame_longer_than_the_send_queue_goes_to_every_client() {
    let server = start(&["--max-send-queue", "64KiB"]);
    let mut clients = enter_all(&server, 3);
    let payload = pattern(5 * 1024 * 1024);
    let wire = frame(&payload);
    for _ in 0..3 {
        let mut sender = clients[0].try_clone().unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| sender.write_all(&wire).unwrap());
            for client in &mut clients {
                assert!(hear(client) == payload);
            }
        });
    }
}

#[test]
fn a_round_trip_does_not_wait_for_a_delayed_acknowledgement() {
    let server = start(&[]);
    let mut clients = enter_all(&server, 2);
    let mut batch = || {
        let mut trips: Vec<Duration> = (0..200_u32)
            .map(|n| {
                let since = Instant::now();
                say(&mut clients[0], &n.to_be_bytes());
                assert_eq!(hear(&mut clients[0]), n.to_be_bytes());
                let trip = since.elapsed();
                assert_eq!(hear(&mut clients[1]), n.to_be_bytes());
                trip
            })
            .collect();
        trips.sort();
        trips
    };
    // With the bug each would take 44 ms; it takes about 0.1 ms, and longer on a loaded machine.
    wait_until("half of a batch to take less than 20 ms", || {
        batch()[100] < Duration::from_millis(20)
    });
}

#[test]
fn custody_shows_both_halves_of_a_connection_and_their_owners() {
    let mut server = start(&["--log-format", "json"]);
    let client = enter(&server);
    let name = client.local_addr().unwrap().to_string();
    server.signal(Signal::USR1);
    let line = server.wait_for_line("\"declared\":");
    let table: Value = serde_json::from_str(&line).unwrap();
    let of_client = |resource: &&Value| resource["peer"] == name.as_str();
    let halves: Vec<&Value> =
        table["resources"].as_array().unwrap().iter().filter(of_client).collect();
    assert_eq!(halves.len(), 2, "{table:#}");
    assert_eq!(halves[0]["number"], halves[1]["number"], "one socket");
    assert_eq!(halves[0]["half_of"], halves[1]["half_of"]);
    let owners: Vec<&str> =
        halves.iter().map(|half| half["owner"]["name"].as_str().unwrap()).collect();
    let mut expected = [format!("broadcast {name}"), format!("writer of {name}")];
    expected.sort();
    let mut owners_sorted = owners.clone();
    owners_sorted.sort_unstable();
    assert_eq!(owners_sorted, expected, "{table:#}");
}

/// Whether the server has closed its end of a client's connection.
fn is_gone(server: &Server, client: &TcpStream) -> bool {
    !server.end_of(client).is_some_and(|end| end.is_established)
}
