//! Split streams, whose halves have separate owners.

use std::io::{Read, Write};
use std::net::Shutdown;

use echown::net::{ReadHalf, Stream, WriteHalf};
use echown::ownership::{ErrorKind, Registry};
use echown::test;
use echown::thread::spawn_named;

use super::{clean, quiet, run};

#[test]
fn two_tasks_own_the_halves_of_one_stream() {
    clean(|| {
        let (one, mut other) = Stream::pair().unwrap();
        let (mut reading, mut writing) = one.split().unwrap();
        let reader = spawn_named("reader", [reading.resource()], move || {
            let mut text = String::new();
            reading.read_to_string(&mut text).unwrap();
            text
        })
        .unwrap();
        let writer = spawn_named("writer", [writing.resource()], move || {
            writing.write_all(b"from the writing half").unwrap();
            // Its release is end of stream for the peer, although the read half is still open.
        })
        .unwrap();
        let mut heard = String::new();
        other.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "from the writing half");
        other.write_all(b"for the reading half").unwrap();
        other.close().unwrap();
        assert_eq!(reader.join().unwrap(), "for the reading half");
        writer.join().unwrap();
    });
}

#[test]
fn two_halves_can_be_rejoined() {
    clean(|| {
        let (one, mut other) = Stream::pair().unwrap();
        let id = one.id();
        let (mut reading, mut writing) = one.split().unwrap();
        writing.write_all(b"half").unwrap();
        other.write_all(b"a").unwrap();
        reading.read_exact(&mut [0]).unwrap();
        let mut one = Stream::rejoin(reading, writing).unwrap();
        assert_eq!(one.id(), id);
        one.write_all(b"whole").unwrap();
        assert_eq!((one.describe().bytes_in, one.describe().bytes_out), (1, 9));
        one.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        other.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "halfwhole");
    });
}

#[test]
fn halves_of_two_streams_cannot_be_rejoined_and_are_returned() {
    let registry = quiet();
    run(&registry, || {
        let (one, other) = Stream::pair().unwrap();
        let (one_reading, one_writing) = one.split().unwrap();
        let (other_reading, mut other_writing) = other.split().unwrap();
        let (error, halves) = one_reading.rejoin(other_writing).unwrap_err().into_parts();
        assert_eq!(error.kind(), ErrorKind::MismatchedHalves);
        let mut one_reading: ReadHalf;
        (one_reading, other_writing) = halves.unwrap();
        let _: (&ReadHalf, &WriteHalf) = (&other_reading, &one_writing);
        other_writing.write_all(b"x").unwrap();
        one_reading.read_exact(&mut [0]).unwrap();
    });
    assert_eq!(registry.summary().violations, 1);
}

#[test]
fn the_old_resource_of_a_split_stream_cannot_be_used() {
    let registry = quiet();
    run(&registry, || {
        let registry = &Registry::current();
        let (one, _other) = Stream::pair().unwrap();
        let whole = one.resource();
        let (_reading, _writing) = one.split().unwrap();
        let rejected = registry.run_inline("child", [whole], || ()).unwrap_err();
        assert!(rejected.to_string().contains("it is split"), "{rejected}");
    });
    assert_eq!(registry.summary().violations, 1);
}
