//! `Promise`, a `JoinHandle` that may not be ignored: the right and the duty to join or cancel a child.

mod task_error;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use echown_report::{Site, TaskLabel};

use super::closing::drop_catching;
use super::error::{Error, ErrorKind};
use super::registry::Registry;
use super::task::Task;
use super::{error, task};

pub use task_error::{JoinFlatError, Panic, TaskError, UnjoinedChildren};

type SharedResult<T> = Arc<Mutex<Pending<T>>>;

/// The result of a child, as its promise sees it.
pub(super) enum Pending<T> {
    /// The child has not ended, or it was cancelled before it ran.
    Nothing,
    Ready(Result<T, TaskError<T>>),
    /// The result was taken, or the promise was dropped. A later result is dropped by the child.
    Closed,
}

impl<T> Pending<T> {
    /// Stores the result for the holder of the promise. If the promise was dropped, drops the result in
    /// `task`, the child, which is exiting.
    pub(super) fn deliver(
        pending: &Mutex<Pending<T>>,
        task: &Task,
        result: Result<T, TaskError<T>>,
    ) {
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

pub(super) fn lock<V>(mutex: &Mutex<V>) -> std::sync::MutexGuard<'_, V> {
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

impl<T, E> Promise<Result<T, E>> {
    /// [`join`](Promise::join) for a child that returns a `Result`: one error instead of two nested ones.
    ///
    /// # Errors
    /// [`JoinFlatError::Returned`]: the error that the child returned. [`JoinFlatError::Task`]: see
    /// [`join`](Promise::join).
    ///
    /// # Examples
    /// ```
    /// use std::io::{self, Write};
    ///
    /// use echown::{net::Stream, pool::Pool};
    ///
    /// fn greet(mut client: Stream) -> io::Result<usize> {
    ///     client.write(b"hello")
    /// }
    ///
    /// fn serve(pool: &Pool, client: Stream) -> io::Result<usize> {
    ///     let child = pool.spawn_with(client, greet).map_err(io::Error::other)?;
    ///     Ok(child.join_flat()?)
    /// }
    ///
    /// let (ours, _theirs) = Stream::pair()?;
    /// assert_eq!(serve(&Pool::new(), ours)?, 5);
    /// # Ok::<(), io::Error>(())
    /// ```
    #[track_caller]
    pub fn join_flat(self) -> Result<T, JoinFlatError<T, E>> {
        match self.join() {
            Ok(returned) => returned.map_err(JoinFlatError::Returned),
            Err(failure) => Err(JoinFlatError::Task(failure)),
        }
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

// For the spawning of tasks and the pool's functions that wait.
impl<T> Promise<T> {
    pub(super) fn new(task: Arc<Task>, result: SharedResult<T>, registry: Registry) -> Promise<T> {
        Promise { task, result, registry }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

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
