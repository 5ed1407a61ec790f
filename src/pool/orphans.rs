//! Children that nobody waits for one by one.
//!
//! An `Orphans` takes over the duty of a promise. Its tasks are reaped when they end (descriptors,
//! thread and record of the task go at once), not when somebody next looks; only the outcomes are
//! kept until they are taken, or handed to a function on the spot.

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

/// How an [`Orphans`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanStatus {
    /// No task, no outcome.
    Empty,
    /// So many tasks are running, and there is no outcome to take.
    Running(usize),
    /// So many outcomes can be taken.
    Ready(usize),
}

type TaskResult<T> = Result<T, TaskError<T>>;
type Reaper<T> = Box<dyn Fn(&TaskLabel, TaskResult<T>) + Send + Sync>;

/// Takes care of children that were not joined. Belongs to the task that made it.
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
    /// Ended tasks whose outcomes are in the reaper's hands right now. They count as running:
    /// whoever waits for the last task waits for its reaping too.
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

    /// On the ended task's thread: its promise becomes an outcome.
    fn reap(&self, id: TaskId) {
        let mut state = self.state();
        let Some(promise) = state.running.remove(&id) else { return };
        let label = promise.task();
        let outcome = promise.take_ended();
        let Some(reaper) = &self.reaper else {
            // In the same step: in between, `get` would find neither the task nor its outcome.
            state.ready.push_back(outcome);
            return;
        };
        state.reaping += 1;
        drop(state);
        let reaped = catch_panic(|| reaper(&label, outcome));
        self.state().reaping -= 1;
        if let Err(panic) = reaped {
            log_catching(|| {
                tracing::error!(task = %label, "the function that reaps this task's outcome panicked: {}", escape::text(&panic));
            });
        }
    }
}

impl<T> Drop for OrphansState<T> {
    fn drop(&mut self) {
        // One by one: a destructor that panics must not keep the others from running.
        for outcome in self.ready.drain(..) {
            drop_catching(&"an outcome that was not taken", outcome);
        }
    }
}

impl<T: Send + 'static> Orphans<T> {
    /// Takes care of children of the current task; outcomes are kept until taken.
    #[must_use]
    pub fn new(registry: &Registry) -> Orphans<T> {
        Orphans::make(registry, None)
    }

    /// Takes care of children of the current task; each outcome is handed to `reaper` at once, on
    /// the thread and in the name of the task that ended, and nothing is kept. (A task that has ended before it is adopted is reaped by the adopter.)
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

    /// Takes over a child. It is nobody's duty to join it any more.
    ///
    /// # Errors
    /// `NotAChild`: the promise, or this `Orphans`, is another task's. The promise comes back.
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
        // Weak: when the `Orphans` is gone, so are the outcomes that nobody took.
        let shared: Weak<OrphansShared<T>> = Arc::downgrade(&self.shared);
        let id = child.id();
        child.set_on_end(move || {
            if let Some(shared) = shared.upgrade() {
                shared.reap(id);
            }
        });
        Ok(())
    }

    /// How it stands. Anybody may ask.
    #[must_use]
    pub fn status(&self) -> OrphanStatus {
        let state = self.shared.state();
        match (state.ready.len(), state.running()) {
            (0, 0) => OrphanStatus::Empty,
            (0, running) => OrphanStatus::Running(running),
            (ready, _) => OrphanStatus::Ready(ready),
        }
    }

    /// Tasks that are running plus outcomes that were not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.shared.state();
        state.running() + state.ready.len()
    }

    /// Whether there is neither a task nor an outcome.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes an outcome if there is one, without waiting.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` is another task's.
    #[track_caller]
    pub fn take(&self) -> Result<Option<TaskResult<T>>, Error> {
        self.as_owner(Site::here())?;
        Ok(self.shared.state().ready.pop_front())
    }

    /// Takes an outcome, waiting for one if tasks are running; `None` when there is nothing to wait
    /// for.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` is another task's. `Cancelled`: the current task was cancelled
    /// while it waited.
    #[track_caller]
    pub fn get(&self) -> Result<Option<TaskResult<T>>, Error> {
        let site = Site::here();
        let me = self.as_owner(site)?;
        self.wait(&me, |state| !state.ready.is_empty(), None, site)?;
        Ok(self.shared.state().ready.pop_front())
    }

    /// Waits until no task is running, or until the deadline. True when none is.
    ///
    /// # Errors
    /// As [`get`](Orphans::get).
    #[track_caller]
    pub fn wait_until(&self, deadline: Instant) -> Result<bool, Error> {
        let site = Site::here();
        let me = self.as_owner(site)?;
        self.wait(&me, |_| false, Some(deadline), site)?;
        Ok(self.shared.state().running() == 0)
    }

    /// Ends the reading of every stream that the running tasks own; see [`Promise::drain`].
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` is another task's.
    #[track_caller]
    pub fn drain(&self) -> Result<(), Error> {
        self.as_owner(Site::here())?;
        for task in self.running() {
            task.request_drain();
        }
        Ok(())
    }

    /// Cancels all running tasks and waits until they are over. Their outcomes are there to be taken
    /// (or were reaped).
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` is another task's.
    #[track_caller]
    pub fn cancel(&self) -> Result<(), Error> {
        self.request_cancel()?;
        self.owner.wait_until(|| self.shared.state().running() == 0, None);
        Ok(())
    }

    /// Asks all running tasks to end, without waiting.
    ///
    /// # Errors
    /// `NotAChild`: this `Orphans` is another task's.
    #[track_caller]
    pub fn request_cancel(&self) -> Result<(), Error> {
        self.as_owner(Site::here())?;
        for task in self.running() {
            task.request_cancel();
        }
        Ok(())
    }

    /// The tasks that are running, by id and name. Anybody may ask.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskLabel> {
        self.shared.state().running.values().map(Promise::task).collect()
    }

    fn running(&self) -> Vec<Arc<Task>> {
        self.shared.state().running.values().map(|promise| Arc::clone(promise.inner())).collect()
    }

    /// Waits until `done`, until nothing is running, or until the deadline.
    fn wait(
        &self,
        me: &Task,
        done: impl Fn(&OrphansState<T>) -> bool,
        deadline: Option<Instant>,
        site: Site,
    ) -> Result<(), Error> {
        let over = || {
            let state = self.shared.state();
            done(&state) || state.running() == 0
        };
        me.wait_until(|| over() || me.is_cancelled(), deadline);
        if !over() && me.is_cancelled() {
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
