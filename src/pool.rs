//! Tasks on threads: a pool that gives and takes ownership.
//!
//! A job is a *task*: it is spawned with a list of resources that become its own, and it ends when
//! its closure, its finalizers and its children have. [`Pool::spawn`] answers a [`Promise`], which
//! its parent joins or cancels; children that nobody wants to wait for are handed to an
//! [`Orphans`]; [`Pool::scope`] waits for all that it started; [`first`] takes the quickest and
//! cancels the others; [`Pool::parallel`] runs one function several times.
//!
//! Threads come on demand, stay for the next job, and go when they are too many. A thread that
//! cannot be had is an ordinary error that names the limit.
//!
//! # Limits
//!
//! A closure must be `'static`: it may outlive the frame that spawned it. The ceiling of threads is
//! read when the pool is built; another program may use up what it promised, which then is an
//! ordinary error too.

mod headroom;
mod join;
mod orphans;
mod scope;
mod thread;
pub(crate) mod thread_limit;
mod workers;

use std::fmt;
use std::sync::Arc;

pub use crate::ownership::Promise;
use crate::ownership::promise::{UnstartedChild, Work};
use crate::ownership::task::Task;
use crate::ownership::{Error, Refused, Registry, Resource, Site, TaskError};
pub use join::first;
pub use orphans::{OrphanStatus, Orphans};
pub use scope::{Scope, ScopeFailure};
pub use thread::{spawn as spawn_thread, spawn_in as spawn_thread_in};
use workers::{Config, Job, NoThread, StartFaults, Workers};

/// Threads of a pool unless set; what the machine carries may be less.
const LIMIT_DEFAULT: usize = 10_000;

/// Stack of a pool's thread unless set: enough for formatting, logging and shallow recursion.
/// Buffers belong on the heap; a page of stack that was touched once stays with its thread.
pub(crate) const STACK_BYTES_DEFAULT: usize = 256 * 1024;

/// Idle threads that are kept unless set: a burst of clients is served without starting threads
/// anew.
pub(crate) const KEEP_IDLE_DEFAULT: usize = 16;

/// Runs tasks on threads. Cheap to clone; all clones are the same pool.
///
/// # Examples
/// ```
/// use echown::{ownership, pool::Pool};
///
/// let pool = Pool::new();
/// let letter = ownership::own(String::from("hello"))?;
/// let length = pool.spawn([letter.resource()], move || letter.with(|text| text.len()))?;
/// assert_eq!(length.join()??, 5);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    workers: Arc<Workers>,
    registry: Registry,
}

/// Settings of a new pool.
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder {
    registry: Option<Registry>,
    config: Config,
}

impl PoolBuilder {
    /// The registry that the pool's tasks are at home in; the process-wide one unless set.
    pub fn registry(mut self, registry: &Registry) -> PoolBuilder {
        self.registry = Some(registry.clone());
        self
    }

    /// The most threads at a time; 10,000 unless set. The machine's own limits may be lower:
    /// [`Pool::limit`].
    pub fn limit(mut self, threads: usize) -> PoolBuilder {
        self.config.limit = threads;
        self
    }

    /// The most tasks that wait for a thread; none unless set. A waiting task that its parent joins
    /// may wait for ever if all threads do the same.
    pub fn queue(mut self, tasks: usize) -> PoolBuilder {
        self.config.queue = tasks;
        self
    }

    /// Stack of each thread in bytes; 256 KiB unless set.
    pub fn stack_bytes(mut self, bytes: usize) -> PoolBuilder {
        self.config.stack_bytes = bytes;
        self
    }

    /// How many idle threads are kept for the next job; 16 unless set, at least 1.
    pub fn keep_idle(mut self, threads: usize) -> PoolBuilder {
        self.config.keep_idle = threads;
        self
    }

    /// Name of the threads, as a debugger shows it; `echown` unless set.
    pub fn thread_name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.config.name = name.into();
        self
    }

    /// The pool. No thread is started yet.
    #[must_use]
    pub fn build(self) -> Pool {
        let registry = self.registry.unwrap_or_else(|| Registry::global().clone());
        let config = Config { start_faults: StartFaults::of(&registry), ..self.config };
        Pool { workers: Arc::new(Workers::new(config)), registry }
    }
}

impl Pool {
    /// A pool with the default settings.
    #[must_use]
    pub fn new() -> Pool {
        Pool::builder().build()
    }

    /// Settings for a new pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            registry: None,
            config: Config {
                name: "echown".into(),
                stack_bytes: STACK_BYTES_DEFAULT,
                limit: LIMIT_DEFAULT,
                queue: 0,
                keep_idle: KEEP_IDLE_DEFAULT,
                start_faults: StartFaults::default(),
            },
        }
    }

    /// The registry that the pool's tasks are at home in.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The most threads that this pool can have: what was configured, or what the machine carries.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.workers.limit()
    }

    /// What the machine carries, in words: how many threads, and which of its limits says so.
    #[must_use]
    pub fn ceiling(&self) -> String {
        self.workers.ceiling().to_string()
    }

    /// Threads right now, running and idle.
    #[must_use]
    pub fn size(&self) -> usize {
        self.workers.size()
    }

    /// Threads that run a task.
    #[must_use]
    pub fn running(&self) -> usize {
        self.workers.running()
    }

    /// Threads that wait for a job.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.workers.idle()
    }

    /// Tasks that wait for a thread.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.workers.queued()
    }

    /// Runs `job` as a child of the current task, which is given `give`.
    ///
    /// From this moment the resources are the child's: the current task is refused, whether or not
    /// the child has begun.
    ///
    /// # Errors
    /// Something is not the current task's to give, stands in the list twice, or no thread can be
    /// had: there is no child, nothing has moved, and the job comes back.
    #[track_caller]
    pub fn spawn<T, F>(
        &self,
        give: impl IntoIterator<Item = Resource>,
        job: F,
    ) -> Result<Promise<T>, SpawnError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.start(None, "job", give, job, Site::here())
    }

    /// [`spawn`](Pool::spawn) with a name for the task, which reports show.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn spawn_named<T, F>(
        &self,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        job: F,
    ) -> Result<Promise<T>, SpawnError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.start(None, name, give, job, Site::here())
    }

    /// Runs `f(0)` to `f(n - 1)` as `n` tasks at a time and waits for them all. Outcomes are in the
    /// order of the arguments.
    ///
    /// # Errors
    /// Not all of them could be started: those that were have been cancelled. When the current task
    /// is cancelled while it waits, so are they, and their outcomes say so.
    #[track_caller]
    pub fn parallel<T, F>(
        &self,
        n: usize,
        f: F,
    ) -> Result<Vec<Result<T, TaskError<T>>>, SpawnError<()>>
    where
        T: Send + 'static,
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        let site = Site::here();
        let f = Arc::new(f);
        let mut promises = Vec::with_capacity(n);
        for index in 0..n {
            let f = Arc::clone(&f);
            match self.start(None, &format!("parallel {index}"), [], move || f(index), site) {
                Ok(promise) => promises.push(promise),
                Err(refused) => {
                    join::cancel_all(promises);
                    return Err(refused.without_job());
                }
            }
        }
        Ok(join::join_all(promises))
    }

    /// Runs `body`, which may spawn children in the scope, and waits for all of them.
    ///
    /// The first child that fails has its siblings cancelled; so has a panic of the body, which goes
    /// on afterwards.
    ///
    /// # Errors
    /// A child failed, or the current task was cancelled while it waited.
    #[track_caller]
    pub fn scope<R>(&self, body: impl FnOnce(&Scope<'_>) -> R) -> Result<R, ScopeFailure<R>> {
        scope::run(self, body, Site::here())
    }

    fn start<T, F>(
        &self,
        parent: Option<&Arc<Task>>,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        job: F,
        site: Site,
    ) -> Result<Promise<T>, SpawnError<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let child = UnstartedChild::new(&self.registry, parent, name, give, job, site)?;
        let work = child.work();
        match self.workers.execute(work) {
            Ok(()) => Ok(child.started()),
            Err(NoThread { job: work, reason }) => {
                let job = child.undo();
                // Only now: work that is dropped before the child is undone would end it.
                drop(work);
                Err(SpawnError { cause: SpawnErrorCause::NoThread(reason.to_string()), job })
            }
        }
    }
}

impl Job for Work {
    fn run(self: Box<Work>) {
        Work::run(*self);
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned()
    }
}

impl Default for Pool {
    fn default() -> Pool {
        Pool::new()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size())
            .field("idle", &self.idle())
            .field("queued", &self.queued())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

/// Why a task could not be spawned. The job comes back with it.
pub struct SpawnError<F> {
    cause: SpawnErrorCause,
    job: Option<F>,
}

enum SpawnErrorCause {
    Refused(Error),
    NoThread(String),
}

impl<F> SpawnError<F> {
    pub(crate) fn no_thread(reason: String, job: Option<F>) -> SpawnError<F> {
        SpawnError { cause: SpawnErrorCause::NoThread(reason), job }
    }

    /// The registry's refusal, if it was that: something could not be given.
    #[must_use]
    pub fn refusal(&self) -> Option<&Error> {
        match &self.cause {
            SpawnErrorCause::Refused(error) => Some(error),
            SpawnErrorCause::NoThread(_) => None,
        }
    }

    /// Whether a thread could not be had; the text names the limit.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self.cause, SpawnErrorCause::NoThread(_))
    }

    /// The job, with all that it captured.
    #[must_use]
    pub fn into_job(self) -> Option<F> {
        self.job
    }

    fn without_job(self) -> SpawnError<()> {
        SpawnError { cause: self.cause, job: None }
    }
}

impl<F> From<Refused<F>> for SpawnError<F> {
    fn from(refused: Refused<F>) -> SpawnError<F> {
        let (error, job) = refused.into_parts();
        SpawnError { cause: SpawnErrorCause::Refused(error), job }
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            SpawnErrorCause::Refused(error) => error.fmt(f),
            SpawnErrorCause::NoThread(reason) => f.write_str(reason),
        }
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpawnError({self})")
    }
}

impl<F> std::error::Error for SpawnError<F> {}
