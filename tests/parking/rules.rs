//! Each rule of parking alone, with the order of events forced by the handler.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use echown::echo::{EndReason, Turn};

use super::clients::{Client, bytes};
use super::running::{block, second_descriptor, server_end, start};
use crate::common::{stall, wait_until};

/// Long enough that another worker takes an event meanwhile. If it does not, a test may miss an error, and
/// reports none that is not there.
const A_WHILE: Duration = Duration::from_millis(20);

fn same(_: &[u8], turn: Turn) -> Turn {
    turn
}

/// Whether an epoll instance of this process has this file registered, by its inode.
fn is_registered(inode: u64) -> bool {
    let wanted = format!("ino:{inode:x} ");
    let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    // A descriptor that was closed meanwhile has no file any more.
    let texts = infos.filter_map(|info| std::fs::read_to_string(info.ok()?.path()).ok());
    texts.into_iter().any(|text| text.lines().any(|line| line.contains(&wanted)))
}

fn inode_of(file: impl AsFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

#[test]
fn input_and_its_end_in_one_segment_are_echoed_and_ended() {
    let server = start(1, |_| {}, same);
    for number in 0..100_u8 {
        let mut client = Client::connect(server.address).unwrap();
        client.send_and_finish_at_once(&[number; 10]).unwrap();
        client.expect(&[number; 10]).unwrap();
        client.expect_end().unwrap();
    }
    assert_eq!(server.drain().ends(EndReason::Finished), 100);
}

#[test]
fn input_after_the_last_read_and_before_the_park_is_echoed() {
    let has_sent = Arc::new(AtomicBool::new(false));
    let sent = Arc::clone(&has_sent);
    let server = start(
        2,
        |_| {},
        move |received, turn| {
            if received.starts_with(b"wait") {
                wait_until("the next message", || sent.load(Ordering::SeqCst));
                stall(A_WHILE);
            }
            turn
        },
    );
    let mut client = Client::connect(server.address).unwrap();
    for _ in 0..10 {
        has_sent.store(false, Ordering::SeqCst);
        client.round_trip(b"wait").unwrap();
        client.send(b"more").unwrap();
        has_sent.store(true, Ordering::SeqCst);
        client.expect(b"more").unwrap();
    }
    client.finish().unwrap();
    server.drain();
}

#[test]
fn a_client_that_always_has_input_does_not_keep_another_one_waiting() {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let is_busy = Arc::new(AtomicBool::new(false));
    let busy = Arc::clone(&is_busy);
    let server = start(
        1,
        |_| {},
        move |received, turn| {
            if received.starts_with(b"busy") {
                busy.store(true, Ordering::SeqCst);
            }
            let goes_on = busy.load(Ordering::SeqCst) && !over.load(Ordering::SeqCst);
            if goes_on && turn == Turn::Drained { Turn::More } else { turn }
        },
    );
    let mut busy = Client::connect(server.address).unwrap();
    busy.round_trip(b"busy").unwrap();
    let mut other = Client::connect(server.address).unwrap();
    other.round_trip(b"hello").unwrap();
    is_over.store(true, Ordering::SeqCst);
    busy.round_trip(b"well").unwrap();
    busy.finish().unwrap();
    other.finish().unwrap();
    server.drain();
}

#[test]
fn a_connection_leaves_the_epoll_instance_before_it_is_closed() {
    for workers in [1, 2] {
        let server = start(workers, |_| {}, same);
        let mut client = Client::connect(server.address).unwrap();
        client.round_trip(b"hello").unwrap();
        let second = second_descriptor(&server, &client);
        let inode = inode_of(&second);
        assert!(is_registered(inode), "it waits for input");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        // The file is open, and sends no end: the registry tells when the server has closed its own.
        wait_until("the close", || server_end(&server, &client).is_none());
        assert!(!is_registered(inode), "closed and still registered");
        drop(second);
        client.expect_end().unwrap();
        server.drain();
    }
}

#[test]
fn a_blocked_connection_is_parked_and_continues_when_its_client_reads() {
    for workers in [1, 2] {
        let server = start(workers, |_| {}, same);
        let mut client = Client::connect_with_a_small_window(server.address).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let inode = inode_of(second_descriptor(&server, &client));
        for _ in 0..3 {
            let sent = block(&server, &mut client);
            assert_eq!(server_end(&server, &client).unwrap().1, "parked");
            assert!(is_registered(inode), "blocked, and without events for room");
            client.expect(&sent).unwrap();
            client.round_trip(&bytes(&mut random, 100)).unwrap();
        }
        client.finish().unwrap();
        assert_eq!(server.drain().ends(EndReason::Finished), 1);
    }
}

#[test]
fn a_client_that_reads_nothing_for_the_write_timeout_is_reset() {
    let timeout = Duration::from_millis(100);
    for workers in [1, 2] {
        let server = start(workers, |settings| settings.write_timeout = Some(timeout), same);
        let mut other = Client::connect(server.address).unwrap();
        let mut stuck = Client::connect_with_a_small_window(server.address).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        wait_until("the reset", || {
            other.round_trip(b"served").unwrap();
            stuck.send_until_full(1 << 20, &mut random).is_err()
        });
        other.finish().unwrap();
        let summary = server.drain();
        assert_eq!(summary.ends(EndReason::WriteTimeout), 1, "{summary}");
        assert_eq!(summary.ends(EndReason::Finished), 1, "{summary}");
    }
}

#[test]
fn a_drain_ends_parked_connections_and_one_that_a_worker_has() {
    let has_sent = Arc::new(AtomicBool::new(false));
    let sent = Arc::clone(&has_sent);
    for workers in [1, 2] {
        has_sent.store(false, Ordering::SeqCst);
        let sent = Arc::clone(&sent);
        let server = start(
            workers,
            |_| {},
            move |received, turn| {
                if received.starts_with(b"wait") {
                    wait_until("the drain", || sent.load(Ordering::SeqCst));
                    stall(A_WHILE);
                }
                turn
            },
        );
        let mut idle: Vec<Client> =
            (0..10).map(|_| Client::connect(server.address).unwrap()).collect();
        idle.iter_mut().for_each(|client| client.round_trip(b"once").unwrap());
        let mut active = Client::connect(server.address).unwrap();
        active.round_trip(b"wait").unwrap();
        server.control.send(echown::server::Control::Drain);
        has_sent.store(true, Ordering::SeqCst);
        active.expect_end().unwrap();
        idle.iter_mut().for_each(|client| client.expect_end().unwrap());
        assert_eq!(server.drain().ends(EndReason::Drained), 11);
    }
}

#[test]
fn input_that_arrived_in_time_is_echoed_after_the_idle_timeout() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let has_sent = Arc::new(AtomicBool::new(false));
    let sent = Arc::clone(&has_sent);
    let server = start(
        1,
        |settings| settings.idle_timeout = Some(TIMEOUT),
        move |received, turn| {
            if received.starts_with(b"slow") {
                wait_until("the other's message", || sent.load(Ordering::SeqCst));
                stall(2 * TIMEOUT);
            }
            turn
        },
    );
    let mut other = Client::connect(server.address).unwrap();
    other.round_trip(b"once").unwrap();
    let mut slow = Client::connect(server.address).unwrap();
    slow.round_trip(b"slow").unwrap();
    other.send(b"in time").unwrap();
    has_sent.store(true, Ordering::SeqCst);
    other.expect(b"in time").expect("it was not idle");
    other.expect_end().unwrap();
    assert_eq!(server.drain().ends(EndReason::IdleTimeout), 2);
}

/// Urgent data ends a read before it and after it, also if more has arrived.
#[test]
fn input_after_urgent_data_is_echoed_although_the_read_was_short() {
    let has_sent = Arc::new(AtomicBool::new(false));
    let sent = Arc::clone(&has_sent);
    let server = start(
        1,
        |_| {},
        move |received, turn| {
            if received.starts_with(b"wait") {
                wait_until("all of the other's input", || sent.load(Ordering::SeqCst));
            }
            turn
        },
    );
    let mut other = Client::connect(server.address).unwrap();
    other.round_trip(b"once").unwrap();
    let mut slow = Client::connect(server.address).unwrap();
    slow.round_trip(b"wait").unwrap();
    other.send(b"12").unwrap();
    rustix::net::send(&other.stream, b"3", rustix::net::SendFlags::OOB).unwrap();
    other.send(b"45").unwrap();
    stall(A_WHILE);
    has_sent.store(true, Ordering::SeqCst);
    other.expect(b"12345").unwrap();
    other.finish().unwrap();
    slow.finish().unwrap();
    server.drain();
}
