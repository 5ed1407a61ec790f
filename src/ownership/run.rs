//! Running a closure as a task on this thread, and the end of the process.

use std::fmt;

use echown_report::{RegistrySummary, Site, TaskLabel};

use super::error::Error;
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
        let task = Task::new(name.into(), Origin::LocalRoot, self.id(), None, Site::here());
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
        let give: Vec<_> = give.into_iter().map(Resource::into_managed).collect();
        let task = task::make_child(self, None, name, &give, task::JoinDuty::Reaped, Site::here())
            .map_err(RunInlineError::Refused)?;
        exit::run(&task, f, |outcome| outcome.map_err(RunInlineError::Failed))
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

/// The error of [`Registry::run_inline`].
#[non_exhaustive]
pub enum RunInlineError<T> {
    /// A resource could not be given; no child was created.
    Refused(Error),
    /// The child ran and did not end with its value alone.
    Failed(TaskError<T>),
}

impl<T> fmt::Display for RunInlineError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunInlineError::Refused(error) => error.fmt(f),
            RunInlineError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<T> fmt::Debug for RunInlineError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunInlineError::Refused(error) => write!(f, "Refused({error:?})"),
            RunInlineError::Failed(failure) => write!(f, "Failed({failure:?})"),
        }
    }
}

impl<T> std::error::Error for RunInlineError<T> {}
