//! Clients that read slowly or not at all: their queues are bounded, and other clients are not
//! delayed.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use super::super::server::{pattern, summary};
use super::{
    enter, frame, hear, is_closed_by_server, is_gone, memory, say, start, total,
    with_a_small_receive_buffer,
};
use crate::common::wait_until;

#[test]
fn the_queue_of_a_slow_reader_is_bounded_and_others_are_not_delayed() {
    let mut server = start(&["--max-send-queue", "1MiB", "--write-timeout", "1h"]);
    let mut slow = with_a_small_receive_buffer(&server);
    say(&mut slow, b"I am in");
    hear(&mut slow);
    let mut quick = enter(&server);
    let before = memory(&server);
    let payload = pattern(64 * 1024);
    wait_until("it to be too slow", || {
        // The client that reads receives each frame immediately, whatever is queued for the other
        // one.
        say(&mut quick, &payload);
        assert!(hear(&mut quick) == payload);
        server.lines().iter().any(|line| line.contains("slow reader"))
    });
    assert!(memory(&server) < before + 16 * 1024 * 1024, "the queue is bounded");
    let name = slow.local_addr().unwrap().to_string();
    assert!(server.seen.iter().any(|line| line.contains(&format!("{name} disconnected"))));
    // Without having to read, send, or wait for a timeout.
    server.wait_for("it to be let go", |server| is_gone(server, &slow));
    assert!(is_closed_by_server(&mut slow));
    say(&mut quick, b"goes on");
    assert_eq!(hear(&mut quick), b"goes on");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(total(&lines, "disconnected"), 1, "{lines:#?}");
}

#[test]
fn queued_empty_frames_are_bounded_by_their_memory() {
    const OUTBOX_BYTES: u64 = 4 * 1024 * 1024;
    /// At a time: the frames in flight to both clients stay small compared with the send queue.
    const CHUNK_FRAMES: usize = 4096;
    let mut server = start(&["--max-send-queue", "4MiB", "--write-timeout", "1h"]);
    let mut slow = with_a_small_receive_buffer(&server);
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
        server.lines().iter().any(|line| line.contains("slow reader"))
    });
    // As much again for memory that the allocator keeps. Counted by payload it would be 48 MiB.
    let more = most.saturating_sub(before);
    assert!(more < 2 * OUTBOX_BYTES, "{more} bytes for an outbox of {OUTBOX_BYTES}");
}

#[test]
fn a_frame_queued_for_many_clients_is_stored_once() {
    const SLOW: usize = 8;
    const FRAME_BYTES: usize = 16 * 1024 * 1024;
    let server = start(&["--max-send-queue", "64MiB", "--write-timeout", "1h"]);
    let mut slow: Vec<TcpStream> =
        (0..SLOW).map(|_| with_a_small_receive_buffer(&server)).collect();
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
        // Once it is echoed it is queued for all the others: almost nothing of it fits into
        // sockets. Frames of the last slow client may arrive before it.
        while hear(&mut quick).len() != FRAME_BYTES {}
    });
    // One copy, and one more for a buffer that was moved as it grew. A copy per client would be
    // nine.
    let more = memory(&server).saturating_sub(before);
    assert!(more > FRAME_BYTES as u64 / 2, "the frame is queued: {more} bytes");
    assert!(more < 2 * FRAME_BYTES as u64, "{more} bytes for a frame of {FRAME_BYTES}");
}

#[test]
fn under_drop_oldest_a_slow_reader_receives_the_newest_frames_in_order() {
    let server = start(&["--max-send-queue", "1MiB", "--slow-reader", "drop-oldest"]);
    let mut slow = with_a_small_receive_buffer(&server);
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
        assert!(payload == numbered(n), "only complete frames");
        heard.push(n);
    }
    assert!(heard.is_sorted_by(|a, b| a < b), "in order: {heard:?}");
    assert!(heard.len() < FRAMES as usize, "26 MiB do not fit into one queue");
    let (_, lines) = server.stop();
    assert_eq!(total(&lines, "frames dropped"), FRAMES - heard.len() as u64, "{lines:#?}");
    assert_eq!(total(&lines, "disconnected"), 0, "{lines:#?}");
}

#[test]
fn a_slow_reader_is_drained_although_it_sends_nothing() {
    let server = start(&["--max-send-queue", "64MiB"]);
    let mut slow = with_a_small_receive_buffer(&server);
    say(&mut slow, b"I am in");
    hear(&mut slow);
    let mut quick = enter(&server);
    hear(&mut slow);
    let payload = pattern(256 * 1024);
    for _ in 0..64 {
        say(&mut quick, &payload);
        assert!(hear(&mut quick) == payload);
    }
    // It only reads: 16 MiB, of which its receive buffer holds almost nothing.
    for n in 0..64 {
        assert!(hear(&mut slow) == payload, "frame {n}");
    }
}

#[test]
fn a_lookup_of_a_client_that_has_left_is_only_counted() {
    let mut server = start(&["--max-send-queue", "64KiB"]);
    let mut quick = enter(&server);
    let much = pattern(64 * 1024);
    for n in 1..=3 {
        let mut slow = with_a_small_receive_buffer(&server);
        say(&mut slow, b"I am in");
        hear(&mut slow);
        // The publisher removes it first; its writer, which then fails, and its reader come second.
        while !is_gone(&server, &slow) {
            // The check takes longer than the send.
            for _ in 0..16 {
                say(&mut quick, &much);
                while hear(&mut quick).len() < much.len() {}
            }
        }
        // A new client in its slot is not mistaken for it.
        let mut new_file = enter(&server);
        say(&mut new_file, b"I stay");
        assert_eq!(hear(&mut new_file), b"I stay", "round {n}");
        while hear(&mut quick) != b"I stay" {}
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(total(&server.seen, "look-up") >= 3, "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "panics"), 0);
}

#[test]
fn a_client_that_does_not_read_times_out_below_the_size_limit() {
    let mut server = start(&["--max-send-queue", "64MiB", "--write-timeout", "200ms"]);
    let mut deaf = with_a_small_receive_buffer(&server);
    let mebibyte = frame(&pattern(1024 * 1024));
    // More than fits into the buffers; the disconnect may come before all of it is sent.
    let _ = (0..32).try_for_each(|_| deaf.write_all(&mebibyte));
    server.wait_for("it to be let go", |server| is_gone(server, &deaf));
    assert!(is_closed_by_server(&mut deaf));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(total(&server.seen, "disconnected"), 0, "the timeout was the reason");
    assert_eq!(summary(&server.seen, "error"), 1);
}
