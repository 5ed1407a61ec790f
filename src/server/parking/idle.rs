//! The idle timeouts of parked connections.
//!
//! No call waits for a parked connection, so none can time out. Each connection has one entry here, at the
//! time when it would have been idle for too long. When that time has come, and there was a turn since, the
//! entry moves. A turn therefore costs one store, and a connection one entry per timeout.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slotmap::DefaultKey;

/// The times at which connections are checked, the earliest first. Times are those of the lot's clock.
#[derive(Debug, Default)]
pub(super) struct IdleTimeouts {
    checks: BinaryHeap<Reverse<(u64, DefaultKey)>>,
}

impl IdleTimeouts {
    /// Checks this connection at this time.
    pub(super) fn watch(&mut self, at: u64, connection: DefaultKey) {
        self.checks.push(Reverse((at, connection)));
    }

    /// The time of the next check.
    pub(super) fn next(&self) -> Option<u64> {
        self.checks.peek().map(|Reverse((at, _))| *at)
    }

    /// The next connection whose time has come.
    pub(super) fn due(&mut self, now: u64) -> Option<DefaultKey> {
        if self.next()? > now {
            return None;
        }
        self.checks.pop().map(|Reverse((_, connection))| connection)
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
        let mut idle = IdleTimeouts::default();
        assert_eq!((idle.next(), idle.due(u64::MAX)), (None, None));
        idle.watch(30, a);
        idle.watch(10, b);
        idle.watch(20, c);
        assert_eq!((idle.next(), idle.due(9)), (Some(10), None));
        assert_eq!([idle.due(20), idle.due(20), idle.due(20)], [Some(b), Some(c), None]);
        idle.watch(25, b);
        assert_eq!([idle.due(40), idle.due(40), idle.due(40)], [Some(b), Some(a), None]);
    }
}
