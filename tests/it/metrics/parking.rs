//! The numbers of parked connections: as metrics, and in what SIGUSR1 prints.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;

use super::super::parking::{never_reads, round_trip};
use super::super::server::summary;
use super::{numbers, start};
use crate::common::wait_until;

/// Waits until these metrics have these values.
fn wait_for(status: SocketAddr, expected: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    wait_until(&format!("{expected:?}"), || {
        found = numbers(status);
        expected.iter().all(|(name, value)| found[*name] == *value)
    });
    found
}

#[test]
fn parked_and_blocked_connections_are_counted_until_they_end() {
    const PARKED: usize = 5;
    let (mut server, status) = start(&["--park", "--park-blocked", "7"]);
    let clients: Vec<TcpStream> = (0..PARKED).map(|_| server.connect()).collect();
    wait_for(status, &[("echown_connections_parked", PARKED as f64)]);
    for _ in 0..10 {
        clients.iter().for_each(|client| round_trip(client, b"message"));
    }
    let parked = ("echown_connections_parked", PARKED as f64);
    let found = wait_for(status, &[parked, ("echown_park_blocked", 0.0)]);
    assert_eq!(found["echown_park_blocked_max"], 7.0);
    // Once before the first message, and at most once after each: the next may come before it is parked.
    let parks = found["echown_parks_total"];
    assert!((PARKED as f64..=(PARKED * 11) as f64).contains(&parks), "{parks}");

    let stuck = never_reads(&server);
    let all = ("echown_connections_parked", 6.0);
    wait_for(status, &[all, ("echown_park_blocked", 1.0), ("echown_connections_open", 6.0)]);
    server.signal(Signal::USR1);
    server.wait_for_line("connections: 6 accepted, 6 open (6 parked, 1 blocked)");
    drop((stuck, clients));
    wait_for(status, &[("echown_connections_parked", 0.0), ("echown_park_blocked", 0.0)]);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn connections_that_end_by_the_idle_timeout_are_no_longer_counted_as_parked() {
    let (server, status) = start(&["--park", "--idle-timeout", "50ms"]);
    let clients: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    let ended = "echown_connections_ended_total{reason=\"idle_timeout\"}";
    let found = wait_for(status, &[(ended, 3.0), ("echown_connections_parked", 0.0)]);
    assert_eq!(found["echown_parks_total"], 3.0);
    drop(clients);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(summary(&lines, "leaks"), 0);
}
