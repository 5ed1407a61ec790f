//! When a client stops: because it is told to, or because nobody has anything left to do.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::stage::Signal;

/// Tells a client to stop, from any thread. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    signal: Option<Signal>,
    is_stopped: bool,
    /// Those who still have something to do.
    busy: usize,
}

impl Stop {
    /// Nobody has said anything yet.
    #[must_use]
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Tells it, and why.
    pub fn give(&self, signal: Signal) {
        self.state().signal.get_or_insert(signal);
        self.0.changed.notify_all();
    }

    /// Whether everybody is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Somebody begins to do something.
    pub(crate) fn enter(&self) {
        self.state().busy += 1;
    }

    /// Somebody is done.
    pub(crate) fn leave(&self) {
        self.state().busy -= 1;
        self.0.changed.notify_all();
    }

    /// Waits for a signal, or until everybody is done; answers the signal.
    pub(crate) fn wait_for_all(&self) -> Option<Signal> {
        let mut state = self.state();
        while state.signal.is_none() && state.busy > 0 {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.signal
    }

    /// Everybody is to stop.
    pub(crate) fn stop_all(&self) {
        self.state().is_stopped = true;
        self.0.changed.notify_all();
    }

    /// Waits until then, or until everybody is to stop.
    pub(crate) fn wait_until(&self, moment: Instant) {
        let mut state = self.state();
        while !state.is_stopped {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({:?})", self.state().signal)
    }
}
