//! The barrier at which all workers wait until every one has connected, so that they start together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct StartBarrier {
    state: Mutex<BarrierState>,
    changed: Condvar,
}

#[derive(Default)]
struct BarrierState {
    arrived: usize,
    /// When the workers start; `Some(None)`: they do not start at all.
    released: Option<Option<u64>>,
}

impl StartBarrier {
    /// Waits for the release. Returns the start time; `None`: do not start.
    pub(crate) fn arrive(&self) -> Option<u64> {
        let mut state = self.state();
        state.arrived += 1;
        self.changed.notify_all();
        loop {
            if let Some(released) = state.released {
                return released;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until this many workers have arrived, at most for `timeout`. Returns whether they have.
    pub(crate) fn wait_for(&self, workers: usize, timeout: Duration) -> bool {
        let waiting =
            self.changed.wait_timeout_while(self.state(), timeout, |state| state.arrived < workers);
        let (state, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        state.arrived >= workers
    }

    /// Releases all workers, also those that have not arrived yet. Only the first call counts.
    pub(crate) fn release(&self, start: Option<u64>) {
        self.state().released.get_or_insert(start);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, BarrierState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
