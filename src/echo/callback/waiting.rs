//! Waiting for another task's doing, so that a cancellation ends it.
//!
//! A task has one bell, which rings when it is cancelled. Whoever waits here waits for its own bell,
//! and leaves word that it is to be rung.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ownership::task::{self, Task};
use crate::ownership::{Error, ErrorKind, Registry, Site};

/// The tasks that wait for something.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Vec<Arc<Task>>>);

impl Waiters {
    /// Waits until `over`, which is asked anew after each [`ring`](Waiters::ring). It must not take a
    /// lock under which somebody rings.
    ///
    /// # Errors
    /// `Cancelled`: the current task was, first.
    #[track_caller]
    pub(super) fn wait(&self, registry: &Registry, over: impl Fn() -> bool) -> Result<(), Error> {
        let site = Site::here();
        if over() {
            return Ok(());
        }
        let me = task::current(registry);
        // Before the first look: whoever rings afterwards finds us.
        lock(&self.0).push(Arc::clone(&me));
        me.wait_until(|| over() || me.is_cancelled(), None);
        let mut waiting = lock(&self.0);
        if let Some(mine) = waiting.iter().position(|task| Arc::ptr_eq(task, &me)) {
            waiting.swap_remove(mine);
        }
        drop(waiting);
        if over() { Ok(()) } else { Err(me.refusal(ErrorKind::Cancelled, None, site)) }
    }

    /// Has everybody look again.
    pub(super) fn ring(&self) {
        let waiting = lock(&self.0).clone();
        for task in waiting {
            task.notify();
        }
    }
}

/// Locks also after a panic elsewhere: what is behind these locks changes in steps that cannot panic
/// halfway, and no callback runs under them.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
