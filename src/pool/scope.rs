//! Scopes: children that cannot outlive a block.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::{Pool, SpawnError, join};
use crate::ownership::give::Give;
use crate::ownership::task::{self, Task};
use crate::ownership::{Error, ErrorKind, Promise, Resource, Site, TaskError, TaskLabel};

/// Spawns children that the enclosing [`Pool::scope`] waits for.
pub struct Scope<'pool> {
    pool: &'pool Pool,
    /// The task that called [`Pool::scope`]. It is the children's parent even if another task runs on
    /// its thread when they are spawned.
    owner: Arc<Task>,
    children: RefCell<Vec<Promise<()>>>,
}

impl Scope<'_> {
    /// Runs `job` as a child of the task that the scope belongs to, and gives it the resources in
    /// `give`, which the current task owns. The job returns nothing; send results through a channel.
    ///
    /// # Errors
    /// See [`Pool::spawn`].
    #[track_caller]
    pub fn spawn<F>(
        &self,
        give: impl IntoIterator<Item = Resource>,
        job: F,
    ) -> Result<(), SpawnError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let owner = Some(&self.owner);
        let child = self.pool.start(owner, "scoped", give, job, |job| job(), Site::here())?;
        self.children.borrow_mut().push(child);
        Ok(())
    }

    /// [`spawn`](Scope::spawn) for a job that takes the handles that it is given; see
    /// [`Pool::spawn_with`].
    ///
    /// # Errors
    /// See [`Pool::spawn_with`].
    #[track_caller]
    pub fn spawn_with<G, F>(&self, handles: G, job: F) -> Result<(), SpawnError<(G, F)>>
    where
        G: Give + Send + 'static,
        F: FnOnce(G) + Send + 'static,
    {
        let owner = Some(&self.owner);
        let child = self.pool.start_with(owner, "scoped", handles, job, Site::here())?;
        self.children.borrow_mut().push(child);
        Ok(())
    }
}

/// The error of a scope. It contains the body's return value.
pub struct ScopeError<R> {
    /// The body's return value.
    pub value: R,
    cause: Box<ScopeErrorCause>,
}

enum ScopeErrorCause {
    Child(TaskLabel, TaskError<()>),
    Cancelled(Error),
}

impl<R> ScopeError<R> {
    /// The child that failed first, with its error.
    #[must_use]
    pub fn child(&self) -> Option<(&TaskLabel, &TaskError<()>)> {
        match &*self.cause {
            ScopeErrorCause::Child(task, failure) => Some((task, failure)),
            ScopeErrorCause::Cancelled(_) => None,
        }
    }

    /// Whether the task that waited was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.cause, ScopeErrorCause::Cancelled(_))
    }
}

impl<R> fmt::Display for ScopeError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.cause {
            ScopeErrorCause::Child(task, failure) => write!(f, "{task} failed: {failure}"),
            ScopeErrorCause::Cancelled(error) => error.fmt(f),
        }
    }
}

impl<R> fmt::Debug for ScopeError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeError({self})")
    }
}

impl<R> std::error::Error for ScopeError<R> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.cause {
            ScopeErrorCause::Child(_, failure) => Some(failure),
            ScopeErrorCause::Cancelled(error) => Some(error),
        }
    }
}

pub(super) fn run<R>(
    pool: &Pool,
    body: impl FnOnce(&Scope<'_>) -> R,
    site: Site,
) -> Result<R, ScopeError<R>> {
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
        let has_ended = |child: &Promise<()>| child.has_ended();
        me.wait_until(|| children.iter().any(has_ended) || me.is_cancelled(), None);
        let Some(index) = children.iter().position(has_ended) else {
            join::cancel_all(children);
            let error = me.refusal(ErrorKind::Cancelled, None, site);
            return Err(ScopeError { value, cause: Box::new(ScopeErrorCause::Cancelled(error)) });
        };
        let child = children.swap_remove(index);
        let name = child.task();
        if let Err(failure) = child.join() {
            join::cancel_all(children);
            return Err(ScopeError {
                value,
                cause: Box::new(ScopeErrorCause::Child(name, failure)),
            });
        }
    }
    Ok(value)
}
