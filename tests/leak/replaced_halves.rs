//! Rules 11 and 15 combined: a replaced fd of a split socket marks both halves and the whole, and
//! counts once.

use std::io::{Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::RawFd;

use echown::net::{ReadHalf, WriteHalf};
use echown::ownership::{ErrorKind, Event, Level};
use echown::test;

use crate::common::{self, Fixture, assert_connected, fd_misuse, refusal};

/// A split stream whose number was replaced by another connection, and that connection.
struct Replaced {
    reading: ReadHalf,
    writing: WriteHalf,
    number: RawFd,
    new_file: TcpStream,
    new_peer: TcpStream,
}

impl Replaced {
    fn new(fixture: &Fixture) -> Replaced {
        let (stream, _peer) = fixture.connection();
        let number = stream.resource().describe().number.expect("it is a descriptor");
        let (reading, writing) = stream.split().expect("this task owns it");
        let (new_file, new_peer) = common::connection();
        // A half that wrongly reads it fails and does not hang.
        new_file.set_read_timeout(Some(common::DEADLINE / 3)).expect("it is a socket");
        fd_misuse::replace(number, &new_file);
        Replaced { reading, writing, number, new_file, new_peer }
    }

    /// Asserts that the new file is open under the replaced number, and that nothing was sent to
    /// it, read from it or shut down. Closes it.
    #[track_caller]
    fn assert_untouched(mut self, fixture: &Fixture) {
        drop((self.reading, self.writing));
        let mut taken = TcpStream::from(fd_misuse::second_owner(self.number));
        assert_connected(&mut taken, &mut self.new_peer);
        self.new_file.shutdown(Shutdown::Write).expect("it is connected");
        let mut rest = Vec::new();
        self.new_peer.read_to_end(&mut rest).expect("it is connected");
        assert!(rest.is_empty(), "{rest:?} was sent to the new file");
        fixture.track(taken);
    }
}

/// A replacement found by one half at level `full` also blocks the other half.
#[test]
fn a_replacement_found_by_one_half_marks_the_other_and_counts_once() {
    for reader_finds_it in [true, false] {
        let fixture = Fixture::with(|settings| settings.level(Level::Full));
        fixture.root(|| {
            let mut it = Replaced::new(fixture);
            let kinds = if reader_finds_it {
                [refusal(it.reading.read(&mut [0])), refusal(it.writing.write(b"x"))]
            } else {
                [refusal(it.writing.write(b"x")), refusal(it.reading.read(&mut [0]))]
            };
            assert_eq!(kinds.map(|error| error.kind()), [ErrorKind::FdReplaced; 2]);
            it.assert_untouched(fixture);
        });
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        assert_eq!(fixture.registry.summary().replaced, 1);
        fixture.assert_all_closed();
    }
}

/// A replacement found by an `own` at level `on` blocks both halves.
#[test]
fn a_replacement_found_by_own_marks_both_halves() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mut it = Replaced::new(fixture);
        let halves = [it.reading.resource(), it.writing.resource()];
        let taken = fixture
            .registry
            .own_fd(fd_misuse::second_owner(it.number))
            .expect("the registry does not know it yet");
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        assert_eq!(refusal(it.reading.read(&mut [0])).kind(), ErrorKind::FdReplaced);
        assert_eq!(refusal(it.writing.write(b"x")).kind(), ErrorKind::FdReplaced);
        for half in halves {
            let custody = half.describe().custody;
            assert!(custody.iter().any(|step| step.event == Event::Replaced), "{custody:?}");
        }
        mem::forget(taken.disown().expect("this task owns it"));
        it.assert_untouched(fixture);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    fixture.assert_all_closed();
}

/// A replacement found by the release of the write half at level `on` blocks the read half.
#[test]
fn a_replacement_found_at_the_exit_of_the_writer_marks_the_read_half() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mut it = Replaced::new(fixture);
        assert_eq!(refusal(it.writing.release()).kind(), ErrorKind::FdReplaced);
        assert_eq!(refusal(it.reading.read(&mut [0])).kind(), ErrorKind::FdReplaced);
        it.assert_untouched(fixture);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    fixture.assert_all_closed();
}

/// Rejoining the halves of a replaced socket cannot bypass the mark.
#[test]
fn replaced_halves_cannot_be_rejoined() {
    let fixture = Fixture::with(|settings| settings.level(Level::Full));
    fixture.root(|| {
        let mut it = Replaced::new(fixture);
        assert_eq!(refusal(it.reading.read(&mut [0])).kind(), ErrorKind::FdReplaced);
        let rejected = it.reading.rejoin(it.writing).expect_err("they are marked");
        assert_eq!(rejected.error().kind(), ErrorKind::FdReplaced);
        (it.reading, it.writing) = rejected.into_value().expect("both are returned");
        it.assert_untouched(fixture);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    fixture.assert_all_closed();
}
