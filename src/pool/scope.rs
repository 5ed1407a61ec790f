//! A scope: children that cannot outlive a block.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::{Pool, SpawnError, join};
use crate::ownership::task::{self, Task};
use crate::ownership::{Error, ErrorKind, Promise, Resource, Site, TaskError, TaskLabel};

/// Where children are spawned that the enclosing [`Pool::scope`] waits for.
pub struct Scope<'pool> {
    pool: &'pool Pool,
    /// The task that waits for the children: their parent, whichever task runs in its place when
    /// they are spawned.
    owner: Arc<Task>,
    children: RefCell<Vec<Promise<()>>>,
}

impl Scope<'_> {
    /// Runs `job` as a child of the task that the scope belongs to, and gives it `give` from what
    /// the current task owns. The job returns nothing; send results through a channel.
    ///
    /// # Errors
    /// As [`Pool::spawn`].
    #[track_caller]
    pub fn spawn<F>(
        &self,
        give: impl IntoIterator<Item = Resource>,
        job: F,
    ) -> Result<(), SpawnError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let child = self.pool.start(Some(&self.owner), "scoped", give, job, Site::here())?;
        self.children.borrow_mut().push(child);
        Ok(())
    }
}

/// Why a scope did not end well. What the body answered is not lost.
pub struct ScopeFailure<R> {
    /// What the body answered.
    pub value: R,
    cause: Box<ScopeFailureCause>,
}

enum ScopeFailureCause {
    Child(TaskLabel, TaskError<()>),
    Cancelled(Error),
}

impl<R> ScopeFailure<R> {
    /// The child that failed first, and how.
    #[must_use]
    pub fn child(&self) -> Option<(&TaskLabel, &TaskError<()>)> {
        match &*self.cause {
            ScopeFailureCause::Child(task, failure) => Some((task, failure)),
            ScopeFailureCause::Cancelled(_) => None,
        }
    }

    /// Whether the task that waited was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.cause, ScopeFailureCause::Cancelled(_))
    }
}

impl<R> fmt::Display for ScopeFailure<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.cause {
            ScopeFailureCause::Child(task, failure) => write!(f, "{task} failed: {failure}"),
            ScopeFailureCause::Cancelled(error) => error.fmt(f),
        }
    }
}

impl<R> fmt::Debug for ScopeFailure<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeFailure({self})")
    }
}

impl<R> std::error::Error for ScopeFailure<R> {}

pub(super) fn run<R>(
    pool: &Pool,
    body: impl FnOnce(&Scope<'_>) -> R,
    site: Site,
) -> Result<R, ScopeFailure<R>> {
    let me = task::current(pool.registry());
    let scope = Scope { pool, owner: Arc::clone(&me), children: RefCell::default() };
    let value = match catch_unwind(AssertUnwindSafe(|| body(&scope))) {
        Ok(value) => value,
        Err(payload) => {
            join::cancel_all(scope.children.into_inner());
            resume_unwind(payload);
        }
    };
    let mut children = scope.children.into_inner();
    while !children.is_empty() {
        let over = |child: &Promise<()>| child.has_ended();
        me.wait_until(|| children.iter().any(over) || me.is_cancelled(), None);
        let Some(index) = children.iter().position(over) else {
            join::cancel_all(children);
            let error = me.refusal(ErrorKind::Cancelled, None, site);
            return Err(ScopeFailure {
                value,
                cause: Box::new(ScopeFailureCause::Cancelled(error)),
            });
        };
        let child = children.swap_remove(index);
        let name = child.task();
        if let Err(failure) = child.join() {
            join::cancel_all(children);
            return Err(ScopeFailure {
                value,
                cause: Box::new(ScopeFailureCause::Child(name, failure)),
            });
        }
    }
    Ok(value)
}
