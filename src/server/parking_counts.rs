//! Counters of parked connections, and of those whose clients do not read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::end_counts::count;

/// Counts over all lots of a server.
#[derive(Debug, Default)]
pub(super) struct ParkingCounter {
    /// Workers add to this in any order, so it may be below 0 for a moment.
    parked: AtomicI64,
    parks: AtomicU64,
    blocked: AtomicI64,
}

/// The numbers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
pub(crate) struct ParkingCounts {
    /// Connections that wait without a thread.
    pub(crate) parked: u64,
    /// How often a connection was parked.
    pub(crate) parks: u64,
    /// Those of them that wait for their clients to read.
    pub(crate) blocked: u64,
}

/// What a worker counts in one round, so that a turn does not write to memory that all workers share.
#[derive(Debug, Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(super) struct Tally {
    parked: i64,
    parks: u64,
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
impl Tally {
    pub(super) fn park(&mut self) {
        self.parked += 1;
        self.parks += 1;
    }

    pub(super) fn unpark(&mut self) {
        self.parked -= 1;
    }
}

impl ParkingCounter {
    /// Adds what a task has counted, and clears that.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(super) fn add(&self, tally: &mut Tally) {
        let Tally { parked, parks } = std::mem::take(tally);
        if parked != 0 {
            // ord: Relaxed; a statistic.
            self.parked.fetch_add(parked, Ordering::Relaxed);
        }
        if parks != 0 {
            count(&self.parks, parks);
        }
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(super) fn blocked(&self) {
        // ord: Relaxed; a statistic.
        self.blocked.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(super) fn unblocked(&self) {
        // ord: Relaxed; a statistic.
        self.blocked.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn counts(&self) -> ParkingCounts {
        let positive = |number: i64| u64::try_from(number).unwrap_or(0);
        // ord: Relaxed; statistics.
        ParkingCounts {
            parked: positive(self.parked.load(Ordering::Relaxed)),
            parks: self.parks.load(Ordering::Relaxed),
            blocked: positive(self.blocked.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_added_once_and_the_order_of_tallies_does_not_matter() {
        let counter = ParkingCounter::default();
        let [mut parks, mut unparks] = [(); 2].map(|()| Tally::default());
        (0..3).for_each(|_| parks.park());
        (0..2).for_each(|_| unparks.unpark());
        counter.add(&mut unparks);
        assert_eq!(counter.counts().parked, 0, "never below");
        counter.add(&mut parks);
        counter.add(&mut parks);
        counter.blocked();
        let expected = ParkingCounts { parked: 1, parks: 3, blocked: 1 };
        assert_eq!(counter.counts(), expected);
        counter.unblocked();
        assert_eq!(counter.counts().blocked, 0);
    }
}
