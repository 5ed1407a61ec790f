//! A probe whose uses loom watches, for the models of the slot.
//!
//! It is in this module because of its one line of `unsafe`.

use std::panic::{RefUnwindSafe, UnwindSafe};

use loom::cell::UnsafeCell;

/// Something that may be used by several threads at once, or by one alone. loom fails a model in
/// which two threads meet here and nothing orders them, unless both only share.
pub(crate) struct LoomProbe(UnsafeCell<()>);

// SAFETY: there is nothing inside to race for. loom's cell is kept from being shared only because
// it lends pointers to its content, which no function here passes on; its own bookkeeping belongs
// to the execution, whose threads run one at a time.
unsafe impl Sync for LoomProbe {}

// A panic fails the whole model: nothing is looked at after one.
impl UnwindSafe for LoomProbe {}
impl RefUnwindSafe for LoomProbe {}

impl LoomProbe {
    pub(crate) fn new() -> LoomProbe {
        LoomProbe(UnsafeCell::new(()))
    }

    /// A use that others may make at the same time.
    #[track_caller]
    pub(crate) fn share<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.with(|_| f())
    }

    /// A use that nobody may make at the same time.
    #[track_caller]
    pub(crate) fn exclude<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.with_mut(|_| f())
    }
}
