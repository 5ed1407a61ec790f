//! Connections that end otherwise than by their client: aborts, panics, and clients that do not read.

use std::time::Duration;

use echown::echo::{EndReason, Turn};
use echown::server::Control;

use super::clients::{Client, CutShort, bytes};
use super::running::{Running, start};
use crate::common::{wait_until, wait_until_still};

fn same(_: &[u8], turn: Turn) -> Turn {
    turn
}

fn connect(server: &Running) -> Client {
    let mut client = Client::connect(server.address).unwrap();
    client.round_trip(b"once").unwrap();
    client
}

/// A client that does not read, when its connection is blocked. Returns what it has sent, too.
///
/// The server has usually read all of it: the close of a socket with input that was not read resets in any case.
fn stuck(server: &Running) -> (Client, Vec<u8>) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut client = Client::connect_with_a_small_window(server.address).unwrap();
    let own = client.stream.local_addr().unwrap().to_string();
    let end = || {
        let all = server.registry.snapshot().resources;
        let end = all.into_iter().find(|end| end.peer.as_ref() == Some(&own));
        end.map(|end| (end.state == "parked", end.bytes_in, end.bytes_out))
    };
    let mut sent = Vec::new();
    loop {
        // One segment, which is usually read at once.
        let more = bytes(&mut random, 16 * 1024);
        client.send(&more).unwrap();
        sent.extend(more);
        let all = sent.len() as u64;
        let is_blocked = || end().is_some_and(|(is_parked, into, out)| is_parked && out < into);
        wait_until("a turn", || {
            is_blocked() || end().is_some_and(|(is_parked, into, _)| is_parked && into == all)
        });
        if is_blocked() {
            // The client's kernel may take more.
            wait_until_still("what is sent", end);
            if is_blocked() {
                break;
            }
        }
    }
    (client, sent)
}

/// What the client has sent, or only the beginning of it, and then a reset.
fn assert_is_reset(client: &mut Client, sent: &[u8]) {
    let cut = client.expect(sent).and_then(|()| client.expect_end());
    assert!(matches!(cut, Err(CutShort { is_reset: true })), "an ordinary end: {cut:?}");
}

#[test]
fn an_abort_ends_parked_and_blocked_connections_and_counts_all() {
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
        assert_is_reset(&mut stuck, &sent);
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
fn more_stuck_clients_than_allowed_displace_those_that_wait_longest() {
    for workers in [1, 2] {
        let most = |settings: &mut echown::server::ServerSettings| {
            settings.park_blocked = std::num::NonZeroUsize::new(2 * workers).unwrap();
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
                Err(end) => {
                    assert!(end.is_reset, "an end that looks like that of a complete echo");
                    cut += 1;
                }
            }
        }
        other.finish().unwrap();
        let summary = server.end_by(Control::Drain);
        assert_eq!(summary.ends(EndReason::Displaced), cut, "{summary}");
        assert_eq!(summary.ends(EndReason::Finished), whole + 1, "{summary}");
        assert_eq!(cut, 2, "{summary}");
    }
}
