//! Actors: tasks without a thread of their own.
//!
//! A state machine, a device, a room that several threads look after: something that owns, and that
//! acts only while somebody lends it a thread. Whoever does so is the actor for that while
//! ([`Actor::act`]): what it acquires is the actor's, what is its own it cannot use.
//!
//! # Who can be stopped how
//!
//! A thread that acts is still its own task's. Whoever cancels or drains that task means what the
//! thread does now, and so reaches what the actor owns at that moment, as if the task owned it; the
//! actor itself goes on, for the next thread. Cancelling the actor (the end of its parent) ends it: at
//! once if nobody acts, else when whoever acts is done.
//!
//! # Why one thread at a time
//!
//! A close must never meet a system call on the same number. Within one task both are made by one
//! thread; that an actor has one thread at a time is what [`act`](Actor::act) takes `&mut self` for.

use std::fmt;
use std::sync::Arc;

use echown_report::{Site, TaskLabel};

use super::error::{Error, ErrorKind};
use super::promise::TaskError;
use super::registry::Registry;
use super::task::exit;
use super::task::{self, JoinDuty, Task};

/// A task that runs on whichever thread is lent to it, one at a time.
///
/// Dropping it ends it, on the thread that drops: what it still owns is finalized, and reported as a
/// leak.
///
/// # Examples
/// ```
/// use echown::ownership::{self, Registry};
///
/// let registry = Registry::global();
/// let mut archive = registry.actor("archive")?;
/// let letter = archive.act(|| ownership::own("a letter"))??;
/// // It is the archive's, and not ours.
/// assert!(letter.check().is_err());
/// assert!(archive.act(|| letter.release())?.is_ok());
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[must_use = "an actor ends when it is dropped"]
pub struct Actor {
    task: Arc<Task>,
    registry: Registry,
}

impl Registry {
    /// A new actor, a child of the current task. It ends before its parent does.
    ///
    /// # Errors
    /// The current task was cancelled or is at its end.
    #[track_caller]
    pub fn actor(&self, name: &str) -> Result<Actor, Error> {
        let task = task::make_child(self, None, name, &[], JoinDuty::Reaped, Site::here())?;
        task.park();
        Ok(Actor { task, registry: self.clone() })
    }
}

impl Actor {
    /// Its id and name, as in reports.
    #[must_use]
    pub fn task(&self) -> TaskLabel {
        self.task.label()
    }

    /// Runs `f` on this thread as the actor.
    ///
    /// # Errors
    /// The actor has ended, because its parent has or cancelled it: `f` has not run.
    #[track_caller]
    pub fn act<R>(&mut self, f: impl FnOnce() -> R) -> Result<R, Error> {
        // The right to run is what a resting actor has instead of a job.
        let Some(rest) = self.task.take_job() else {
            let kind = if self.task.is_cancelled() {
                ErrorKind::Cancelled
            } else {
                ErrorKind::TaskExiting
            };
            return Err(self.task.refusal(kind, None, Site::here()));
        };
        drop(rest);
        let lender = task::current(&self.registry);
        let acting = Acting { part: Some(lender.lend_thread(&self.task)), task: &self.task };
        let answer = f();
        drop(acting);
        Ok(answer)
    }

    /// Ends it on this thread, and says how it was left.
    ///
    /// # Errors
    /// [`TaskError::Leaked`]: it still owned something, which has been finalized. [`TaskError::Cancelled`]:
    /// its parent had ended it before. Others as for any task.
    pub fn end(self) -> Result<(), TaskError<()>> {
        self.finish()
    }

    fn finish(&self) -> Result<(), TaskError<()>> {
        if self.task.take_job().is_none() {
            return Err(TaskError::Cancelled);
        }
        exit::run(&self.task, || (), std::convert::identity)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Ended before, it has no job left, and nothing happens. A leak has been reported.
        let _ = self.finish();
    }
}

/// A thread is the actor until this is dropped, also while it unwinds.
struct Acting<'a> {
    part: Option<task::ThreadLoan>,
    task: &'a Arc<Task>,
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.part = None;
        self.task.park();
        // Whoever cancelled it meanwhile found nothing to end, and has left that to this thread.
        if self.task.is_cancelled() {
            self.task.abandon();
        }
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({})", self.task.label())
    }
}
