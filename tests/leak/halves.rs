//! Rule 15: a split socket has two owners.

mod replaced_halves;

use std::io::{Read, Write};
use std::mem;
use std::sync::mpsc::channel;

use echown::net::Stream;
use echown::ownership::ErrorKind;
use echown::test;

use crate::common::{
    self, Fixture, assert_cancelled, assert_connected, leaked, refusal, wait_until_blocked,
};

#[test]
fn releasing_the_read_half_does_not_affect_the_socket() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let (reading, mut writing) = stream.split().expect("this task owns it");
        reading.release().expect("this task owns it");
        peer.write_all(b"the peer may go on writing").expect("nothing was shut down");
        writing.write_all(b"x").expect("the other half still works");
        peer.read_exact(&mut [0]).expect("it arrives");
        writing.release().expect("this task owns it");
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn releasing_the_write_half_shuts_down_writing_only() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let (mut reading, writing) = stream.split().expect("this task owns it");
        writing.release().expect("this task owns it");
        assert_eq!(peer.read(&mut [0]).expect("the peer reads the end"), 0);
        peer.write_all(b"still heard").expect("it is connected");
        let mut text = [0; 11];
        reading.read_exact(&mut text).expect("the other half still works");
        assert_eq!(&text, b"still heard");
        reading.release().expect("this task owns it");
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn two_tasks_own_one_half_each_and_the_last_exit_closes_the_socket() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let (mut reading, mut writing) = stream.split().expect("this task owns it");
        let (pass, passed) = channel::<u8>();
        let reader = fixture.spawn("reader", [reading.resource()], move || {
            let mut byte = [0];
            while reading.read(&mut byte).expect("the task owns it") == 1 {
                pass.send(byte[0]).expect("the writer receives it");
            }
        });
        let writer = fixture.spawn("writer", [writing.resource()], move || {
            passed.iter().for_each(|byte| writing.write_all(&[byte]).expect("the task owns it"));
        });
        peer.write_all(b"echo").expect("it is connected");
        let mut echo = [0; 4];
        peer.read_exact(&mut echo).expect("it is echoed");
        assert_eq!(&echo, b"echo");
        peer.shutdown(std::net::Shutdown::Write).expect("it is connected");
        reader.join().expect("it leaves no resource");
        writer.join().expect("it leaves no resource");
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn the_owner_of_one_half_cannot_use_the_other() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let (reading, mut writing) = stream.split().expect("this task owns it");
        let child = fixture.spawn("writer", [writing.resource()], move || {
            writing.write_all(b"x").expect("it was given");
            writing.release().expect("it was given");
            writing
        });
        let mut writing = child.join().expect("it owns nothing");
        peer.read_exact(&mut [0]).expect("it arrives");
        assert_eq!(refusal(writing.write(b"x")).kind(), ErrorKind::UseAfterRelease);
        reading.check().expect("this task still owns it");
    });
    fixture.assert_all_closed();
}

#[test]
fn cancelling_the_reader_does_not_affect_the_writer() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let (mut reading, mut writing) = stream.split().expect("this task owns it");
        let (begin, begun) = channel();
        let reader = fixture.spawn("reader", [reading.resource()], move || {
            begin.send(common::thread_id()).expect("the test receives it");
            assert_eq!(refusal(reading.read(&mut [0])).kind(), ErrorKind::Cancelled);
            mem::forget(reading);
        });
        wait_until_blocked(begun.recv().expect("the reader runs"), false);
        assert_cancelled(reader.cancel());
        writing.write_all(b"x").expect("the writer was not cancelled");
        peer.read_exact(&mut [0]).expect("it arrives");
    });
    fixture.assert_clean();
}

#[test]
fn cancelling_a_blocked_writer_does_not_affect_the_reader() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let (mut reading, mut writing) = stream.split().expect("this task owns it");
        let (begin, begun) = channel();
        let writer = fixture.spawn("writer", [writing.resource()], move || {
            begin.send(common::thread_id()).expect("the test receives it");
            let block = [0; 65536];
            let rejected = loop {
                if let Err(error) = writing.write_all(&block) {
                    break refusal::<(), _>(Err(error));
                }
            };
            assert_eq!(rejected.kind(), ErrorKind::Cancelled);
            mem::forget(writing);
        });
        wait_until_blocked(begun.recv().expect("the writer runs"), false);
        assert_cancelled(writer.cancel());
        peer.write_all(b"x").expect("the reader was not cancelled");
        reading.read_exact(&mut [0]).expect("it arrives");
    });
    fixture.assert_clean();
}

#[test]
fn a_split_stream_cannot_be_used_as_a_whole() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, _peer) = fixture.connection();
        let whole = stream.resource();
        let (reading, writing) = stream.split().expect("this task owns it");
        let rejected = refusal(fixture.pool().spawn([whole.clone()], || ()));
        assert_eq!(rejected.kind(), ErrorKind::IsSplit);
        assert_eq!(whole.describe().state, "split");
        let (me, number) = (fixture.registry.current_task(), whole.describe().number);
        assert_eq!(
            rejected.to_string(),
            format!(
                "fd {} (tcp stream) used whole by {me}, but it is split (split at {})",
                number.expect("it is a descriptor"),
                rejected.earlier_site().expect("the check is registered")
            )
        );
        drop((reading, writing));
        assert_eq!(whole.describe().state, "released");
    });
    fixture.assert_all_closed();
}

#[test]
fn rejoined_halves_are_the_original_stream() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let id = stream.id();
        let (reading, writing) = stream.split().expect("this task owns it");
        let halves = [reading.resource(), writing.resource()];
        let mut whole = Stream::rejoin(reading, writing).expect("the task owns both");
        assert_eq!(whole.id(), id);
        assert_connected(&mut whole, &mut peer);
        assert!(halves.iter().all(|half| half.describe().state == "released"));
        whole.release().expect("this task owns it");
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn halves_of_different_sockets_or_tasks_cannot_be_rejoined_and_are_returned() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (one, mut one_peer) = fixture.connection();
        let (other, mut other_peer) = fixture.connection();
        let (one_reading, one_writing) = one.split().expect("this task owns it");
        let (other_reading, other_writing) = other.split().expect("this task owns it");
        let rejected = one_reading.rejoin(other_writing).expect_err("they are of two sockets");
        assert_eq!(rejected.error().kind(), ErrorKind::MismatchedHalves);
        let (one_reading, other_writing) = rejected.into_value().expect("both are returned");
        let mut other =
            other_reading.rejoin(other_writing).expect("these are halves of one stream");
        assert_connected(&mut other, &mut other_peer);
        let child = fixture.spawn("child", [one_reading.resource()], move || {
            let rejected = one_reading.rejoin(one_writing).expect_err("it was given only one");
            let (error, halves) = rejected.into_parts();
            let (reading, writing) = halves.expect("both are returned");
            reading.transfer().expect("the parent is running");
            (error.kind(), reading, writing)
        });
        let (kind, reading, writing) = child.join().expect("it owns nothing");
        assert_eq!(kind, ErrorKind::NotOwner);
        let mut one = reading.rejoin(writing).expect("this task now owns both");
        assert_connected(&mut one, &mut one_peer);
    });
    fixture.assert_all_closed();
}

#[test]
fn a_forgotten_half_is_a_leak_that_names_the_half() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            let (stream, peer) = fixture.connection();
            let (reading, writing) = stream.split().expect("the task owns it");
            mem::forget(reading);
            writing.release().expect("the task owns it");
            drop(peer);
        });
        let (_, report) = leaked(child.join());
        let half = &report.resources[0];
        assert_eq!((half.kind, half.half), ("tcp stream", Some("read")));
        let number = half.number.expect("it is a descriptor");
        let headline = format!("tcp stream fd {number}, read half, ");
        assert!(report.to_string().contains(&headline), "{report}");
    });
    fixture.assert_all_closed();
}

#[test]
fn a_forgotten_rejoined_stream_is_one_leak() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            let (stream, peer) = fixture.connection();
            let (reading, writing) = stream.split().expect("the task owns it");
            mem::forget(reading.rejoin(writing).expect("the task owns both"));
            drop(peer);
        });
        let (_, report) = leaked(child.join());
        assert_eq!(report.resources.len(), 1);
        assert_eq!(report.resources[0].half, None);
        fixture.assert_all_closed();
    });
}
