//! Many clients at once: more than the limit, a thousand, and hundreds under chaos.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::super::server::DEADLINE;
use super::{enter, enter_all, frame, hear, is_closed_by_server, say, start, total, try_hear};
use crate::common::wait_for;

#[test]
fn rejected_clients_do_not_use_up_places() {
    let server = start(&["--max-connections", "3"]);
    let mut inside = enter_all(&server, 3);
    for _ in 0..5 {
        let mut outside = server.connect();
        assert!(is_closed_by_server(&mut outside), "rejected immediately, and not left waiting");
    }
    drop(inside.pop());
    // As soon as the client that left is gone, another one is accepted.
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
fn a_thousand_clients_receive_a_thousand_frames_in_the_same_order() {
    const CROWD: usize = 1000;
    let server = start(&[]);
    let mut clients = vec![enter(&server)];
    let threads = server.threads();
    clients.extend((1..CROWD).map(|_| server.connect()));
    // A client with a writer task has a place.
    server.wait_for("all to be inside", |server| server.threads() >= threads + 2 * (CROWD - 1));
    let payload = |n: usize| [n.to_be_bytes(), (!n).to_be_bytes()].concat();
    std::thread::scope(|threads| {
        // Several at a time, so that there is an order to compare.
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
        client.read_exact(&mut heard).expect("every frame arrives");
        let first = first.get_or_insert_with(|| heard.clone());
        assert!(heard == *first, "the order is the same for all clients");
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

/// One client under chaos: sends a few frames, and waits for each of its own. True if all of them
/// arrived, and then end of stream.
fn converse(address: SocketAddr, who: u64) -> bool {
    let mut client = TcpStream::connect(address).expect("the server accepts");
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    for n in 0..10_u64 {
        let mine = [who.to_be_bytes(), n.to_be_bytes()].concat();
        if client.write_all(&frame(&mine)).is_err() {
            assert!(n > 0, "a faulted client gets its first reply");
            return false;
        }
        loop {
            let Ok(heard) = try_hear(&mut client) else {
                assert!(n > 0, "a faulted client gets its first reply");
                return false;
            };
            assert_eq!(heard.len(), 16, "frames that no client sent");
            if heard == mine {
                break;
            }
        }
    }
    client.shutdown(Shutdown::Write).is_ok() && client.read_to_end(&mut Vec::new()).is_ok()
}

#[test]
fn under_chaos_all_injected_faults_are_reported_and_affect_no_other_client() {
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
    assert_eq!(
        cut,
        all - injected("foreign-write"),
        "only faulted clients were disconnected: {summary}"
    );
}
