//! The memory budget of frames: the maximum memory of all frames together.
//!
//! The failure story: each client may begin a frame of 16 MiB and stop there, and a complete frame stays
//! in memory until its last reader has read it. A limit per client would have to be small for many
//! clients to fit; so there is one limit for all, and a client whose frame exceeds it is rejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that frames may take; unlimited by default. Clones share the same budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameBudget(Option<Arc<AtomicU64>>);

impl FrameBudget {
    /// A budget of this many bytes.
    #[must_use]
    pub(crate) fn limited(bytes: u64) -> FrameBudget {
        FrameBudget(Some(Arc::new(AtomicU64::new(bytes))))
    }

    /// The bytes left, if there is a limit.
    #[must_use]
    pub(crate) fn left(&self) -> Option<u64> {
        // ord: Relaxed; informational, no other access depends on it.
        self.0.as_ref().map(|left| left.load(Ordering::Relaxed))
    }
}

/// Bytes charged to a budget; returned when dropped.
#[derive(Debug, Default)]
pub(super) struct BudgetCharge {
    budget: FrameBudget,
    bytes: u64,
}

impl BudgetCharge {
    pub(super) fn of(budget: &FrameBudget) -> BudgetCharge {
        BudgetCharge { budget: budget.clone(), bytes: 0 }
    }

    /// Raises the charge to `bytes`. Returns false if the budget does not have that much left.
    pub(super) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if let Some(left) = &self.budget.0 {
            // ord: Relaxed; only the number matters. Subtracted first and checked afterwards, so
            // that two threads cannot both take the last bytes; both may be rejected.
            let before = left.fetch_sub(more, Ordering::Relaxed);
            if before < more || before > i64::MAX as u64 {
                // ord: Relaxed, as above.
                left.fetch_add(more, Ordering::Relaxed);
                return false;
            }
        }
        self.bytes += more;
        true
    }

    /// Takes the charge out and starts an empty one of the same budget.
    pub(super) fn take(&mut self) -> BudgetCharge {
        let next = BudgetCharge::of(&self.budget);
        std::mem::replace(self, next)
    }
}

impl Drop for BudgetCharge {
    fn drop(&mut self) {
        if let Some(left) = &self.budget.0 {
            // ord: Relaxed, as above.
            left.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}
