//! The quota of connections that a listener still accepts after it was stopped.
//!
//! A listener that checks for the stop only when no connection waits never stops while clients arrive
//! faster than it accepts. So it checks every few connections; it then accepts the connections that wait
//! at that moment, because those clients believe that they are connected, and none after them.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// Connections between two checks: each check is a system call.
const CHECK_EVERY: u32 = 16;

/// `left` while no stop was noticed.
const NOT_STOPPED: u32 = u32::MAX;

/// The quota of one listener; only its owner accepts.
#[derive(Debug)]
pub(super) struct StopQuota {
    /// The maximum number of connections that can wait, if their number is unknown.
    pub(super) places: u32,
    /// Accepted since the last check.
    accepted: AtomicU32,
    /// How many may still be accepted, or [`NOT_STOPPED`].
    left: AtomicU32,
}

impl StopQuota {
    /// For a queue of this length.
    pub(super) fn new(backlog: u32) -> StopQuota {
        // The kernel queues one more than requested.
        let places = backlog.saturating_add(1).min(NOT_STOPPED - 1);
        StopQuota { places, accepted: AtomicU32::new(0), left: AtomicU32::new(NOT_STOPPED) }
    }

    /// Counts an accepted connection.
    pub(super) fn count(&self) {
        // ord: Relaxed; only the owner counts, and a change of owner orders it (the slot's AcqRel).
        let left = self.left.load(Ordering::Relaxed);
        let (counter, value) = if left == NOT_STOPPED {
            // ord: Relaxed, as above.
            (&self.accepted, self.accepted.load(Ordering::Relaxed).saturating_add(1))
        } else {
            (&self.left, left.saturating_sub(1))
        };
        // ord: Relaxed, as above.
        counter.store(value, Ordering::Relaxed);
    }

    /// Whether all connections have been accepted that waited when the stop was noticed. `is_stopped`
    /// checks for the stop, and `waiting` returns how many connections wait.
    ///
    /// # Errors
    /// The errors of the two functions.
    pub(super) fn is_reached(
        &self,
        is_stopped: impl FnOnce() -> io::Result<bool>,
        waiting: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<bool> {
        // ord: Relaxed, as above.
        let (left, accepted) =
            (self.left.load(Ordering::Relaxed), self.accepted.load(Ordering::Relaxed));
        let is_due = if left == NOT_STOPPED { accepted >= CHECK_EVERY } else { left == 0 };
        if !is_due {
            return Ok(false);
        }
        let now_left = match (is_stopped()?, left) {
            // The stop was revoked: the bytes in the pipe have been read.
            (false, _) => NOT_STOPPED,
            (true, NOT_STOPPED) => waiting()?.min(self.places),
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
    fn after_the_stop_as_many_are_accepted_as_were_waiting() {
        let stop_quota = StopQuota::new(64);
        let accept_until_reached = |is_stopped: bool, waiting: u32| -> u32 {
            (0..1000)
                .find(|_| {
                    let is_reached = stop_quota.is_reached(|| Ok(is_stopped), || Ok(waiting));
                    let is_reached = is_reached.unwrap();
                    if !is_reached {
                        stop_quota.count();
                    }
                    is_reached
                })
                .unwrap_or(1000)
        };
        assert_eq!(accept_until_reached(false, 5), 1000, "without a stop there is no end");
        let accepted = accept_until_reached(true, 5);
        assert!((5..5 + CHECK_EVERY).contains(&accepted), "{accepted}");
        assert_eq!(accept_until_reached(true, 5), 0, "it stays so");
        assert_eq!(accept_until_reached(false, 5), 1000, "until the stop is revoked");
        let accepted = accept_until_reached(true, 1000);
        assert!(
            (65..65 + CHECK_EVERY).contains(&accepted),
            "more than there are places: {accepted}"
        );
    }
}
