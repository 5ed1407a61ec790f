//! Broadcast: every client receives every frame; and the bugs of mob, the reference server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::server::{DEADLINE, Server, TcpEnd, pattern, summary};
use crate::common::{wait_for, wait_until};

/// A payload as it stands on the wire. Not the program's own code: that is what is tested.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut wire = (payload.len() as u64).to_be_bytes().to_vec();
    wire.extend_from_slice(payload);
    wire
}

/// The payload of the next frame.
pub fn try_hear(client: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    client.read_exact(&mut length)?;
    let mut payload = vec![0; usize::try_from(u64::from_be_bytes(length)).expect("a sane length")];
    client.read_exact(&mut payload)?;
    Ok(payload)
}

fn hear(client: &mut TcpStream) -> Vec<u8> {
    try_hear(client).expect("a frame comes")
}

fn say(client: &mut TcpStream, payload: &[u8]) {
    client.write_all(&frame(payload)).expect("the server reads");
}

/// Whether the server has let go of a client: with FIN, or with a reset.
fn is_let_go(client: &mut TcpStream) -> bool {
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

/// A client that was heard: from here on it hears everything.
fn enter(server: &Server) -> TcpStream {
    let mut client = server.connect();
    client.set_nodelay(true).expect("it is TCP");
    let name = format!("entering from {}", client.local_addr().expect("it is connected"));
    say(&mut client, name.as_bytes());
    while hear(&mut client) != name.as_bytes() {}
    client
}

/// Several clients, all of whom have heard all of them enter.
fn enter_all(server: &Server, clients: usize) -> Vec<TcpStream> {
    let mut inside: Vec<TcpStream> = (0..clients).map(|_| enter(server)).collect();
    for (place, client) in inside.iter_mut().enumerate() {
        for _ in place + 1..clients {
            hear(client);
        }
    }
    inside
}

/// A client whose system takes next to nothing while it does not read.
fn with_small_ears(server: &Server) -> TcpStream {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    // Not for the servers that other tests start meanwhile.
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

/// A client that sends more than all buffers of both systems can take back, and reads none of it.
/// For a server whose outboxes have room for it.
pub fn never_reads(server: &Server) -> TcpStream {
    const MEBIBYTES: usize = 32;
    let mut greedy = with_small_ears(server);
    let mebibyte = frame(&pattern(1024 * 1024));
    for _ in 0..MEBIBYTES {
        greedy.write_all(&mebibyte).expect("the server reads, whoever else does");
    }
    greedy
}

/// Resident memory of the server, in bytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// What the server counted in all: the number in front of a word of its last log line.
fn total(lines: &[String], what: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains("broadcast: ")).expect("it says so");
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
fn a_frame_length_in_pieces_is_read_as_one() {
    let server = start(&[]);
    let mut clients = enter_all(&server, 2);
    for cut in 1..8 {
        let wire = frame(b"after a split header");
        clients[0].write_all(&wire[..cut]).unwrap();
        // The other one's exchange shows that the server has seen the first piece, or could have.
        say(&mut clients[1], b"meanwhile");
        assert_eq!(hear(&mut clients[1]), b"meanwhile");
        clients[0].write_all(&wire[cut..]).unwrap();
        assert_eq!(hear(&mut clients[1]), b"after a split header");
        assert_eq!(hear(&mut clients[0]), b"meanwhile");
        assert_eq!(hear(&mut clients[0]), b"after a split header");
    }
}

#[test]
fn a_payload_in_pieces_is_one_frame_and_joined_frames_are_several() {
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
        assert_eq!(
            hear(&mut client),
            pattern(n),
            "frame {n}, the first of which is one of nothing"
        );
    }
}

#[test]
fn an_absurd_length_closes_its_connection_with_a_reason_and_no_other() {
    for (length, reason) in [
        (u64::MAX, "actually 18446744073709551615 are announced (--max-frame)"),
        (1 << 40, "actually 1099511627776 are announced (--max-frame)"),
        (16 * 1024 * 1024 + 1, "expected a frame of at most 16777216 bytes"),
    ] {
        let mut server = start(&[]);
        let mut innocent = enter(&server);
        let before = memory(&server);
        let mut absurd = server.connect();
        absurd.write_all(&length.to_be_bytes()).unwrap();
        assert!(is_let_go(&mut absurd), "{length}");
        let line = server.wait_for_line("is closed: ");
        let name = absurd.local_addr().unwrap().to_string();
        assert!(line.contains(&name) && line.contains(reason), "{line}");
        assert!(memory(&server) < before + 8 * 1024 * 1024, "nothing was reserved for it");
        say(&mut innocent, b"still here");
        assert_eq!(hear(&mut innocent), b"still here");
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn memory_is_taken_for_received_bytes_and_not_for_an_announced_length() {
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
    assert!(memory(&server) < before + 16 * 1024 * 1024, "for 80 TiB that were announced");
}

#[test]
fn a_slow_reader_is_bounded_and_disconnected_and_delays_no_other() {
    let mut server = start(&["--max-outbox", "1MiB", "--write-timeout", "1h"]);
    let mut slow = with_small_ears(&server);
    say(&mut slow, b"I am in");
    hear(&mut slow);
    let mut quick = enter(&server);
    let before = memory(&server);
    let payload = pattern(64 * 1024);
    wait_until("it to be too slow", || {
        // Whoever reads hears each at once, whatever waits for the other client.
        say(&mut quick, &payload);
        assert!(hear(&mut quick) == payload);
        server.lines().iter().any(|line| line.contains("reads too slowly"))
    });
    assert!(memory(&server) < before + 16 * 1024 * 1024, "what waits is bounded");
    let name = slow.local_addr().unwrap().to_string();
    assert!(server.seen.iter().any(|line| line.contains(&format!("{name} is disconnected"))));
    // Without its having to read, speak, or wait for a timeout.
    server.wait_for("it to be let go", |server| is_gone(server, &slow));
    assert!(is_let_go(&mut slow));
    say(&mut quick, b"goes on");
    assert_eq!(hear(&mut quick), b"goes on");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(total(&lines, "disconnected"), 1, "{lines:#?}");
}

#[test]
fn queued_empty_frames_are_bounded_by_their_memory_and_not_by_their_bytes() {
    const OUTBOX_BYTES: u64 = 4 * 1024 * 1024;
    /// At a time: both kinds of waiting, the quick client's too, stay small beside the outbox.
    const CHUNK_FRAMES: usize = 4096;
    let mut server = start(&["--max-outbox", "4MiB", "--write-timeout", "1h"]);
    let mut slow = with_small_ears(&server);
    say(&mut slow, b"I am in");
    hear(&mut slow);
    let mut quick = enter(&server);
    let (before, mut most) = (memory(&server), 0);
    let chunk = frame(b"").repeat(CHUNK_FRAMES);
    let mut heard = vec![0; chunk.len()];
    wait_until("it to be too slow", || {
        quick.write_all(&chunk).unwrap();
        quick.read_exact(&mut heard).unwrap();
        most = most.max(memory(&server));
        server.lines().iter().any(|line| line.contains("reads too slowly"))
    });
    // As much again for what the allocator does not give back. By the wire alone it would be 48 MiB.
    let more = most.saturating_sub(before);
    assert!(more < 2 * OUTBOX_BYTES, "{more} bytes for an outbox of {OUTBOX_BYTES}");
}

#[test]
fn a_frame_queued_for_many_clients_is_stored_once() {
    const SLOW: usize = 8;
    const FRAME_BYTES: usize = 16 * 1024 * 1024;
    let server = start(&["--max-outbox", "64MiB", "--write-timeout", "1h"]);
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| with_small_ears(&server)).collect();
    for client in &mut slow {
        say(client, b"I am in");
        hear(client);
    }
    let mut quick = enter(&server);
    let before = memory(&server);
    let mut speaking = quick.try_clone().unwrap();
    let wire = frame(&pattern(FRAME_BYTES));
    std::thread::scope(|threads| {
        threads.spawn(|| speaking.write_all(&wire).unwrap());
        // Once it has come back it waits for all the others: next to nothing of it fits into sockets.
        // What the last of the slow ones has said may come before it.
        while hear(&mut quick).len() != FRAME_BYTES {}
    });
    // Once, and once more for a buffer that was moved as it grew. A copy for each would be nine.
    let more = memory(&server).saturating_sub(before);
    assert!(more > FRAME_BYTES as u64 / 2, "it waits: {more} bytes");
    assert!(more < 2 * FRAME_BYTES as u64, "{more} bytes for a frame of {FRAME_BYTES}");
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
                // From here on it acknowledges late, as it does of itself in a conversation; it has
                // nothing to say that could take an acknowledgement along.
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
    // With the fault nearly all would be 40 ms; a loaded machine delays some, or a whole batch.
    wait_until("a quarter of a batch to take less than 20 ms", || {
        batch()[ROUNDS / 4] < Duration::from_millis(20)
    });
}

#[test]
fn a_slow_reader_that_loses_its_oldest_frames_receives_the_newest_in_order() {
    let server = start(&["--max-outbox", "1MiB", "--slow-reader", "drop-oldest"]);
    let mut slow = with_small_ears(&server);
    say(&mut slow, b"I am in");
    hear(&mut slow);
    let mut quick = enter(&server);
    hear(&mut slow);
    const FRAMES: u64 = 400;
    let numbered = |n: u64| [n.to_be_bytes().to_vec(), pattern(64 * 1024)].concat();
    for n in 0..FRAMES {
        say(&mut quick, &numbered(n));
        assert!(hear(&mut quick) == numbered(n));
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&(FRAMES - 1)) {
        let payload = hear(&mut slow);
        let n = u64::from_be_bytes(payload[..8].try_into().unwrap());
        assert!(payload == numbered(n), "whole frames only");
        heard.push(n);
    }
    assert!(heard.is_sorted_by(|a, b| a < b), "in order: {heard:?}");
    assert!(heard.len() < FRAMES as usize, "26 MiB do not fit into one");
    let (_, lines) = server.stop();
    assert_eq!(total(&lines, "frames dropped"), FRAMES - heard.len() as u64, "{lines:#?}");
    assert_eq!(total(&lines, "disconnected"), 0, "{lines:#?}");
}

#[test]
fn a_slow_reader_is_drained_without_having_to_speak() {
    let server = start(&["--max-outbox", "64MiB"]);
    let mut slow = with_small_ears(&server);
    say(&mut slow, b"I am in");
    hear(&mut slow);
    let mut quick = enter(&server);
    hear(&mut slow);
    let payload = pattern(256 * 1024);
    for _ in 0..64 {
        say(&mut quick, &payload);
        assert!(hear(&mut quick) == payload);
    }
    // It only reads: 16 MiB, of which its own system has room for next to nothing.
    for n in 0..64 {
        assert!(hear(&mut slow) == payload, "frame {n}");
    }
}

#[test]
fn a_frame_longer_than_the_send_queue_goes_to_every_client() {
    let server = start(&["--max-outbox", "64KiB"]);
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
fn a_reset_of_one_client_disconnects_no_other_and_loses_no_frame() {
    let server = start(&[]);
    let mut innocent = enter_all(&server, 3);
    for round in 0..50_u32 {
        let victims: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
        for victim in victims {
            rustix::net::sockopt::set_socket_linger(&victim, Some(Duration::ZERO)).unwrap();
        }
        say(&mut innocent[0], &round.to_be_bytes());
        for client in &mut innocent {
            assert_eq!(hear(client), round.to_be_bytes());
        }
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(summary(&lines, "panics"), 0, "{lines:#?}");
}

/// Frames that a client says before it closes. Together they fit into a first receive window, and are
/// more than the server reads at a time.
const LAST_FRAMES: u32 = 1000;

fn last_frame(n: u32) -> Vec<u8> {
    [&n.to_be_bytes()[..], &[b'.'; 40]].concat()
}

fn said_at_last() -> Vec<u8> {
    (0..LAST_FRAMES).flat_map(|n| frame(&last_frame(n))).collect()
}

/// A client that has said its last frames and has closed with something unread, which resets the
/// connection, all of it while the server was stopped. When the server goes on, every frame has
/// arrived, and so has the reset.
fn says_and_slams(server: &Server, listener: &mut TcpStream) {
    let mut slammer = enter(server);
    while !hear(listener).starts_with(b"entering") {}
    say(listener, b"this is not read");
    assert_eq!(hear(listener), b"this is not read");
    let ends = (slammer.local_addr().unwrap(), slammer.peer_addr().unwrap());
    // The kernel's table may miss a row while other rows come and go.
    let end = || TcpEnd::find(ends.0, ends.1);
    server.wait_for("it to be there", |_| end().is_some_and(|end| end.unread > 0));
    server.hold();
    slammer.write_all(&said_at_last()).unwrap();
    server.wait_for("all to arrive", |_| end().is_some_and(|end| end.unsent == 0));
}

#[test]
fn frames_sent_before_a_close_with_unread_data_reach_all_others() {
    let mut server = start(&[]);
    let mut listener = enter(&server);
    for round in 0..10 {
        says_and_slams(&server, &mut listener);
        server.signal(Signal::CONT);
        for n in 0..LAST_FRAMES {
            assert_eq!(hear(&mut listener), last_frame(n), "round {round}");
        }
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(total(&server.seen, "disconnected"), 0);
    assert_eq!(summary(&server.seen, "errors"), 10, "{:#?}", server.seen);
}

#[test]
fn frames_sent_before_a_close_with_unread_data_reach_all_others_in_a_drain() {
    for round in 0..5 {
        let mut server = start(&[]);
        let mut listener = enter(&server);
        says_and_slams(&server, &mut listener);
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        for n in 0..LAST_FRAMES {
            let heard = try_hear(&mut listener);
            assert_eq!(heard.expect("not the end yet"), last_frame(n), "round {round}");
        }
        assert!(is_let_go(&mut listener));
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn frames_sent_before_a_unix_socket_closes_with_unread_data_reach_all_others() {
    use std::os::unix::net::UnixStream;
    let path = std::env::temp_dir().join(format!("echown-{}-slam.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let mut server = start(&["--listen", &unix]);
    server.wait_for_line("listening on unix:");
    let mut listener = enter(&server);
    for round in 0..10 {
        let mut slammer = UnixStream::connect(&path).unwrap();
        slammer.write_all(&frame(b"I am in, and do not read that")).unwrap();
        assert!(hear(&mut listener).starts_with(b"I am in"));
        server.hold();
        slammer.write_all(&said_at_last()).unwrap();
        drop(slammer);
        server.signal(Signal::CONT);
        for n in 0..LAST_FRAMES {
            assert_eq!(hear(&mut listener), last_frame(n), "round {round}");
        }
    }
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn clients_that_are_refused_leave_the_places_free_for_later_ones() {
    let server = start(&["--max-connections", "3"]);
    let mut inside = enter_all(&server, 3);
    for _ in 0..5 {
        let mut outside = server.connect();
        assert!(is_let_go(&mut outside), "refused at once, and not left waiting");
    }
    drop(inside.pop());
    // As soon as the one that left is gone, the next one is as good as any.
    let mut later = wait_for("a place for a new client", || {
        let mut client = server.connect();
        say(&mut client, b"later");
        try_hear(&mut client).is_ok().then_some(client)
    });
    say(&mut later, b"heard by all");
    for client in &mut inside {
        while hear(client) != b"heard by all" {}
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
    // With the fault each would take 44 ms; it takes about 0.1 ms, and longer on a loaded machine.
    wait_until("half of a batch to take less than 20 ms", || {
        batch()[100] < Duration::from_millis(20)
    });
}

#[test]
fn custody_shows_two_halves_of_a_connection_and_two_owners() {
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

#[test]
fn a_lookup_of_a_client_that_has_left_is_only_counted() {
    let mut server = start(&["--max-outbox", "64KiB"]);
    let mut quick = enter(&server);
    let much = pattern(64 * 1024);
    for n in 1..=3 {
        let mut slow = with_small_ears(&server);
        say(&mut slow, b"I am in");
        hear(&mut slow);
        // Who publishes takes it out; the writer that then gives up, and the reader, come second.
        while !is_gone(&server, &slow) {
            // Looking takes longer than saying.
            for _ in 0..16 {
                say(&mut quick, &much);
                while hear(&mut quick).len() < much.len() {}
            }
        }
        // A newcomer in its slot is not taken for it.
        let mut newcomer = enter(&server);
        say(&mut newcomer, b"I stay");
        assert_eq!(hear(&mut newcomer), b"I stay", "round {n}");
        while hear(&mut quick) != b"I stay" {}
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(total(&server.seen, "look-up") >= 3, "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "panics"), 0);
}

/// Whether the server has closed its end of a client's connection.
fn is_gone(server: &Server, client: &TcpStream) -> bool {
    !server.end_of(client).is_some_and(|end| end.is_established)
}

#[test]
fn a_half_closed_client_gets_what_was_sent_to_it_before_and_then_the_end() {
    let server = start(&["--max-outbox", "64MiB"]);
    let mut listener = with_small_ears(&server);
    say(&mut listener, b"I am in");
    hear(&mut listener);
    let mut talker = enter(&server);
    hear(&mut listener);
    let payload = pattern(1024 * 1024);
    for _ in 0..16 {
        say(&mut talker, &payload);
        assert!(hear(&mut talker) == payload);
    }
    listener.shutdown(Shutdown::Write).unwrap();
    for n in 0..16 {
        assert!(hear(&mut listener) == payload, "frame {n}");
    }
    let mut rest = Vec::new();
    listener.read_to_end(&mut rest).expect("FIN, not a reset");
    assert!(rest.is_empty());
    say(&mut talker, b"goes on");
    assert_eq!(hear(&mut talker), b"goes on");
}

#[test]
fn a_client_that_reads_nothing_for_too_long_is_cut_below_the_size_limit() {
    let mut server = start(&["--max-outbox", "64MiB", "--write-timeout", "200ms"]);
    let mut deaf = with_small_ears(&server);
    let mebibyte = frame(&pattern(1024 * 1024));
    // More than fits on the way; the cut may come before all of it is said.
    let _ = (0..32).try_for_each(|_| deaf.write_all(&mebibyte));
    server.wait_for("it to be let go", |server| is_gone(server, &deaf));
    assert!(is_let_go(&mut deaf));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(total(&server.seen, "disconnected"), 0, "it was time that ran out");
    assert_eq!(summary(&server.seen, "error"), 1);
}

#[test]
fn frames_under_way_at_sigterm_reach_every_client_before_the_end() {
    wait_until("the rest of each frame to be sent within a second", || {
        drain_with_frames_under_way()
    });
}

/// False if half a frame was left alone for as long as a drain waits for its other half.
fn drain_with_frames_under_way() -> bool {
    const TALKERS: usize = 8;
    /// What is left fits into any receive window: a drained socket announces no new room.
    const BEGUN: usize = 10_000;
    let mut server = start(&["--drain-timeout", "20s", "--max-outbox", "64MiB"]);
    // One of them has nothing to say, and hears it all the same.
    let clients = enter_all(&server, TALKERS + 1);
    let payload = |n: usize| [n.to_be_bytes().to_vec(), pattern(32 * 1024)].concat();
    let mut talkers: Vec<TcpStream> =
        clients[..TALKERS].iter().map(|client| client.try_clone().unwrap()).collect();
    let hearing: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                client.read_to_end(&mut all).expect("FIN, not a reset");
                all
            })
        })
        .collect();
    let begun = Instant::now();
    for (n, talker) in talkers.iter_mut().enumerate() {
        talker.write_all(&frame(&payload(n))[..BEGUN]).unwrap();
    }
    server.signal(Signal::TERM);
    server.wait_for("the drain", |server| TcpStream::connect(server.address()).is_err());
    for (n, talker) in talkers.iter_mut().enumerate() {
        // Refused where it comes too late.
        let _ = talker.write_all(&frame(&payload(n))[BEGUN..]);
    }
    let in_time = begun.elapsed() < Duration::from_millis(700);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let heard: Vec<_> = hearing.into_iter().map(std::thread::JoinHandle::join).collect();
    if !in_time {
        return false;
    }
    let heard: Vec<Vec<u8>> = heard.into_iter().map(Result::unwrap).collect();
    let order = |mut rest: &[u8]| {
        let mut order: Vec<usize> = Vec::new();
        while !rest.is_empty() {
            let got = try_hear(&mut rest).expect("whole frames, and then the end");
            let n = usize::from_be_bytes(got[..8].try_into().unwrap());
            assert!(got == payload(n));
            order.push(n);
        }
        order
    };
    let orders: Vec<Vec<usize>> = heard.iter().map(|all| order(all)).collect();
    let mut sorted = orders[0].clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..TALKERS).collect::<Vec<_>>(), "each was begun, and none is lost");
    for other in &orders {
        assert_eq!(*other, orders[0], "all of them hear the same: {:#?}", server.seen);
    }
    true
}

#[test]
fn a_client_that_keeps_sending_does_not_delay_the_drain() {
    let mut server = start(&["--drain-timeout", "1h", "--max-outbox", "1GiB"]);
    let mut clients = enter_all(&server, 2);
    let mut flooding = clients[0].try_clone().unwrap();
    // Until its connection ends, and nobody else's patience.
    let flood = std::thread::spawn(move || {
        let wire = frame(&pattern(50_000));
        while flooding.write_all(&wire).is_ok() {}
    });
    let listening: Vec<_> = clients
        .drain(..)
        .map(|mut client| std::thread::spawn(move || is_let_go(&mut client)))
        .collect();
    server.signal(Signal::TERM);
    // Well before its timeout of an hour.
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "cancelled"), 0, "{:#?}", server.seen);
    flood.join().unwrap();
    for thread in listening {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_thousand_clients_each_hear_every_one_of_a_thousand_frames_in_the_same_order() {
    const CROWD: usize = 1000;
    let server = start(&[]);
    let mut clients = vec![enter(&server)];
    let threads = server.threads();
    clients.extend((1..CROWD).map(|_| server.connect()));
    // Who has a writer has a place.
    server.wait_for("all to be inside", |server| server.threads() >= threads + 2 * (CROWD - 1));
    let payload = |n: usize| [n.to_be_bytes(), (!n).to_be_bytes()].concat();
    std::thread::scope(|threads| {
        // Several at a time, so that there is an order to agree on.
        for (part, clients) in clients.chunks_mut(CROWD.div_ceil(8)).enumerate() {
            threads.spawn(move || {
                for (n, client) in clients.iter_mut().enumerate() {
                    say(client, &payload(part * CROWD.div_ceil(8) + n));
                }
            });
        }
    });
    let mut first: Option<Vec<u8>> = None;
    for client in &mut clients {
        let mut heard = vec![0; CROWD * 24];
        client.read_exact(&mut heard).expect("every frame comes");
        let first = first.get_or_insert_with(|| heard.clone());
        assert!(heard == *first, "one order");
    }
    let heard = first.unwrap();
    let mut numbers: Vec<usize> = heard
        .chunks(24)
        .map(|wire| usize::from_be_bytes(wire[8..16].try_into().unwrap()))
        .collect();
    for (wire, &n) in heard.chunks(24).zip(&numbers) {
        assert_eq!(wire, frame(&payload(n)));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..CROWD).collect::<Vec<_>>(), "every frame, once");
    drop(clients);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(total(&lines, "out"), (CROWD * CROWD + 1) as u64, "{lines:#?}");
    assert_eq!(total(&lines, "disconnected"), 0);
}

/// One client under chaos: sends a few frames, and waits for each of its own. True when all of them
/// came, and then the end.
fn converse(address: SocketAddr, who: u64) -> bool {
    let mut client = TcpStream::connect(address).expect("the server accepts");
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    for n in 0..10_u64 {
        let mine = [who.to_be_bytes(), n.to_be_bytes()].concat();
        if client.write_all(&frame(&mine)).is_err() {
            assert!(n > 0, "whoever is struck is answered first");
            return false;
        }
        loop {
            let Ok(heard) = try_hear(&mut client) else {
                assert!(n > 0, "whoever is struck is answered first");
                return false;
            };
            assert_eq!(heard.len(), 16, "what nobody has said");
            if heard == mine {
                break;
            }
        }
    }
    client.shutdown(Shutdown::Write).is_ok() && client.read_to_end(&mut Vec::new()).is_ok()
}

#[test]
fn under_chaos_what_was_injected_is_reported_and_no_other_client_is_affected() {
    const CLIENTS: u64 = 600;
    let path = std::env::temp_dir().join(format!("echown-{}-broadcast.json", std::process::id()));
    let plan = "panic=0.08,leak=0.08,foreign-write=0.08,cycle=0.08,double-release=0.08,fd-replaced=0.08,finalizer-panic=0.08";
    let path_text = path.to_str().unwrap();
    let arguments = ["--chaos", plan, "--chaos-seed", "1", "--summary", path_text];
    let server =
        start(&[&arguments[..], &["--report", "json", "--report-file", "/dev/null"]].concat());
    let before = server.open_descriptors();
    let next = std::sync::atomic::AtomicU64::new(0);
    let address = server.address();
    let cut: u64 = std::thread::scope(|threads| {
        let converse_some = || {
            let draw = || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mine = std::iter::from_fn(|| Some(draw()).filter(|&who| who < CLIENTS));
            mine.filter(|&who| !converse(address, who)).count() as u64
        };
        let threads: Vec<_> = (0..16).map(|_| threads.spawn(converse_some)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client's claim")).sum()
    });
    server.wait_for_descriptors(|open| open == before);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    let summary: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(summary["injected"], summary["reported"], "{lines:#?}");
    let injected = |kind: &str| summary["injected"][kind.replace('-', "_")].as_u64().unwrap();
    let all: u64 = summary["injected"].as_object().unwrap().keys().map(|kind| injected(kind)).sum();
    assert!(all > 200, "{summary}");
    assert_eq!(cut, all - injected("foreign-write"), "who was struck, and nobody else: {summary}");
}
