//! The drain of a broadcast server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::server::{pattern, summary};
use super::{enter_all, frame, is_closed_by_server, start, try_hear};
use crate::common::wait_until;

#[test]
fn frames_under_way_at_sigterm_reach_every_client_before_the_end() {
    wait_until("the rest of each frame to be sent within a second", || {
        drain_with_frames_under_way()
    });
}

/// False if an incomplete frame was pending for as long as a drain waits for its rest.
fn drain_with_frames_under_way() -> bool {
    const TALKERS: usize = 8;
    /// The rest fits into any receive window: a drained socket does not open its window again.
    const BEGUN: usize = 10_000;
    let mut server = start(&["--drain-timeout", "20s", "--max-send-queue", "64MiB"]);
    // One of them sends nothing, and receives everything.
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
        // Rejected if it arrives too late.
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
            let got = try_hear(&mut rest).expect("complete frames, then end of stream");
            let n = usize::from_be_bytes(got[..8].try_into().unwrap());
            assert!(got == payload(n));
            order.push(n);
        }
        order
    };
    let orders: Vec<Vec<usize>> = heard.iter().map(|all| order(all)).collect();
    let mut sorted = orders[0].clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        (0..TALKERS).collect::<Vec<_>>(),
        "every frame was started, and none is lost"
    );
    for other in &orders {
        assert_eq!(*other, orders[0], "all clients receive the same: {:#?}", server.seen);
    }
    true
}

#[test]
fn a_client_that_keeps_sending_does_not_delay_the_drain() {
    let mut server = start(&["--drain-timeout", "1h", "--max-send-queue", "1GiB"]);
    let mut clients = enter_all(&server, 2);
    let mut flooding = clients[0].try_clone().unwrap();
    // Until its connection ends.
    let flood = std::thread::spawn(move || {
        let wire = frame(&pattern(50_000));
        while flooding.write_all(&wire).is_ok() {}
    });
    let listening: Vec<_> = clients
        .drain(..)
        .map(|mut client| std::thread::spawn(move || is_closed_by_server(&mut client)))
        .collect();
    server.signal(Signal::TERM);
    // Long before its timeout of an hour.
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "aborted"), 0, "{:#?}", server.seen);
    flood.join().unwrap();
    for thread in listening {
        assert!(thread.join().unwrap());
    }
}
