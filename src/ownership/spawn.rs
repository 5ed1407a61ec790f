//! The start of a child on another thread: creates it, gives it its resources and its work, and undoes
//! all of it if no thread takes the work.

use std::sync::{Arc, Mutex};

use echown_report::Site;

use super::error::Refused;
use super::promise::{Pending, Promise, lock};
use super::record::Managed;
use super::registry::Registry;
use super::resource::Resource;
use super::task::exit;
use super::task::{self, JoinDuty, Task};

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
pub(crate) struct UnstartedChild<T, J> {
    promise: Promise<T>,
    job: Arc<Mutex<Option<J>>>,
    given: Vec<Arc<dyn Managed>>,
    site: Site,
}

impl<T: Send + 'static, J: Send + 'static> UnstartedChild<T, J> {
    /// Creates a child of `parent` (default: the current task) and gives it resources of the current
    /// task. The child will call `run` with `job`: a closure, or handles and a closure that takes them.
    ///
    /// # Errors
    /// A resource cannot be given. Nothing has moved, and the error contains the job.
    pub(crate) fn new(
        registry: &Registry,
        parent: Option<&Arc<Task>>,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        job: J,
        run: fn(J) -> T,
        site: Site,
    ) -> Result<UnstartedChild<T, J>, Refused<J>> {
        let given: Vec<Arc<dyn Managed>> = give.into_iter().map(Resource::into_managed).collect();
        let task = match task::make_child(registry, parent, name, &given, JoinDuty::Promise, site) {
            Ok(task) => task,
            Err(error) => return Err(Refused::new(error, Some(job))),
        };
        let job = Arc::new(Mutex::new(Some(job)));
        let result = Arc::new(Mutex::new(Pending::Nothing));
        let promise = Promise::new(Arc::clone(&task), Arc::clone(&result), registry.clone());
        let to_run = Arc::clone(&job);
        task.set_job(move |task| {
            let job = lock(&to_run).take();
            let Some(job) = job else {
                unreachable!("a child that runs was started, and therefore not undone")
            };
            exit::run(task, || run(job), |ended| Pending::deliver(&result, task, ended));
        });
        Ok(UnstartedChild { promise, job, given, site })
    }

    /// The work, for the thread that will run it.
    pub(crate) fn work(&self) -> Work {
        Work(Arc::clone(self.promise.inner()))
    }

    /// The promise, after the work has got a thread.
    pub(crate) fn into_promise(self) -> Promise<T> {
        self.promise
    }

    /// Undoes the creation: returns the resources to the parent, and the job to the caller.
    pub(crate) fn undo(self) -> Option<J> {
        let job = lock(&self.job).take();
        task::undo_make_child(
            self.promise.registry(),
            self.promise.inner(),
            &self.given,
            self.site,
        );
        job
    }
}
