//! A probe whose uses loom watches, for the models of the slot.
//!
//! It is in this module because it needs `unsafe`.

use std::panic::{RefUnwindSafe, UnwindSafe};

use loom::cell::UnsafeCell;

/// A probe of shared and exclusive uses. loom fails a model in which two threads use it
/// concurrently without ordering, unless both uses are shared.
pub(crate) struct LoomProbe(UnsafeCell<()>);

// SAFETY: it has no content to race for. loom's cell is not `Sync` only because it lends out
// pointers to its content, which no function here does; its own bookkeeping belongs to the
// execution, whose threads run one at a time.
unsafe impl Sync for LoomProbe {}

// A panic fails the whole model, so the state after it does not matter.
impl UnwindSafe for LoomProbe {}
impl RefUnwindSafe for LoomProbe {}

impl LoomProbe {
    pub(crate) fn new() -> LoomProbe {
        LoomProbe(UnsafeCell::new(()))
    }

    /// A use that may be concurrent with other shared uses.
    #[track_caller]
    pub(crate) fn share<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.with(|_| f())
    }

    /// A use that excludes all others.
    #[track_caller]
    pub(crate) fn exclude<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.with_mut(|_| f())
    }
}
