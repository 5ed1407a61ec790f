//! The beginning: all workers have connected, and begin at the same moment.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    arrived: usize,
    /// When they begin; `Some(None)`: not at all.
    opened: Option<Option<u64>>,
}

impl Gate {
    /// Waits with the others. When to begin; `None`: not at all.
    pub(crate) fn arrive(&self) -> Option<u64> {
        let mut state = self.state();
        state.arrived += 1;
        self.bell.notify_all();
        loop {
            if let Some(opened) = state.opened {
                return opened;
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until so many have arrived, at most for `patience`. Whether they have.
    pub(crate) fn wait_for(&self, workers: usize, patience: Duration) -> bool {
        let waiting =
            self.bell.wait_timeout_while(self.state(), patience, |state| state.arrived < workers);
        let (state, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        state.arrived >= workers
    }

    /// Lets all of them go, also those who have not arrived yet. Only the first time counts.
    pub(crate) fn open(&self, when: Option<u64>) {
        self.state().opened.get_or_insert(when);
        self.bell.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
