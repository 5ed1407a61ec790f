//! `Promise`, a `JoinHandle` that may not be ignored: the right and the duty to join or cancel a child.

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

type SharedResult<T> = Arc<Mutex<Pending<T>>>;

/// The result of a child, as its promise sees it.
enum Pending<T> {
    /// The child has not ended, or it was cancelled before it ran.
    Nothing,
    Ready(Result<T, TaskError<T>>),
    /// The result was taken, or the promise was dropped. A later result is dropped by the child.
    Closed,
}

impl<T> Pending<T> {
    /// Stores the result for the holder of the promise. If the promise was dropped, drops the result in
    /// `task`, the child, which is exiting.
    fn deliver(pending: &Mutex<Pending<T>>, task: &Task, result: Result<T, TaskError<T>>) {
        let mut pending = lock(pending);
        if matches!(*pending, Pending::Nothing) {
            *pending = Pending::Ready(result);
        } else {
            // Not under the lock: the value's destructor is user code.
            drop(pending);
            task.discard_result(result);
        }
    }

    fn close(pending: &Mutex<Pending<T>>) -> Option<Result<T, TaskError<T>>> {
        match std::mem::replace(&mut *lock(pending), Pending::Closed) {
            Pending::Ready(result) => Some(result),
            Pending::Nothing | Pending::Closed => None,
        }
    }
}

/// A `JoinHandle` that may not be ignored: the future result of a child.
///
/// Only the parent may [`join`](Promise::join) or [`cancel`](Promise::cancel) the child. Dropping a
/// promise leaves the child unjoined: the parent's own result will be
/// [`UnjoinedChildren`](TaskError::UnjoinedChildren).
#[must_use = "a child whose promise is dropped is unjoined: join it, cancel it, or hand it to an `Orphans`"]
pub struct Promise<T> {
    task: Arc<Task>,
    result: SharedResult<T>,
    registry: Registry,
}

/// The work of a child that waits for a thread. Dropping it before it ran ends the child as cancelled,
/// and finalizes on the dropping thread what the child was given.
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
        // Does nothing if the work has run.
        self.0.abandon();
    }
}

/// A child that was created but not started. If the start fails, [`undo`](UnstartedChild::undo) returns
/// everything.
pub(crate) struct UnstartedChild<T, F> {
    promise: Promise<T>,
    closure: Arc<Mutex<Option<F>>>,
    given: Vec<Arc<dyn Managed>>,
    site: Site,
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> UnstartedChild<T, F> {
    /// Creates a child of `parent` (default: the current task) and gives it resources of the current
    /// task.
    ///
    /// # Errors
    /// A resource cannot be given. Nothing has moved, and the error contains the closure.
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
        let result = Arc::new(Mutex::new(Pending::Nothing));
        let promise = Promise { task, result: Arc::clone(&result), registry: registry.clone() };
        let to_run = Arc::clone(&closure);
        promise.task.set_job(move |task| {
            let closure = lock(&to_run).take();
            let Some(closure) = closure else {
                unreachable!("a child that runs was started, and therefore not undone")
            };
            task_exit::run(task, closure, |ended| Pending::deliver(&result, task, ended));
        });
        Ok(UnstartedChild { promise, closure, given, site })
    }

    /// The work, for the thread that will run it.
    pub(crate) fn work(&self) -> Work {
        Work(Arc::clone(&self.promise.task))
    }

    /// The promise, after the work has got a thread.
    pub(crate) fn into_promise(self) -> Promise<T> {
        self.promise
    }

    /// Undoes the creation: returns the resources to the parent, and the closure to the caller.
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

    /// Whether the child has ended, including its finalizers and its children.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.has_ended()
    }

    /// Waits until the child has ended, including its finalizers and its children, and returns its result.
    ///
    /// This consumes the promise, so a child is joined once:
    /// ```compile_fail,E0382
    /// let child = echown::thread::spawn([], || 7).unwrap();
    /// let first = child.join();
    /// let second = child.join();
    /// ```
    ///
    /// # Errors
    /// The child did not end with its value alone; see [`TaskError`]. [`TaskError::Refused`] returns the
    /// promise: the current task is not the parent, or was cancelled while it waited.
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
        self.take_result(&me)
    }

    /// Waits until the child has ended, at most until `deadline`. Returns whether it has ended.
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

    /// Cancels the child and waits until it has ended.
    ///
    /// A child that has already ended keeps its result. If the child never started, its given
    /// resources are finalized on this thread.
    ///
    /// # Errors
    /// See [`join`](Promise::join); usually [`TaskError::Cancelled`].
    #[track_caller]
    pub fn cancel(self) -> Result<T, TaskError<T>> {
        let me = match self.as_parent(Site::here()) {
            Ok(me) => me,
            Err(error) => return Err(TaskError::Refused(self, error)),
        };
        self.task.cancel_and_wait(&me);
        self.take_result(&me)
    }

    /// Requests the cancellation of the child, without waiting: the first part of
    /// [`cancel`](Promise::cancel), for a task that cancels several children at once.
    ///
    /// # Errors
    /// The current task is not the parent.
    #[track_caller]
    pub fn request_cancel(&self) -> Result<(), Error> {
        self.as_parent(Site::here())?;
        self.task.request_cancel();
        Ok(())
    }

    /// Shuts down reading on every stream that the child owns: the child reads what has arrived, and
    /// then the end of the stream. This asks a connection to finish without cutting it off.
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
        // In a forked child, tasks of the parent process have no parent.
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

    fn take_result(self, me: &Task) -> Result<T, TaskError<T>> {
        me.remove_child(&self.task);
        Pending::close(&self.result).unwrap_or(Err(TaskError::Cancelled))
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if !self.task.is_of_this_process() {
            return;
        }
        let pending = std::mem::replace(&mut *lock(&self.result), Pending::Closed);
        if matches!(pending, Pending::Closed) {
            // Joined, or taken by an `Orphans`.
            return;
        }
        if let Some(parent) = self.task.parent() {
            parent.promise_dropped(&self.task);
        }
        // Dropped here, and not with the last reference to the result, which any thread may hold.
        if let Pending::Ready(result) = pending {
            drop_catching(&self.task.label(), result);
        }
    }
}

// For the pool's functions that wait.
impl<T> Promise<T> {
    pub(crate) fn inner(&self) -> &Arc<Task> {
        &self.task
    }

    /// Takes the result of an ended child without checking that the current task is the parent: for an
    /// `Orphans`, which has checked its owner.
    pub(crate) fn take_ended(self) -> Result<T, TaskError<T>> {
        Pending::close(&self.result).unwrap_or(Err(TaskError::Cancelled))
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
