//! Misused descriptor numbers: double closes and uses after a close, as findings with the history of
//! the number.

use echown_fd::trap::{self, EventKind, FdEvent, Misuse};
use echown_report::{Descriptor, Place, TestFinding, TestVerdict};

use super::message::MisusedFd;
use super::symbolizer::Symbolizer;

/// The number of frames below the primary one that are shown of events before the last opening.
const EARLIER_FRAMES: usize = 2;

/// Symbolizes the history of a misused number.
pub(super) fn symbolized(misused: trap::MisusedFd, symbolizer: &Symbolizer) -> MisusedFd {
    let history = misused.history;
    let last = |kind| history.iter().rposition(|event: &FdEvent| event.kind == kind);
    let (opened, closed) = (last(EventKind::Opened).unwrap_or(0), last(EventKind::Closed));
    let is_double = misused.misuse == Misuse::DoubleClose;
    let count = |kind| history.iter().filter(|event| event.kind == kind).count() as u64;
    let (openings, misuses) = (count(EventKind::Opened), count(EventKind::ClosedAgain));
    let place = |(index, event): (usize, FdEvent)| {
        let what = match event.kind {
            EventKind::Closed if is_double && Some(index) == closed => "closed first by ",
            kind => words(kind),
        };
        let mut place = symbolizer.place(event.stack, what);
        if index < opened {
            shorten(&mut place);
        }
        place
    };
    MisusedFd {
        misuse: misused.misuse,
        number: i64::from(misused.number),
        kind: misused.kind.map(str::to_owned),
        is_abort_due: misused.is_abort_due,
        openings,
        misuses,
        places: history.into_iter().enumerate().map(place).collect(),
    }
}

fn words(kind: EventKind) -> &'static str {
    match kind {
        EventKind::None => "",
        EventKind::Opened => "opened by ",
        EventKind::PassedOn => "sent by ",
        EventKind::Closed => "closed by ",
        EventKind::ClosedAgain => "closed again by ",
        EventKind::Used => "used by ",
        EventKind::InUse => "in use by ",
    }
}

/// Removes the outer frames.
fn shorten(place: &mut Place) {
    let primary = place.primary();
    let position = place.frames.iter().position(|frame| primary.is_some_and(|it| it == frame));
    place.frames.truncate(position.unwrap_or(0) + 1 + EARLIER_FRAMES);
}

impl MisusedFd {
    pub(super) fn verdict(&self) -> TestVerdict {
        match self.misuse {
            Misuse::DoubleClose => TestVerdict::DoubleClose,
            Misuse::UseAfterClose | Misuse::ClosedInUse => TestVerdict::UseAfterClose,
            Misuse::Overwritten => TestVerdict::OverwrittenFd,
        }
    }

    pub(super) fn finding(&self) -> TestFinding {
        let kind = self.kind.as_ref().map(|kind| format!("{kind} ")).unwrap_or_default();
        let what = format!("{kind}fd {}", self.number);
        let message = match self.misuse {
            Misuse::DoubleClose if self.misuses > 1 => {
                format!("closed {what} ({} times)", self.misuses + 1)
            }
            Misuse::DoubleClose => format!("closed {what} twice"),
            Misuse::UseAfterClose => format!("used {what} after it was closed"),
            Misuse::ClosedInUse => format!("closed {what} while a thread waited for input on it"),
            Misuse::Overwritten => format!("replaced {what}, which was open"),
        };
        let descriptor = Descriptor {
            number: i32::try_from(self.number).unwrap_or(-1),
            kind: self.kind.clone().unwrap_or_else(|| String::from("descriptor")),
            ..Descriptor::default()
        };
        TestFinding {
            verdict: self.verdict(),
            message,
            descriptors: vec![descriptor],
            places: self.places.clone(),
            custody: Vec::new(),
        }
    }

    /// What else a reader should know.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let number = self.number;
        let abort = self.is_abort_due.then(|| {
            format!(
                "without this check, the standard library would have aborted the process at the close of fd \
                 {number}: `IO Safety violation: owned file descriptor already closed`"
            )
        });
        let reuse = (self.openings > 1).then(|| {
            format!(
                "fd {number} was opened {} times: the fault may be an earlier close, by code that did not \
                 open what it closed",
                self.openings
            )
        });
        abort.into_iter().chain(reuse)
    }
}
