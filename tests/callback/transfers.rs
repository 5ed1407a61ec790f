//! Transfers, exact to the byte. The long ones are as long as SocketManager's own tests where
//! `ECHOWN_LONG` is set, and a sixty-fourth of that anywhere else.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use echown::echo::callback::Taken;
use echown::test;

use super::dial;
use super::recorder::{Heard, Recorder, connect, devour, in_clean_lab, listen, listening, manager};
use crate::common::{DEADLINE, Fixture};

/// What SocketManager's tests transfer.
const LONG_BYTES: u64 = 1_048_576_000;

fn bytes_to_transfer() -> u64 {
    if std::env::var_os("ECHOWN_LONG").is_some() { LONG_BYTES } else { LONG_BYTES / 64 }
}

/// After so many bytes they repeat. A prime, so that a lost, doubled or moved one shows.
const PERIOD: u64 = 251;

/// More than a receiver is given at a time.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// What is sent: so much of it can be had from every place of the first period.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..PERIOD + bytes as u64).map(|place| (place % PERIOD) as u8).collect()
}

/// One end sends messages of this size, shared, from a task of its own; the other end counts and
/// compares. Then both close.
#[track_caller]
fn transfer(message_bytes: usize) {
    let lab = Fixture::new();
    let total = bytes_to_transfer();
    lab.root(|| {
        let (out, senders) = mpsc::channel();
        let out = std::sync::Mutex::new(out);
        let (sending, sender_notes) = Recorder::new(move |connection, sender| {
            sender.share()?;
            let _ = crate::common::lock(&out).send(sender);
            connection.start(devour)
        });
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let (receiving, notes) = Recorder::new(move |connection, sender| {
            // Nothing to say: the writing ends.
            drop(sender);
            let count = Arc::clone(&count);
            let pattern = pattern(READ_BYTES_MAX);
            connection.start(move |message: &[u8]| {
                let from = count.fetch_add(message.len() as u64, Ordering::Relaxed);
                let start = (from % PERIOD) as usize;
                assert!(message == &pattern[start..start + message.len()], "after {from} bytes");
                Ok(Taken::All)
            })
        });
        let (from, to) = (manager(lab, sending), manager(lab, receiving));
        let address = listen(&to, &notes);
        connect(&from, address);
        let sender = senders.recv_timeout(DEADLINE).expect("it is connected");
        let pattern = pattern(message_bytes);
        let mut place = 0;
        while place < total {
            let length = message_bytes.min(usize::try_from(total - place).expect("it fits"));
            let start = (place % PERIOD) as usize;
            sender.send(&pattern[start..start + length]).expect("it is connected");
            place += length as u64;
        }
        drop(sender);
        assert_eq!(notes.next(), Heard::Connect(1));
        assert_eq!(notes.next(), Heard::RemoteClose(1));
        assert_eq!(notes.next(), Heard::Close(1));
        assert_eq!(received.load(Ordering::Relaxed), total);
        sender_notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1), Heard::Close(1)]);
        drop((from, to));
    });
    lab.assert_clean();
}

#[test]
fn a_long_transfer_in_small_messages_arrives_exactly_and_then_closes() {
    transfer(100);
}

#[test]
fn a_long_transfer_in_middle_sized_messages_arrives_exactly_and_then_closes() {
    transfer(10 * 1024);
}

#[test]
fn a_long_transfer_in_large_messages_arrives_exactly_and_then_closes() {
    transfer(1024 * 1024);
}

#[test]
fn a_half_close_with_four_mebibytes_in_flight_gets_all_of_it_back() {
    in_clean_lab(|lab| {
        let (recorder, notes) = Recorder::echoing();
        let (_manager, address) = listening(lab, recorder, &notes);
        let mut client = dial(address);
        let sent = pattern(4 * 1024 * 1024);
        let mut writing = client.try_clone().expect("it can be cloned");
        let bytes = sent.clone();
        let writer = std::thread::spawn(move || {
            writing.write_all(&bytes)?;
            writing.shutdown(Shutdown::Write)
        });
        let mut back = Vec::new();
        client.read_to_end(&mut back).expect("the end, and no reset");
        assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
        writer.join().expect("no panic").expect("all was taken");
        notes.assert_next(&[Heard::Connect(1), Heard::RemoteClose(1), Heard::Close(1)]);
    });
}
