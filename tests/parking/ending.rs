//! Connections that end otherwise than by their client: aborts, panics, and no thread for a writer.

use std::time::Duration;

use echown::echo::{EndReason, Turn};
use echown::server::Control;

use super::clients::{Client, CutShort, bytes};
use super::running::{Running, start, start_with_faults};
use crate::common::wait_until;

fn same(_: &[u8], turn: Turn) -> Turn {
    turn
}

fn connect(server: &Running) -> Client {
    let mut client = Client::connect(server.address).unwrap();
    client.round_trip(b"once").unwrap();
    client
}

/// A client that does not read, when its connection has a writer. Returns what it has sent, too.
///
/// The server has read all of it: the close of a socket with input that was not read resets in any case.
fn stuck(server: &Running) -> (Client, Vec<u8>) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut client = Client::connect_with_a_small_window(server.address).unwrap();
    let own = client.stream.local_addr().unwrap().to_string();
    let writer = format!("echo {own}");
    let has_writer = || {
        let tasks = server.registry.snapshot().tasks;
        tasks.iter().any(|task| *task.task.name == *writer)
    };
    let mut sent = Vec::new();
    while !has_writer() {
        // One segment, which is read at once.
        let more = bytes(&mut random, 16 * 1024);
        client.send(&more).unwrap();
        sent.extend(more);
        wait_until("all of it to be read", || {
            let all = server.registry.snapshot().resources;
            let end = all.iter().find(|end| end.peer.as_ref() == Some(&own));
            end.is_some_and(|end| end.bytes_in == sent.len() as u64) || has_writer()
        });
    }
    (client, sent)
}

/// What the client has sent, or only the beginning of it, and then a reset.
fn assert_is_reset(client: &mut Client, sent: &[u8]) {
    let cut = client.expect(sent).and_then(|()| client.expect_end());
    assert!(matches!(cut, Err(CutShort { is_reset: true })), "an ordinary end: {cut:?}");
}

#[test]
fn an_abort_ends_parked_ones_and_those_of_workers_and_writers_and_counts_all() {
    for workers in [1, 2] {
        let server = start(workers, |_| {}, same);
        let mut parked: Vec<Client> = (0..20).map(|_| connect(&server)).collect();
        let mut stuck = [stuck(&server), stuck(&server)];
        let summary = server.end_by(Control::Abort);
        assert_eq!(summary.aborted, 22, "{summary}");
        assert_eq!(summary.connections, 22);
        for client in &mut parked {
            // Nothing is missing, so that either end will do.
            let _ = client.expect_end();
        }
        for (client, sent) in &mut stuck {
            assert!(client.expect(sent).is_err(), "a whole echo of an aborted connection");
        }
    }
}

#[test]
fn at_the_drain_deadline_only_those_that_do_not_read_are_aborted() {
    for workers in [1, 2] {
        let short = Duration::from_millis(300);
        let server = start(workers, |settings| settings.drain_timeout = short, same);
        let mut parked: Vec<Client> = (0..20).map(|_| connect(&server)).collect();
        let (mut stuck, sent) = stuck(&server);
        let summary = server.end_by(Control::Drain);
        assert_eq!(summary.aborted, 1, "{summary}");
        assert_eq!(summary.ends(EndReason::Drained), 20, "{summary}");
        for client in &mut parked {
            client.expect_end().unwrap();
        }
        assert!(stuck.expect(&sent).is_err(), "a whole echo of an aborted connection");
    }
}

#[test]
fn a_panic_in_a_turn_resets_its_connection_and_no_other() {
    for workers in [1, 2] {
        let server = start(
            workers,
            |_| {},
            |received, turn| {
                assert!(!received.starts_with(b"panic"), "as the client wishes");
                turn
            },
        );
        let mut other = connect(&server);
        for _ in 0..5 {
            let mut client = connect(&server);
            client.send(b"panic").unwrap();
            assert_is_reset(&mut client, b"panic");
            other.round_trip(b"still here").unwrap();
        }
        other.finish().unwrap();
        let summary = server.end_by(Control::Drain);
        assert_eq!((summary.panics, summary.connections), (5, 6), "{summary}");
    }
}

#[test]
fn without_a_thread_for_its_writer_a_client_is_reset_and_counted() {
    let server = start_with_faults(1, "thread=1", |_| {}, same);
    let mut other = connect(&server);
    let mut random = fastrand::Rng::with_seed(1);
    let mut client = Client::connect_with_a_small_window(server.address).unwrap();
    wait_until("a reset", || client.send_until_full(1 << 20, &mut random).is_err());
    other.round_trip(b"still here").unwrap();
    other.finish().unwrap();
    let summary = server.end_by(Control::Drain);
    assert_eq!(summary.ends(EndReason::NoResources), 1, "{summary}");
    assert_eq!(summary.ends(EndReason::Finished), 1, "{summary}");
}

#[test]
fn more_stuck_clients_than_writers_displace_those_that_wait_longest() {
    for workers in [1, 2] {
        let most = |settings: &mut echown::server::ServerSettings| {
            settings.park_writers = std::num::NonZeroUsize::new(2 * workers).unwrap();
        };
        let server = start(workers, most, same);
        let mut other = connect(&server);
        let mut all: Vec<(Client, Vec<u8>)> = Vec::new();
        for _ in 0..2 * workers + 2 {
            all.push(stuck(&server));
            other.round_trip(b"not delayed").unwrap();
        }
        let (mut whole, mut cut) = (0, 0);
        for (client, sent) in &mut all {
            match client.expect(sent).and_then(|()| client.finish()) {
                Ok(()) => whole += 1,
                // Mostly a reset. The cancellation shuts the socket down first, and if the client has room
                // for all that the kernel has, that end overtakes the reset.
                Err(CutShort { .. }) => cut += 1,
            }
        }
        other.finish().unwrap();
        let summary = server.end_by(Control::Drain);
        assert_eq!(summary.ends(EndReason::Displaced), cut, "{summary}");
        assert_eq!(summary.ends(EndReason::Finished), whole + 1, "{summary}");
        assert!(cut >= 2, "{summary}");
    }
}
