//! Memory that frames share: the most that all of them may take together.
//!
//! The failure story: each client may begin a frame of 16 MiB and leave it at that, and a frame that
//! is complete is kept for as long as one client has not read it. A limit for each client would have to
//! be small for many clients to fit; so there is one for all of them, and who comes to it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that are left; without a limit unless told. Clones are the same budget.
#[derive(Clone, Debug, Default)]
pub struct FrameBudget(Option<Arc<AtomicU64>>);

impl FrameBudget {
    /// So many bytes.
    #[must_use]
    pub fn of(bytes: u64) -> FrameBudget {
        FrameBudget(Some(Arc::new(AtomicU64::new(bytes))))
    }

    /// The bytes that are left, if there is a limit.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        // ord: Relaxed; a number to be looked at, which nothing follows from.
        self.0.as_ref().map(|left| left.load(Ordering::Relaxed))
    }
}

/// What is charged to a budget by one holder; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct BudgetCharge {
    budget: FrameBudget,
    bytes: u64,
}

impl BudgetCharge {
    pub(super) fn of(budget: &FrameBudget) -> BudgetCharge {
        BudgetCharge { budget: budget.clone(), bytes: 0 }
    }

    /// Charges what is missing to `bytes`. False when there is not so much left.
    pub(super) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if let Some(left) = &self.budget.0 {
            // ord: Relaxed; the number alone decides. Taken first and looked at afterwards, so that two
            // at once cannot both have the last of it; it may refuse both.
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

    /// Takes the charge out; what is reserved next is a charge of its own.
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
