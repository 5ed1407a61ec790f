//! `Orphans`, a `JoinSet` that reaps: a set of children that are not joined one by one.
//!
//! An `Orphans` takes over the duty to join a promise. It reaps a task when the task ends, not at the
//! next call: the descriptors, the thread and the record of the task are freed at once. Results are
//! kept until they are taken, or passed to a function immediately.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use echown_fd::escape;

use crate::ownership::closing::{catch_panic, drop_catching, log_catching};
use crate::ownership::task::{self, JoinDuty, Task};
use crate::ownership::{
    Error, ErrorKind, Promise, Refused, Registry, Site, TaskError, TaskId, TaskLabel,
};

type TaskResult<T> = Result<T, TaskError<T>>;
type Reaper<T> = Box<dyn Fn(&TaskLabel, TaskResult<T>) + Send + Sync>;

/// A set of children that reaps them when they end. It belongs to the task that created it.
///
/// # Examples
/// ```
/// use echown::pool::{Orphans, Pool};
///
/// let pool = Pool::new();
/// let orphans = Orphans::new(pool.registry());
/// for n in 1..=3 {
///     orphans.adopt(pool.spawn([], move || n * n)?)?;
/// }
/// let mut squares = Vec::new();
/// while let Some(square) = orphans.get()? {
///     squares.push(square?);
/// }
/// squares.sort();
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Orphans<T> {
    owner: Arc<Task>,
    registry: Registry,
    shared: Arc<OrphansShared<T>>,
}

struct OrphansShared<T> {
    state: Mutex<OrphansState<T>>,
    reaper: Option<Reaper<T>>,
}

struct OrphansState<T> {
    running: BTreeMap<TaskId, Promise<T>>,
    /// Ended tasks whose results are being passed to the reaper. They count as running, so that a wait
    /// for the last task also waits for its reaper.
    reaping: usize,
    ready: VecDeque<TaskResult<T>>,
}

impl<T> OrphansState<T> {
    fn running(&self) -> usize {
        self.running.len() + self.reaping
    }
}

impl<T> OrphansShared<T> {
    fn state(&self) -> MutexGuard<'_, OrphansState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the promise of an ended task by its result. Runs on that task's thread.
    fn reap(&self, id: TaskId) {
        let mut state = self.state();
        let Some(promise) = state.running.remove(&id) else { return };
        let label = promise.task();
        let result = promise.take_ended();
        let Some(reaper) = &self.reaper else {
            // Under the same lock as the removal: otherwise `get` could find neither the task nor its result.
            state.ready.push_back(result);
            return;
        };
        state.reaping += 1;
        drop(state);
        let reaped = catch_panic(|| reaper(&label, result));
        self.state().reaping -= 1;
        if let Err(panic) = reaped {
            log_catching(|| {
                tracing::error!(task = %label, "the function that reaps this task's result panicked: {}", escape::text(&panic));
            });
        }
    }
}

impl<T> Drop for OrphansState<T> {
    fn drop(&mut self) {
        // One by one, so that a panic in one destructor does not skip the others.
        for result in self.ready.drain(..) {
            drop_catching(&"a result that was not taken", result);
        }
    }
}

impl<T: Send + 'static> Orphans<T> {
    /// An empty set for children of the current task. It keeps results until they are taken.
    #[must_use]
    pub fn new(registry: &Registry) -> Orphans<T> {
        Orphans::make(registry, None)
    }

    /// An empty set for children of the current task. It keeps no results: it passes each one to
    /// `reaper` on the thread of the task that ended, as that task. A task that has already ended when
    /// it is adopted is reaped on the adopting thread.
    #[must_use]
    pub fn reaped_by(
        registry: &Registry,
        reaper: impl Fn(&TaskLabel, TaskResult<T>) + Send + Sync + 'static,
    ) -> Orphans<T> {
        Orphans::make(registry, Some(Box::new(reaper)))
    }

    fn make(registry: &Registry, reaper: Option<Reaper<T>>) -> Orphans<T> {
        let state = Mutex::new(OrphansState {
            running: BTreeMap::new(),
            reaping: 0,
            ready: VecDeque::new(),
        });
        Orphans {
            owner: task::current(registry),
            registry: registry.clone(),
            shared: Arc::new(OrphansShared { state, reaper }),
        }
    }

    /// Takes over a child, which then does not have to be joined.
    ///
    /// # Errors
    /// `NotAChild`: the promise or this `Orphans` belongs to another task. The error contains the
    /// promise.
    #[track_caller]
    pub fn adopt(&self, promise: Promise<T>) -> Result<(), Refused<Promise<T>>> {
        let site = Site::here();
        let me = match self.as_owner(site).and_then(|_| promise.check_parent(site)) {
            Ok(me) => me,
            Err(error) => return Err(Refused::new(error, Some(promise))),
        };
        let child = Arc::clone(promise.inner());
        self.shared.state().running.insert(child.id(), promise);
        me.set_duty(&child, JoinDuty::Reaped);
        // Weak: the results that were not taken are dropped with the `Orphans`.
        let shared: Weak<OrphansShared<T>> = Arc::downgrade(&self.shared);
        let id = child.id();
        child.set_on_end(move || {
            if let Some(shared) = shared.upgrade() {
                shared.reap(id);
            }
        });
        Ok(())
    }

    /// The number of results that can be taken. Any task may call this.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared.state().ready.len()
    }

    /// The number of running tasks plus the number of results that were not taken. Any task may call
    /// this.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.shared.state();
        state.running() + state.ready.len()
    }

    /// Whether no task is running and no result is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a result if one is ready, without waiting.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` belongs to another task.
    #[track_caller]
    pub fn take(&self) -> Result<Option<TaskResult<T>>, Error> {
        self.as_owner(Site::here())?;
        Ok(self.shared.state().ready.pop_front())
    }

    /// Takes a result, and waits for one while tasks are running. `None`: no task is running and no
    /// result is ready.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` belongs to another task. `Cancelled`: the current task was cancelled
    /// while it waited.
    #[track_caller]
    pub fn get(&self) -> Result<Option<TaskResult<T>>, Error> {
        let site = Site::here();
        let me = self.as_owner(site)?;
        self.wait(&me, |state| !state.ready.is_empty(), None, site)?;
        Ok(self.shared.state().ready.pop_front())
    }

    /// Waits until no task is running, at most until `deadline`. Returns whether no task is running.
    ///
    /// # Errors
    /// See [`get`](Orphans::get).
    #[track_caller]
    pub fn wait_until(&self, deadline: Instant) -> Result<bool, Error> {
        let site = Site::here();
        let me = self.as_owner(site)?;
        self.wait(&me, |_| false, Some(deadline), site)?;
        Ok(self.shared.state().running() == 0)
    }

    /// Shuts down reading on every stream that the running tasks own; see [`Promise::drain`].
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` belongs to another task.
    #[track_caller]
    pub fn drain(&self) -> Result<(), Error> {
        self.as_owner(Site::here())?;
        for task in self.running() {
            task.request_drain();
        }
        Ok(())
    }

    /// Cancels all running tasks and waits until they have ended. Their results are ready then, or were
    /// reaped.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` belongs to another task.
    #[track_caller]
    pub fn cancel(&self) -> Result<(), Error> {
        self.request_cancel()?;
        self.owner.wait_until(|| self.shared.state().running() == 0, None);
        Ok(())
    }

    /// Requests the cancellation of all running tasks, without waiting.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` belongs to another task.
    #[track_caller]
    pub fn request_cancel(&self) -> Result<(), Error> {
        self.as_owner(Site::here())?;
        for task in self.running() {
            task.request_cancel();
        }
        Ok(())
    }

    /// The labels of the running tasks. Any task may call this.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskLabel> {
        self.shared.state().running.values().map(Promise::task).collect()
    }

    fn running(&self) -> Vec<Arc<Task>> {
        self.shared.state().running.values().map(|promise| Arc::clone(promise.inner())).collect()
    }

    /// Waits until `done` returns true, no task is running, or the deadline has passed.
    fn wait(
        &self,
        me: &Task,
        done: impl Fn(&OrphansState<T>) -> bool,
        deadline: Option<Instant>,
        site: Site,
    ) -> Result<(), Error> {
        let is_done = || {
            let state = self.shared.state();
            done(&state) || state.running() == 0
        };
        me.wait_until(|| is_done() || me.is_cancelled(), deadline);
        if !is_done() && me.is_cancelled() {
            return Err(me.refusal(ErrorKind::Cancelled, None, site));
        }
        Ok(())
    }

    fn as_owner(&self, site: Site) -> Result<Arc<Task>, Error> {
        let me = task::current(&self.registry);
        if me.id() == self.owner.id() {
            return Ok(me);
        }
        let error = me.refusal(ErrorKind::NotAChild, Some(self.owner.label()), site);
        self.registry.report_task_violation(&error);
        Err(error)
    }
}

impl<T> fmt::Debug for Orphans<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        write!(f, "Orphans({} running, {} ready)", state.running(), state.ready.len())
    }
}
