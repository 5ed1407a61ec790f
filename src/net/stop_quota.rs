//! How many connections a listener still accepts after its order to stop.
//!
//! A listener that looks at its order only when no connection waits never stops while clients keep
//! arriving faster than it accepts. So it looks every few connections; what waits at that moment is
//! accepted, because those clients believe that they are connected, and nothing after it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// Connections between two looks at the order: each is a system call.
const LOOK_EVERY: u32 = 16;

/// `left` while the order is not known to be given.
const NO_ORDER: u32 = u32::MAX;

/// Counts for one listener; only its owner accepts.
#[derive(Debug)]
pub(super) struct StopQuota {
    /// The most connections that can wait, where their number cannot be asked for.
    pub(super) places: u32,
    /// Accepted since the last look.
    accepted: AtomicU32,
    /// What may still be accepted, or [`NO_ORDER`].
    left: AtomicU32,
}

impl StopQuota {
    /// For a queue with so many places.
    pub(super) fn new(backlog: u32) -> StopQuota {
        // The kernel queues one more than it is asked for.
        let places = backlog.saturating_add(1).min(NO_ORDER - 1);
        StopQuota { places, accepted: AtomicU32::new(0), left: AtomicU32::new(NO_ORDER) }
    }

    /// Counts an accepted connection.
    pub(super) fn count(&self) {
        // ord: Relaxed; only the owner counts, and a change of owner orders it (the slot's AcqRel).
        let left = self.left.load(Ordering::Relaxed);
        let (counter, value) = if left == NO_ORDER {
            // ord: Relaxed, as above.
            (&self.accepted, self.accepted.load(Ordering::Relaxed).saturating_add(1))
        } else {
            (&self.left, left.saturating_sub(1))
        };
        // ord: Relaxed, as above.
        counter.store(value, Ordering::Relaxed);
    }

    /// Whether all has been accepted that waited when the order was noticed. `is_ordered` looks at the
    /// order, and `waiting` answers how many connections wait.
    ///
    /// # Errors
    /// Theirs.
    pub(super) fn is_reached(
        &self,
        is_ordered: impl FnOnce() -> io::Result<bool>,
        waiting: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<bool> {
        // ord: Relaxed, as above.
        let (left, accepted) =
            (self.left.load(Ordering::Relaxed), self.accepted.load(Ordering::Relaxed));
        let is_due = if left == NO_ORDER { accepted >= LOOK_EVERY } else { left == 0 };
        if !is_due {
            return Ok(false);
        }
        let now_left = match (is_ordered()?, left) {
            // The order may have been taken back: what was written to the pipe has been read.
            (false, _) => NO_ORDER,
            (true, NO_ORDER) => waiting()?.min(self.places),
            (true, left) => left,
        };
        // ord: Relaxed, as above.
        self.left.store(now_left, Ordering::Relaxed);
        // ord: Relaxed, as above.
        self.accepted.store(0, Ordering::Relaxed);
        Ok(now_left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_order_as_many_are_accepted_as_were_waiting() {
        let stop_quota = StopQuota::new(64);
        let accept_until_reached = |is_ordered: bool, waiting: u32| -> u32 {
            (0..1000)
                .find(|_| {
                    let is_reached = stop_quota.is_reached(|| Ok(is_ordered), || Ok(waiting));
                    let is_reached = is_reached.unwrap();
                    if !is_reached {
                        stop_quota.count();
                    }
                    is_reached
                })
                .unwrap_or(1000)
        };
        assert_eq!(accept_until_reached(false, 5), 1000, "without an order there is no end");
        let accepted = accept_until_reached(true, 5);
        assert!((5..5 + LOOK_EVERY).contains(&accepted), "{accepted}");
        assert_eq!(accept_until_reached(true, 5), 0, "it stays so");
        assert_eq!(accept_until_reached(false, 5), 1000, "until the order is taken back");
        let accepted = accept_until_reached(true, 1000);
        assert!(
            (65..65 + LOOK_EVERY).contains(&accepted),
            "more than there are places: {accepted}"
        );
    }
}
