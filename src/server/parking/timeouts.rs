//! The timeouts of connections that have no thread.
//!
//! No call waits for a parked connection, so none can time out. A connection that waits has one entry here, at
//! the time when it would have waited for too long. When that time has come, and something happened since,
//! the entry moves. A turn therefore costs one store.
//!
//! Entries of connections that have ended stay until their time comes, or until there are more of them than of
//! others: otherwise short connections with a long timeout would fill the memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slotmap::DefaultKey;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    /// Input.
    Input,
    /// Room for what could not be sent.
    Room,
}

/// The number of entries up to which those of ended connections are not removed.
const KEPT: usize = 64;

/// The times at which connections are checked, the earliest first. Times are those of the lot's clock.
#[derive(Debug)]
pub(super) struct Timeouts {
    checks: BinaryHeap<Reverse<(u64, DefaultKey, Awaited)>>,
    /// With more entries than this, those of ended connections are removed.
    prune_above: usize,
}

impl Timeouts {
    pub(super) fn new() -> Timeouts {
        Timeouts { checks: BinaryHeap::new(), prune_above: KEPT }
    }

    /// Checks this connection at this time.
    pub(super) fn watch(&mut self, at: u64, connection: DefaultKey, awaited: Awaited) {
        self.checks.push(Reverse((at, connection, awaited)));
    }

    /// The time of the next check.
    pub(super) fn next(&self) -> Option<u64> {
        self.checks.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next connection whose time has come.
    pub(super) fn due(&mut self, now: u64) -> Option<(DefaultKey, Awaited)> {
        if self.next()? > now {
            return None;
        }
        self.checks.pop().map(|Reverse((_, connection, awaited))| (connection, awaited))
    }

    /// Whether there may be more entries of ended connections than of others.
    pub(super) fn is_to_be_pruned(&self) -> bool {
        self.checks.len() > self.prune_above
    }

    /// Removes the entries of ended connections.
    pub(super) fn prune(&mut self, is_open: impl Fn(DefaultKey) -> bool) {
        self.checks.retain(|Reverse((_, connection, _))| is_open(*connection));
        self.prune_above = KEPT.max(2 * self.checks.len());
        self.checks.shrink_to(self.prune_above);
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    #[test]
    fn connections_are_due_in_the_order_of_their_times() {
        let mut keys = SlotMap::new();
        let [a, b, c] = [(); 3].map(|()| keys.insert(()));
        let mut timeouts = Timeouts::new();
        assert_eq!((timeouts.next(), timeouts.due(u64::MAX)), (None, None));
        timeouts.watch(30, a, Awaited::Input);
        timeouts.watch(10, b, Awaited::Room);
        timeouts.watch(20, c, Awaited::Input);
        assert_eq!((timeouts.next(), timeouts.due(9)), (Some(10), None));
        assert_eq!(timeouts.due(20), Some((b, Awaited::Room)));
        assert_eq!([timeouts.due(20), timeouts.due(20)], [Some((c, Awaited::Input)), None]);
        timeouts.watch(25, b, Awaited::Input);
        assert_eq!(timeouts.due(40), Some((b, Awaited::Input)));
        assert_eq!(timeouts.due(40), Some((a, Awaited::Input)));
    }

    #[test]
    fn short_connections_with_a_long_timeout_take_no_memory() {
        let mut keys = SlotMap::new();
        let long = keys.insert(());
        let mut timeouts = Timeouts::new();
        timeouts.watch(1, long, Awaited::Input);
        for time in 0..10_000 {
            let short = keys.insert(());
            timeouts.watch(1_000_000 + time, short, Awaited::Input);
            keys.remove(short);
            if timeouts.is_to_be_pruned() {
                timeouts.prune(|key| keys.contains_key(key));
            }
        }
        assert!(timeouts.checks.len() <= KEPT + 1, "{}", timeouts.checks.len());
        assert!(timeouts.checks.capacity() <= 4 * KEPT, "{}", timeouts.checks.capacity());
        assert_eq!(timeouts.due(1), Some((long, Awaited::Input)));
    }
}
