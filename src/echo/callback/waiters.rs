//! A condition variable for tasks: a wait that ends when the task is cancelled.
//!
//! A task has one condition variable, which is notified when it is cancelled. A task that waits here
//! waits on its own one, and is in the list of those to notify.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ownership::task::{self, Task};
use crate::ownership::{Error, ErrorKind, Registry, Site};

/// The tasks that wait for a condition.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Vec<Arc<Task>>>);

impl Waiters {
    /// Waits until `done` returns true; it is called again after each [`notify`](Waiters::notify). It
    /// must not take a lock that is held during a notification.
    ///
    /// # Errors
    /// `Cancelled`: the current task was cancelled first.
    #[track_caller]
    pub(super) fn wait(&self, registry: &Registry, done: impl Fn() -> bool) -> Result<(), Error> {
        let site = Site::here();
        if done() {
            return Ok(());
        }
        let me = task::current(registry);
        // Before the next check: a later notification finds this task in the list.
        lock(&self.0).push(Arc::clone(&me));
        me.wait_until(|| done() || me.is_cancelled(), None);
        let mut waiting = lock(&self.0);
        if let Some(index) = waiting.iter().position(|task| Arc::ptr_eq(task, &me)) {
            waiting.swap_remove(index);
        }
        drop(waiting);
        if done() { Ok(()) } else { Err(me.refusal(ErrorKind::Cancelled, None, site)) }
    }

    /// Has every waiting task check its condition.
    pub(super) fn notify(&self) {
        let waiting = lock(&self.0).clone();
        for task in waiting {
            task.notify();
        }
    }
}

/// Locks even after a panic: no callback runs under these locks, and no change of what they protect
/// panics halfway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
