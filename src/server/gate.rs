//! How many connections are served, and what they have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Lets in as many connections as are allowed at a time.
#[derive(Debug)]
pub(super) struct Gate {
    limit: usize,
    inside: AtomicUsize,
    pub(super) tally: Tally,
}

/// What the connections have done, all added up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) connections: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) panics: AtomicU64,
}

/// Adds to a counter of the tally.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    // ord: Relaxed; a statistic, exact once the tasks that count have been joined.
    counter.fetch_add(more, Ordering::Relaxed);
}

/// One connection's place inside. Dropped with the connection's closure.
#[derive(Debug)]
pub(super) struct Place(Arc<Gate>);

impl Gate {
    pub(super) fn new(limit: usize) -> Gate {
        Gate { limit, inside: AtomicUsize::new(0), tally: Tally::default() }
    }

    /// A place inside, if there is one.
    pub(super) fn enter(self: &Arc<Gate>) -> Option<Place> {
        // ord: Relaxed; the count admits, it does not publish anything.
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        // Too many: dropping the place takes the count back.
        (before < self.limit).then_some(place)
    }
}

impl Place {
    /// Adds one connection's bytes to the tally.
    pub(super) fn count_bytes(&self, received: u64, sent: u64) {
        count(&self.0.tally.bytes_in, received);
        count(&self.0.tally.bytes_out, sent);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // ord: Relaxed, as above.
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_left_can_be_taken_again_and_a_refusal_takes_none() {
        let gate = Arc::new(Gate::new(1));
        let first = gate.enter().expect("an empty gate lets one in");
        assert!(gate.enter().is_none());
        assert!(gate.enter().is_none());
        drop(first);
        assert!(gate.enter().is_some());
    }
}
