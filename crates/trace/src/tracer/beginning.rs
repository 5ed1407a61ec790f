//! A call at its beginning.

use crate::calls::Call;
use crate::sys::ptrace::CallStop;

/// A call at its beginning.
pub(super) struct Beginning {
    pub(super) task: i32,
    pub(super) index: usize,
    pub(super) call: Call,
    pub(super) stop: CallStop,
    pub(super) arguments: [u64; 6],
}

/// Whether the quarantine handled a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Handled,
    NotMine,
}

impl Beginning {
    /// An argument that is a descriptor.
    pub(super) fn number(&self, index: usize) -> i32 {
        self.arguments[index] as i32
    }

    /// The descriptor that must be open. AT_FDCWD is none.
    pub(super) fn used(&self) -> Option<i32> {
        let number = self.call.uses.map(|index| self.number(index));
        number.filter(|number| *number != libc::AT_FDCWD)
    }
}
