//! Rules 11 and 15 together: a split socket's number that is replaced is known to both halves and to
//! the whole, and is one theft.

use std::io::{Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::RawFd;

use echown::net::{ReadHalf, WriteHalf};
use echown::ownership::{ErrorKind, Event, Level};
use echown::test;

use crate::common::{self, Fixture, assert_connected, fd_misuse, refusal};

/// A connection that is the newcomer, under its own number and under that of a split stream.
struct Replaced {
    reading: ReadHalf,
    writing: WriteHalf,
    number: RawFd,
    newcomer: TcpStream,
    newcomers_peer: TcpStream,
}

impl Replaced {
    fn new(fixture: &Fixture) -> Replaced {
        let (stream, _peer) = fixture.connection();
        let number = stream.resource().describe().number.expect("it is a descriptor");
        let (reading, writing) = stream.split().expect("it is ours");
        let (newcomer, newcomers_peer) = common::connection();
        // A half that reads it all the same fails, and does not hang.
        newcomer.set_read_timeout(Some(common::DEADLINE / 3)).expect("it is a socket");
        fd_misuse::replace(number, &newcomer);
        Replaced { reading, writing, number, newcomer, newcomers_peer }
    }

    /// Asserts that the newcomer is open under the stolen number, and that nothing was sent to it,
    /// read from it or shut down. Closes it.
    #[track_caller]
    fn assert_untouched(mut self, fixture: &Fixture) {
        drop((self.reading, self.writing));
        let mut taken = TcpStream::from(fd_misuse::second_owner(self.number));
        assert_connected(&mut taken, &mut self.newcomers_peer);
        self.newcomer.shutdown(Shutdown::Write).expect("it is connected");
        let mut rest = Vec::new();
        self.newcomers_peer.read_to_end(&mut rest).expect("it is connected");
        assert!(rest.is_empty(), "{rest:?} was sent to the newcomer");
        fixture.track(taken);
    }
}

/// What the checker finds at level `full` by one half stops the other half.
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

/// What an `own` finds on the whole, at level `on`, stops both halves.
#[test]
fn a_replacement_found_by_own_marks_both_halves() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mut it = Replaced::new(fixture);
        let halves = [it.reading.resource(), it.writing.resource()];
        let taken =
            fixture.registry.own_fd(fd_misuse::second_owner(it.number)).expect("it is a newcomer");
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        assert_eq!(refusal(it.reading.read(&mut [0])).kind(), ErrorKind::FdReplaced);
        assert_eq!(refusal(it.writing.write(b"x")).kind(), ErrorKind::FdReplaced);
        for half in halves {
            let custody = half.describe().custody;
            assert!(custody.iter().any(|step| step.event == Event::Replaced), "{custody:?}");
        }
        mem::forget(taken.disown().expect("it is ours"));
        it.assert_untouched(fixture);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    fixture.assert_all_closed();
}

/// What the end of the write half finds stops the read half, at level `on`.
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

/// Rejoined, the halves of a replaced socket are no way round the mark.
#[test]
fn replaced_halves_cannot_be_rejoined() {
    let fixture = Fixture::with(|settings| settings.level(Level::Full));
    fixture.root(|| {
        let mut it = Replaced::new(fixture);
        assert_eq!(refusal(it.reading.read(&mut [0])).kind(), ErrorKind::FdReplaced);
        let refused = it.reading.rejoin(it.writing).expect_err("they are marked");
        assert_eq!(refused.error().kind(), ErrorKind::FdReplaced);
        (it.reading, it.writing) = refused.into_value().expect("both come back");
        it.assert_untouched(fixture);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    fixture.assert_all_closed();
}
