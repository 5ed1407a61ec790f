//! A storm: hundreds of connections of all kinds at once, a drain in the middle, every byte checked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use echown::echo::EndReason;
use echown::server::{Control, ControlHandle};
use fastrand::Rng;

use super::clients::{Client, CutShort, bytes};
use super::running::start_with_faults;
use crate::common::{lock, stall};

/// Clients at once, connections of each, and the idle connections that each keeps.
const CLIENTS: u64 = 16;
const VISITS: u64 = 30;
const IDLE: usize = 6;

/// Size of a worker's buffer: a read that fills it is a special case.
const BUFFER_BYTES: usize = 64 * 1024;

/// What all clients know.
struct Storm {
    address: SocketAddr,
    control: ControlHandle,
    visits: AtomicU64,
    is_draining: AtomicBool,
    connected: AtomicU64,
    resets: AtomicU64,
    /// Connections that the drain ended before their exchange was complete.
    cut: AtomicU64,
    received: AtomicU64,
}

impl Storm {
    fn connect(&self, has_small_window: bool) -> Result<Client, CutShort> {
        let client = if has_small_window {
            Client::connect_with_a_small_window(self.address)?
        } else {
            Client::connect(self.address)?
        };
        self.connected.fetch_add(1, Ordering::Relaxed);
        Ok(client)
    }

    /// Counts a connection that the drain has cut short.
    fn count_cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
        assert!(self.is_draining.load(Ordering::SeqCst), "cut short without a drain");
    }

    /// A client with one connection after the other, and with some that it keeps.
    fn play(&self, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let mut idle = VecDeque::new();
        for _ in 0..VISITS {
            if self.visits.fetch_add(1, Ordering::Relaxed) == CLIENTS * VISITS * 2 / 3 {
                self.is_draining.store(true, Ordering::SeqCst);
                self.control.send(Control::Drain);
            }
            if self.visit(&mut idle, &mut random).is_err() {
                self.count_cut();
                break;
            }
        }
        for mut client in idle {
            // An idle one gets an ordinary end by the drain; it has nothing to lose.
            let ended = if self.is_draining.load(Ordering::SeqCst) {
                client.expect_end()
            } else {
                client.finish()
            };
            assert!(ended.is_ok(), "a reset of an idle connection");
            self.count(&client);
        }
    }

    fn count(&self, client: &Client) {
        self.received.fetch_add(client.received, Ordering::Relaxed);
    }

    fn visit(&self, idle: &mut VecDeque<Client>, random: &mut Rng) -> Result<(), CutShort> {
        let kind = random.u8(..9);
        let mut client = self.connect(kind == 5)?;
        let went = act(kind, &mut client, random);
        self.count(&client);
        went?;
        match kind {
            0 => {
                self.resets.fetch_add(1, Ordering::Relaxed);
                client.reset();
            }
            1 if idle.len() < IDLE => {
                client.received = 0;
                idle.push_back(client);
            }
            // One that has waited for a while.
            2 => {
                if let Some(mut old) = idle.pop_front() {
                    let went = old.round_trip(&bytes(random, 2000)).and_then(|()| old.finish());
                    self.count(&old);
                    went?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// One kind of exchange. All but the first two end the connection.
fn act(kind: u8, client: &mut Client, random: &mut Rng) -> Result<(), CutShort> {
    match kind {
        // Reset in the middle.
        0 => {
            if random.bool() {
                client.send(&bytes(random, 20_000))?;
            }
            Ok(())
        }
        1 => client.round_trip(&bytes(random, 100)),
        // The input and its end in one event.
        2 => {
            let sent = bytes(random, 1000);
            client.send_and_finish_at_once(&sent)?;
            client.expect(&sent)?;
            client.expect_end()
        }
        // Messages of random sizes.
        3 => {
            for _ in 0..random.usize(1..6) {
                client.round_trip(&bytes(random, 8000))?;
            }
            client.finish()
        }
        // As large as the buffer, or nearly.
        4 => {
            let sizes = [BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 2 * BUFFER_BYTES];
            let mut sent = vec![0; sizes[random.usize(..sizes.len())]];
            random.fill(&mut sent);
            client.send(&sent)?;
            client.expect(&sent)?;
            client.finish()
        }
        // It does not read for a while, then it reads everything, and goes on.
        5 => {
            let sent = client.send_until_full(8 << 20, random)?;
            client.expect(&sent)?;
            for _ in 0..3 {
                stall(Duration::from_millis(random.u64(..12)));
                client.round_trip(&bytes(random, 100))?;
            }
            client.finish()
        }
        // Small pieces without waiting for their echo: events while a worker has the connection.
        6 => {
            let sent = bytes(random, 4000);
            for piece in sent.chunks(random.usize(1..200)) {
                client.send(piece)?;
            }
            client.expect(&sent)?;
            client.finish()
        }
        // The next message as soon as the echo is there: a worker may not have parked yet.
        7 => {
            for number in 0..60_u8 {
                client.round_trip(&[number; 3])?;
            }
            client.finish()
        }
        // Nothing at all.
        _ => client.finish(),
    }
}

/// Runs a storm, and checks what the server counted.
fn rage(workers: usize, faults: &str, seed: u64) {
    let pace = std::sync::Mutex::new(Rng::with_seed(!seed));
    let change = |settings: &mut echown::server::ServerSettings| {
        settings.idle_timeout = Some(2 * crate::common::DEADLINE);
    };
    // Sometimes a worker is slow between its last read and `park`.
    let server = start_with_faults(workers, faults, change, move |_, turn| {
        let pause = {
            let mut random = lock(&pace);
            random.u8(..).is_multiple_of(16).then(|| random.u64(20..1000))
        };
        if let Some(pause) = pause {
            stall(Duration::from_micros(pause));
        }
        turn
    });
    let storm = Storm {
        address: server.address,
        control: server.control.clone(),
        visits: AtomicU64::new(0),
        is_draining: AtomicBool::new(false),
        connected: AtomicU64::new(0),
        resets: AtomicU64::new(0),
        cut: AtomicU64::new(0),
        received: AtomicU64::new(0),
    };
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let storm = &storm;
            threads.spawn(move || storm.play(seed << 8 | client));
        }
    });
    let summary = server.drain();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let ends: u64 = EndReason::ALL
        .iter()
        .filter(|reason| **reason != EndReason::Refused)
        .map(|reason| summary.ends(*reason))
        .sum();
    assert_eq!(ends, summary.connections, "{summary}");
    // A client may believe that it is connected when the listener has just been closed.
    assert!((1..=of(&storm.connected)).contains(&summary.connections), "{summary}");
    assert!(summary.connections > CLIENTS * VISITS / 2, "{summary}");
    assert!(summary.errors <= of(&storm.resets) + of(&storm.cut), "{summary}");
    assert!(summary.bytes_out >= of(&storm.received), "{summary}");
    assert!(summary.bytes_in >= summary.bytes_out, "{summary}");
    for never in [EndReason::Displaced, EndReason::NoResources, EndReason::IdleTimeout] {
        assert_eq!(summary.ends(never), 0, "{summary}");
    }
}

#[test]
fn one_worker_loses_no_byte_and_no_client_in_a_storm() {
    rage(1, "", 1);
}

#[test]
fn three_workers_lose_no_byte_and_no_client_in_a_storm() {
    rage(3, "", 2);
}

#[test]
fn three_workers_lose_nothing_when_calls_are_cut_short_and_interrupted() {
    rage(3, "short=0.1,again=0.1,interrupt=0.1", 3);
}
