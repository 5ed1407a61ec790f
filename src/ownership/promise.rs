//! What a parent holds of its child: the right, and the duty, to join or cancel it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use echown_report::{Site, TaskLabel};

use super::closing::drop_catching;
use super::error::{Error, ErrorKind, Refused};
use super::record::Managed;
use super::registry::{Registry, Resource};
use super::task::{JoinDuty, Task};
use super::task_error::TaskError;
use super::task_exit;
use super::{error, task};

type Outcome<T> = Arc<Mutex<Pending<T>>>;

/// What has become of a child's outcome.
enum Pending<T> {
    /// The child has not ended, or it ended without one: it was cancelled before it ran.
    Nothing,
    Ready(Result<T, TaskError<T>>),
    /// Taken, or the promise is gone: what comes now is dropped where it comes from.
    Closed,
}

impl<T> Pending<T> {
    /// Stores the outcome for the holder of the promise. If there is none, drops it in the name of
    /// the current task: its own, which is at its end.
    fn deliver(pending: &Mutex<Pending<T>>, task: &Task, outcome: Result<T, TaskError<T>>) {
        let mut pending = lock(pending);
        if matches!(*pending, Pending::Nothing) {
            *pending = Pending::Ready(outcome);
        } else {
            // Not under the lock: the value's destructor is the user's.
            drop(pending);
            task.discard_result(outcome);
        }
    }

    fn close(pending: &Mutex<Pending<T>>) -> Option<Result<T, TaskError<T>>> {
        match std::mem::replace(&mut *lock(pending), Pending::Closed) {
            Pending::Ready(outcome) => Some(outcome),
            Pending::Nothing | Pending::Closed => None,
        }
    }
}

/// A child's outcome, to come.
///
/// Only the parent may [`join`](Promise::join) or [`cancel`](Promise::cancel). Dropping a promise
/// forgets the child: the parent's own outcome will be
/// [`UnjoinedChildren`](TaskError::UnjoinedChildren).
#[must_use = "a child whose promise is dropped is forgotten: join it, cancel it, or hand it to an `Orphans`"]
pub struct Promise<T> {
    task: Arc<Task>,
    outcome: Outcome<T>,
    registry: Registry,
}

/// The work of a child that waits for a thread. Dropped without having run, it ends the child as
/// cancelled: what the child was given is finalized then and there.
pub(crate) struct Work(Arc<Task>);

impl Work {
    /// Runs the child to its end on this thread.
    pub(crate) fn run(self) {
        self.0.execute();
    }

    /// Whether the child was cancelled before it had a thread.
    pub(crate) fn is_abandoned(&self) -> bool {
        !self.0.has_job()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Does nothing when it has run.
        self.0.abandon();
    }
}

/// A child that is made but not yet started; starting it may still fail without a loss.
pub(crate) struct UnstartedChild<T, F> {
    promise: Promise<T>,
    closure: Arc<Mutex<Option<F>>>,
    given: Vec<Arc<dyn Managed>>,
    site: Site,
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> UnstartedChild<T, F> {
    /// Makes a child of `parent`, which is the current task unless said otherwise, and gives it
    /// things of the current task's.
    ///
    /// # Errors
    /// Something cannot be given; nothing has moved, and the closure comes back.
    pub(crate) fn new(
        registry: &Registry,
        parent: Option<&Arc<Task>>,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        closure: F,
        site: Site,
    ) -> Result<UnstartedChild<T, F>, Refused<F>> {
        let given: Vec<Arc<dyn Managed>> = give.into_iter().map(Resource::into_managed).collect();
        let task = match task::make_child(registry, parent, name, &given, JoinDuty::Promise, site) {
            Ok(task) => task,
            Err(error) => return Err(Refused::new(error, Some(closure))),
        };
        let closure = Arc::new(Mutex::new(Some(closure)));
        let outcome = Arc::new(Mutex::new(Pending::Nothing));
        let promise = Promise { task, outcome: Arc::clone(&outcome), registry: registry.clone() };
        let to_run = Arc::clone(&closure);
        promise.task.set_job(move |task| {
            let closure = lock(&to_run).take();
            let Some(closure) = closure else {
                unreachable!("a child that runs was started, and so was not undone")
            };
            task_exit::run(task, closure, |ended| Pending::deliver(&outcome, task, ended));
        });
        Ok(UnstartedChild { promise, closure, given, site })
    }

    /// The work, for whichever thread is to run it.
    pub(crate) fn work(&self) -> Work {
        Work(Arc::clone(&self.promise.task))
    }

    /// It has a thread.
    pub(crate) fn started(self) -> Promise<T> {
        self.promise
    }

    /// It could not be started: what was given comes back to the parent, and so does the closure.
    pub(crate) fn undo(self) -> Option<F> {
        let closure = lock(&self.closure).take();
        let Promise { task, registry, .. } = &self.promise;
        task::undo_make_child(registry, task, &self.given, self.site);
        closure
    }
}

fn lock<V>(mutex: &Mutex<V>) -> std::sync::MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Promise<T> {
    /// The child's id and name.
    #[must_use]
    pub fn task(&self) -> TaskLabel {
        self.task.label()
    }

    /// Whether the child is over, finalizers and grandchildren included.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.has_ended()
    }

    /// Waits for the child's end, finalizers and grandchildren included.
    ///
    /// Once: the promise is consumed.
    /// ```compile_fail,E0382
    /// let child = echown::thread::spawn([], || 7).unwrap();
    /// let first = child.join();
    /// let second = child.join();
    /// ```
    ///
    /// # Errors
    /// Every end other than the value alone; see [`TaskError`]. [`TaskError::Refused`] gives the
    /// promise back: the current task is not the parent, or was cancelled while it waited.
    #[track_caller]
    pub fn join(self) -> Result<T, TaskError<T>> {
        let site = Site::here();
        let me = match self.as_parent(site) {
            Ok(me) => me,
            Err(error) => return Err(TaskError::Refused(self, error)),
        };
        me.wait_until(|| self.task.has_ended() || me.is_cancelled(), None);
        if !self.task.has_ended() {
            let error = me.refusal(ErrorKind::Cancelled, None, site);
            return Err(TaskError::Refused(self, error));
        }
        self.take_outcome(&me)
    }

    /// Waits for the child's end, at most until `deadline`. False when it has not ended by then.
    ///
    /// # Errors
    /// `NotAChild`: the current task is not the parent. `Cancelled`: it was cancelled while it
    /// waited.
    #[track_caller]
    pub fn wait_until(&self, deadline: Instant) -> Result<bool, Error> {
        let site = Site::here();
        let me = self.as_parent(site)?;
        me.wait_until(|| self.task.has_ended() || me.is_cancelled(), Some(deadline));
        if !self.task.has_ended() && me.is_cancelled() {
            return Err(me.refusal(ErrorKind::Cancelled, None, site));
        }
        Ok(self.task.has_ended())
    }

    /// Cancels the child and waits for its end.
    ///
    /// A child that has ended already keeps its outcome. One that never started finalizes what
    /// it was given on this thread.
    ///
    /// # Errors
    /// As [`join`](Promise::join); usually [`TaskError::Cancelled`].
    #[track_caller]
    pub fn cancel(self) -> Result<T, TaskError<T>> {
        let me = match self.as_parent(Site::here()) {
            Ok(me) => me,
            Err(error) => return Err(TaskError::Refused(self, error)),
        };
        self.task.cancel_and_wait(&me);
        self.take_outcome(&me)
    }

    /// Asks the child to end, without waiting: the first half of [`cancel`](Promise::cancel), for
    /// whoever has several to end at once.
    ///
    /// # Errors
    /// The current task is not the parent.
    #[track_caller]
    pub fn request_cancel(&self) -> Result<(), Error> {
        self.as_parent(Site::here())?;
        self.task.request_cancel();
        Ok(())
    }

    /// Ends the reading of every stream that the child owns: it reads what has arrived, and then
    /// the end of the stream. A soft way of asking an exchange to finish.
    ///
    /// # Errors
    /// The current task is not the parent.
    #[track_caller]
    pub fn drain(&self) -> Result<(), Error> {
        self.as_parent(Site::here())?;
        self.task.request_drain();
        Ok(())
    }

    /// The current task, if it is the parent.
    fn as_parent(&self, site: Site) -> Result<Arc<Task>, Error> {
        let me = task::current(&self.registry);
        // In a forked child a task of the parent process's is nobody's.
        let parent = if self.task.is_of_this_process() { self.task.parent() } else { None };
        if parent.as_ref().is_some_and(|parent| parent.id() == me.id()) {
            return Ok(me);
        }
        let error = error::Error::new(error::ErrorData {
            kind: ErrorKind::NotAChild,
            subject: None,
            actor: me.label(),
            owner: parent.map(|parent| parent.label()),
            earlier: Some(self.task.spawn_site()),
            end: None,
            site,
            detail: Some(self.task.label().to_string()),
        });
        self.registry.report_task_violation(&error);
        Err(error)
    }

    fn take_outcome(self, me: &Task) -> Result<T, TaskError<T>> {
        me.remove_child(&self.task);
        Pending::close(&self.outcome).unwrap_or(Err(TaskError::Cancelled))
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if !self.task.is_of_this_process() {
            return;
        }
        let pending = std::mem::replace(&mut *lock(&self.outcome), Pending::Closed);
        if matches!(pending, Pending::Closed) {
            // Joined, or taken by an `Orphans`.
            return;
        }
        if let Some(parent) = self.task.parent() {
            parent.promise_dropped(&self.task);
        }
        // Dropped here and not with the last reference to the outcome, which may be any thread's.
        if let Pending::Ready(outcome) = pending {
            drop_catching(&self.task.label(), outcome);
        }
    }
}

// What the pool's own ways of waiting need.
impl<T> Promise<T> {
    pub(crate) fn inner(&self) -> &Arc<Task> {
        &self.task
    }

    /// Takes the outcome of an ended child without a parent's rights: for an `Orphans`, which has
    /// checked its own.
    pub(crate) fn take_ended(self) -> Result<T, TaskError<T>> {
        Pending::close(&self.outcome).unwrap_or(Err(TaskError::Cancelled))
    }

    /// Checks that the current task is the parent.
    pub(crate) fn check_parent(&self, site: Site) -> Result<Arc<Task>, Error> {
        self.as_parent(site)
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.has_ended() { "ended" } else { "running" };
        write!(f, "Promise({}, {state})", self.task.label())
    }
}
