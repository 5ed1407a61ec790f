//! Running a closure as a task on this thread, and the end of the process.

use std::fmt;
use std::sync::Arc;

use echown_report::{RegistrySummary, Site, TaskLabel};

use super::error::{Error, Refused};
use super::give::{Give, resources_of};
use super::promise::TaskError;
use super::registry::Registry;
use super::resource::Resource;
use super::task::{self, Origin, Task, exit};

impl Registry {
    /// The current task's id and name. Adopts a thread without a task.
    #[must_use]
    pub fn current_task(&self) -> TaskLabel {
        task::current(self).label()
    }

    /// Whether the current task was asked to finish ([`Promise::drain`](super::Promise::drain)). An end of
    /// stream that it reads then comes from the drain, and the peer may still be sending.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        task::current(self).is_draining()
    }

    /// Runs `f` on this thread as a new root task, a task without a parent.
    ///
    /// # Errors
    /// The task did not end with its value alone; see [`TaskError`].
    #[track_caller]
    pub fn run<T>(&self, name: &str, f: impl FnOnce() -> T) -> Result<T, TaskError<T>> {
        let task = Task::new(name.into(), Origin::LocalRoot, Some(self), None, Site::here());
        exit::run(&task, f, std::convert::identity)
    }

    /// Runs `f` on this thread as a child of the current task, and gives it the resources in `give`.
    ///
    /// # Errors
    /// [`RunInlineError::Refused`]: a resource cannot be given. [`RunInlineError::Failed`]: the child did
    /// not end with its value alone.
    #[track_caller]
    pub fn run_inline<T>(
        &self,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        f: impl FnOnce() -> T,
    ) -> Result<T, RunInlineError<T>> {
        let task = self
            .make_inline_child(name, give, Site::here())
            .map_err(|error| RunInlineError::Refused(Refused::new(error, None)))?;
        exit::run(&task, f, |outcome| outcome.map_err(RunInlineError::Failed))
    }

    /// Runs `f` on this thread as a child of the current task, and gives it `handles` as its argument.
    ///
    /// # Errors
    /// See [`run_inline`](Registry::run_inline). [`RunInlineError::Refused`] contains the handles and the
    /// closure.
    ///
    /// # Examples
    /// ```
    /// use echown::ownership::{Registry, own};
    ///
    /// let words = own(vec!["a", "b"])?;
    /// let count = Registry::global()
    ///     .run_inline_with("counter", words, |words| words.with(|words| words.len()));
    /// assert_eq!(count.expect("the words can be given")?, 2);
    /// # Ok::<(), echown::ownership::Error>(())
    /// ```
    #[track_caller]
    pub fn run_inline_with<G: Give, T, F: FnOnce(G) -> T>(
        &self,
        name: &str,
        handles: G,
        f: F,
    ) -> Result<T, RunInlineError<T, (G, F)>> {
        match self.make_inline_child(name, resources_of(&handles), Site::here()) {
            Ok(task) => {
                exit::run(&task, || f(handles), |outcome| outcome.map_err(RunInlineError::Failed))
            }
            Err(error) => Err(RunInlineError::Refused(Refused::new(error, Some((handles, f))))),
        }
    }

    fn make_inline_child(
        &self,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        site: Site,
    ) -> Result<Arc<Task>, Error> {
        let give: Vec<_> = give.into_iter().map(Resource::into_managed).collect();
        task::make_child(self, None, name, &give, task::JoinDuty::Reaped, site)
    }

    /// Finalizes and reports what the current task still has in this registry, including unclaimed offers,
    /// cancels its unjoined children, and returns the final summary.
    ///
    /// A program calls this last, on its main thread. What other tasks still hold is listed in the summary
    /// and left to them: only the owner's thread may close a descriptor.
    pub fn finish(&self) -> RegistrySummary {
        let (_, forgotten) = exit::settle_process(self);
        RegistrySummary { unjoined_children: forgotten, ..self.summary() }
    }
}

/// The error of [`Registry::run_inline`] and [`Registry::run_inline_with`].
#[non_exhaustive]
pub enum RunInlineError<T, J = ()> {
    /// A resource could not be given; no child was created. Contains the handles and the closure of
    /// `run_inline_with`.
    Refused(Refused<J>),
    /// The child ran and did not end with its value alone.
    Failed(TaskError<T>),
}

impl<T, J> fmt::Display for RunInlineError<T, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunInlineError::Refused(error) => error.fmt(f),
            RunInlineError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<T, J> fmt::Debug for RunInlineError<T, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunInlineError::Refused(error) => write!(f, "Refused({error:?})"),
            RunInlineError::Failed(failure) => write!(f, "Failed({failure:?})"),
        }
    }
}

impl<T: 'static, J> std::error::Error for RunInlineError<T, J> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunInlineError::Refused(refused) => Some(refused.error()),
            RunInlineError::Failed(failure) => Some(failure),
        }
    }
}
