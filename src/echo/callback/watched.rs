//! A value that tasks wait for: a mutex and its condition variable, for waits that end when the
//! task is cancelled.
//!
//! A task has one condition variable, which is notified when it is cancelled. A task that waits for
//! a value waits on its own one, and is in the value's list of tasks to notify.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ownership::task::{self, Task};
use crate::ownership::{Error, ErrorKind, Registry, Site};

pub(super) struct Watched<T> {
    registry: Registry,
    value: Mutex<T>,
    waiting: Mutex<Vec<Arc<Task>>>,
}

impl<T> Watched<T> {
    /// `registry` is that of the tasks that wait.
    pub(super) fn new(registry: &Registry, value: T) -> Watched<T> {
        Watched { registry: registry.clone(), value: Mutex::new(value), waiting: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.value)
    }

    /// Changes the value, and has the waiting tasks check it.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        let waiting = lock(&self.waiting).clone();
        for task in waiting {
            task.notify();
        }
        result
    }

    /// Waits until `done` returns true, at most until `deadline`. Returns whether it has.
    ///
    /// # Errors
    /// `Cancelled`: the current task was cancelled first.
    #[track_caller]
    pub(super) fn wait(
        &self,
        deadline: Option<Instant>,
        mut done: impl FnMut(&T) -> bool,
    ) -> Result<bool, Error> {
        let site = Site::here();
        let me = task::current(&self.registry);
        // Before the first check: a later update finds this task in the list.
        lock(&self.waiting).push(Arc::clone(&me));
        let mut is_done = false;
        let mut check = || {
            is_done = done(&self.lock());
            is_done || me.is_cancelled()
        };
        me.wait_until(&mut check, deadline);
        let mut waiting = lock(&self.waiting);
        if let Some(index) = waiting.iter().position(|task| Arc::ptr_eq(task, &me)) {
            waiting.swap_remove(index);
        }
        drop(waiting);
        if !is_done && me.is_cancelled() {
            return Err(me.refusal(ErrorKind::Cancelled, None, site));
        }
        Ok(is_done)
    }
}

/// Locks even after a panic: no callback runs under these locks, and no change of what they protect
/// panics halfway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
