//! `StopHandle`: stops a client from any thread, and waits until its workers are done.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::stage::Signal;

/// Stops a client, from any thread. Cheap to clone; all clones stop the same client.
#[derive(Clone, Default)]
pub(crate) struct StopHandle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    signal: Option<Signal>,
    is_stopped: bool,
    /// Workers that are not done.
    working: usize,
}

impl StopHandle {
    /// The handle of a client that was not started yet.
    #[must_use]
    pub(crate) fn new() -> StopHandle {
        StopHandle::default()
    }

    /// Stops the client, because of this signal. The first one counts.
    pub(crate) fn stop(&self, signal: Signal) {
        self.state().signal.get_or_insert(signal);
        self.0.changed.notify_all();
    }

    /// Whether the workers must stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Counts a worker until the guard is dropped.
    pub(super) fn begin_work(&self) -> WorkGuard {
        self.state().working += 1;
        WorkGuard(self.clone())
    }

    /// Waits for a signal, or until every worker is done. Returns the signal.
    pub(super) fn wait_for_signal(&self) -> Option<Signal> {
        let mut state = self.state();
        while state.signal.is_none() && state.working > 0 {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.signal
    }

    /// Makes the workers stop.
    pub(super) fn stop_workers(&self) {
        self.state().is_stopped = true;
        self.0.changed.notify_all();
    }

    /// Waits until `moment`, or until the workers must stop.
    pub(super) fn wait_until(&self, moment: Instant) {
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

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StopHandle({:?})", self.state().signal)
    }
}

/// A worker that is not done.
pub(super) struct WorkGuard(StopHandle);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.0.state().working -= 1;
        self.0.0.changed.notify_all();
    }
}
