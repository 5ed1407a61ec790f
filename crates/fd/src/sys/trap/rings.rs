//! Where an io_uring was set up: a file that it opens is opened by no call of a thread.

use super::lock::Locked;
use super::stacks::Trace;

/// The last call of `io_uring_setup`.
static LAST: Locked<Option<Trace>> = Locked::new(None);

pub(super) fn is_set_up(trace: &Trace) {
    LAST.with(|last| *last = Some(*trace));
}

pub(super) fn set_up() -> Option<Trace> {
    LAST.with(|last| *last)
}
