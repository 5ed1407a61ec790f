//! Tasks on threads: a pool that gives and takes ownership.
//!
//! A job is a *task*. It is spawned with handles, whose resources it then owns. It ends when its
//! closure, its finalizers and its children have ended. [`Pool::spawn_with`] returns a [`Promise`], which
//! the parent joins or cancels. An [`Orphans`] takes over children that are not joined one by one.
//! [`Pool::scope`] waits for every child spawned in it, [`first`] returns the first result and
//! cancels the other children, and [`Pool::parallel`] runs one function several times.
//!
//! The pool starts threads on demand, reuses them, and ends surplus ones. If no thread can be
//! started, the caller gets an ordinary error that names the limit.
//!
//! # Limits
//!
//! A closure must be `'static`: it may outlive the frame that spawned it. The system's thread limit is
//! read when the pool is built. If another program uses those threads first, the start fails with an
//! ordinary error.

mod headroom;
mod join;
mod orphans;
mod scope;
pub(crate) mod thread;
mod workers;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use crate::ownership::Promise;
use crate::ownership::give::{Give, resources_of};
use crate::ownership::spawn::{UnstartedChild, Work};
use crate::ownership::task::Task;
use crate::ownership::{Error, Refused, Registry, Resource, Site, TaskError};
pub use join::first;
pub use orphans::Orphans;
pub use scope::{Scope, ScopeError};
use workers::{Config, Job, NoThread, NoThreadReason, StartFaults, Workers};

/// The default limit of threads. The system's limit may be lower.
const LIMIT_DEFAULT: usize = 10_000;

/// The default stack size: enough for formatting, logging and shallow recursion. Buffers belong on
/// the heap: a page of stack that was touched once stays allocated to its thread.
pub(crate) const STACK_BYTES_DEFAULT: usize = 256 * 1024;

/// The default number of idle threads to keep, so that a burst of clients starts no new threads.
pub(crate) const KEEP_IDLE_DEFAULT: usize = 16;

/// A thread pool that runs tasks. Cheap to clone: all clones are the same pool.
///
/// # Examples
/// ```
/// use echown::{ownership, pool::Pool};
///
/// let pool = Pool::new();
/// let letter = ownership::own(String::from("hello"))?;
/// let length = pool.spawn_with(letter, |letter| letter.with(|text| text.len()))?;
/// assert_eq!(length.join_flat()?, 5);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    workers: Arc<Workers>,
    registry: Registry,
}

/// Builds a [`Pool`].
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder {
    registry: Option<Registry>,
    config: Config,
}

impl PoolBuilder {
    /// The registry of the pool's tasks. Default: the [current one](Registry::current).
    pub fn registry(mut self, registry: &Registry) -> PoolBuilder {
        self.registry = Some(registry.clone());
        self
    }

    /// The maximum number of threads. Default: 10,000. The system's limits may be lower; see
    /// [`Pool::limit`].
    pub fn limit(mut self, threads: usize) -> PoolBuilder {
        self.config.limit = threads;
        self
    }

    /// The maximum number of tasks that wait for a thread. Default: 0. If every thread joins a task
    /// that waits in the queue, they deadlock.
    pub fn queue(mut self, tasks: usize) -> PoolBuilder {
        self.config.queue = tasks;
        self
    }

    /// The stack size of each thread in bytes. Default: 256 KiB.
    pub fn stack_bytes(mut self, bytes: usize) -> PoolBuilder {
        self.config.stack_bytes = bytes;
        self
    }

    /// How many idle threads to keep, at least 1. Default: 16.
    pub fn keep_idle(mut self, threads: usize) -> PoolBuilder {
        self.config.keep_idle = threads;
        self
    }

    /// The name of the threads, as a debugger shows it. Default: `echown`.
    pub fn thread_name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.config.name = name.into();
        self
    }

    /// Builds the pool. It starts no thread yet.
    #[must_use]
    pub fn build(self) -> Pool {
        let registry = self.registry.unwrap_or_else(Registry::current);
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

    /// A builder for a new pool.
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

    /// The registry of the pool's tasks.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The maximum number of threads: the configured limit or the system's, whichever is lower.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.workers.limit()
    }

    /// The system's thread limit as text, with the name of the kernel limit that determines it.
    #[must_use]
    pub fn system_limit(&self) -> String {
        self.workers.system_limit().to_string()
    }

    /// The number of threads, running and idle.
    #[must_use]
    pub fn size(&self) -> usize {
        self.workers.size()
    }

    /// The number of threads that run a task.
    #[must_use]
    pub fn running(&self) -> usize {
        self.workers.running()
    }

    /// The number of threads that wait for a job.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.workers.idle()
    }

    /// The number of tasks that wait for a thread.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.workers.queued()
    }

    /// Runs `job` as a child of the current task and gives it the resources in `give`. If the job takes
    /// the handles, [`spawn_with`](Pool::spawn_with) is shorter.
    ///
    /// The child owns the resources as soon as this returns, even if it has not started yet. The
    /// current task can no longer use them.
    ///
    /// # Errors
    /// The current task does not own one of the resources, the list contains one twice, or no thread
    /// can be started. No child exists then, nothing has moved, and the error contains the job.
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
        self.start(None, "job", give, job, |job| job(), Site::here())
    }

    /// [`spawn`](Pool::spawn) with a name for the task, which reports show.
    ///
    /// # Errors
    /// See [`spawn`](Pool::spawn).
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
        self.start(None, name, give, job, |job| job(), Site::here())
    }

    /// Runs `job` as a child of the current task and gives it `handles` as its argument: one handle, or
    /// a tuple, array, `Vec` or `Option` of handles.
    ///
    /// # Errors
    /// See [`spawn`](Pool::spawn). The error contains the handles and the job.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// use echown::{net::Stream, pool::Pool};
    ///
    /// let (mut ours, theirs) = Stream::pair()?;
    /// let child = Pool::new().spawn_with(theirs, |mut theirs| theirs.write_all(b"hello"))?;
    /// child.join_flat()?;
    /// let mut greeting = String::new();
    /// ours.read_to_string(&mut greeting)?;
    /// assert_eq!(greeting, "hello");
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[track_caller]
    pub fn spawn_with<G, T, F>(&self, handles: G, job: F) -> Result<Promise<T>, SpawnError<(G, F)>>
    where
        G: Give + Send + 'static,
        T: Send + 'static,
        F: FnOnce(G) -> T + Send + 'static,
    {
        self.start_with(None, "job", handles, job, Site::here())
    }

    /// [`spawn_with`](Pool::spawn_with) with a name for the task, which reports show.
    ///
    /// # Errors
    /// See [`spawn_with`](Pool::spawn_with).
    #[track_caller]
    pub fn spawn_named_with<G, T, F>(
        &self,
        name: &str,
        handles: G,
        job: F,
    ) -> Result<Promise<T>, SpawnError<(G, F)>>
    where
        G: Give + Send + 'static,
        T: Send + 'static,
        F: FnOnce(G) -> T + Send + 'static,
    {
        self.start_with(None, name, handles, job, Site::here())
    }

    /// Runs `f(0)` to `f(n - 1)` as `n` concurrent tasks and waits for all of them. The results are in
    /// the order of the arguments. If the current task is cancelled while it waits, so are they.
    ///
    /// # Errors
    /// One of the tasks could not be started. Those already started were cancelled.
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
            let (name, job) = (format!("parallel {index}"), move || f(index));
            match self.start(None, &name, [], job, |job| job(), site) {
                Ok(promise) => promises.push(promise),
                Err(error) => {
                    join::cancel_all(promises);
                    return Err(error.without_job());
                }
            }
        }
        Ok(join::join_all(promises))
    }

    /// Runs `body`, which may spawn children in the scope, and waits for all of them.
    ///
    /// If a child fails, its siblings are cancelled. If the body panics, all children are cancelled and
    /// the panic resumes.
    ///
    /// # Errors
    /// A child failed, or the current task was cancelled while it waited.
    ///
    /// # Examples
    /// ```
    /// let (sender, squares) = std::sync::mpsc::channel();
    /// let started = echown::pool::Pool::new().scope(|scope| {
    ///     for n in 1..=3 {
    ///         let sender = sender.clone();
    ///         scope.spawn([], move || sender.send(n * n).unwrap()).unwrap();
    ///     }
    ///     3
    /// })?;
    /// assert_eq!(squares.try_iter().count(), started);
    /// # Ok::<(), echown::pool::ScopeError<usize>>(())
    /// ```
    #[track_caller]
    pub fn scope<R>(&self, body: impl FnOnce(&Scope<'_>) -> R) -> Result<R, ScopeError<R>> {
        scope::run(self, body, Site::here())
    }

    fn start_with<G, T, F>(
        &self,
        parent: Option<&Arc<Task>>,
        name: &str,
        handles: G,
        job: F,
        site: Site,
    ) -> Result<Promise<T>, SpawnError<(G, F)>>
    where
        G: Give + Send + 'static,
        T: Send + 'static,
        F: FnOnce(G) -> T + Send + 'static,
    {
        let give = resources_of(&handles);
        self.start(parent, name, give, (handles, job), |(handles, job)| job(handles), site)
    }

    fn start<T, J>(
        &self,
        parent: Option<&Arc<Task>>,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        job: J,
        run: fn(J) -> T,
        site: Site,
    ) -> Result<Promise<T>, SpawnError<J>>
    where
        T: Send + 'static,
        J: Send + 'static,
    {
        let child = UnstartedChild::new(&self.registry, parent, name, give, job, run, site)?;
        let work = child.work();
        match self.workers.execute(work) {
            Ok(()) => Ok(child.into_promise()),
            Err(NoThread { job: work, reason }) => {
                let job = child.undo();
                // Drop the work only after `undo`: dropping it earlier would end the child.
                drop(work);
                let text = reason.to_string();
                let error = match reason {
                    NoThreadReason::StartFailed { error, .. } => Some(error),
                    _ => None,
                };
                Err(SpawnError { cause: SpawnErrorCause::NoThread(text, error), job })
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

/// The error of a failed spawn. It contains the job.
pub struct SpawnError<F> {
    cause: SpawnErrorCause,
    job: Option<F>,
}

enum SpawnErrorCause {
    Refused(Error),
    /// The message, and the system's error if it caused this.
    NoThread(String, Option<io::Error>),
}

impl<F> SpawnError<F> {
    fn no_thread(reason: String, error: io::Error, job: Option<F>) -> SpawnError<F> {
        SpawnError { cause: SpawnErrorCause::NoThread(reason, Some(error)), job }
    }

    /// The registry's error, if a resource could not be given.
    #[must_use]
    pub fn refusal(&self) -> Option<&Error> {
        match &self.cause {
            SpawnErrorCause::Refused(error) => Some(error),
            SpawnErrorCause::NoThread(..) => None,
        }
    }

    /// Whether no thread could be started. The message names the limit.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self.cause, SpawnErrorCause::NoThread(..))
    }

    /// The job, with everything it captured.
    #[must_use]
    pub fn into_job(self) -> Option<F> {
        self.job
    }

    pub(crate) fn without_job(self) -> SpawnError<()> {
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
            SpawnErrorCause::NoThread(reason, _) => f.write_str(reason),
        }
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpawnError({self})")
    }
}

impl<F> std::error::Error for SpawnError<F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            SpawnErrorCause::Refused(error) => Some(error),
            SpawnErrorCause::NoThread(_, error) => error.as_ref().map(|error| error as _),
        }
    }
}
