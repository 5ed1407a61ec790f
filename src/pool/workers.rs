//! The worker threads of a pool: started on demand, reused, and ended when too many are idle.
//!
//! The failure story. The `threadpool` crate panics in its caller when it cannot start a thread, and
//! it still counts that thread. It ends an idle thread only if that thread finishes a job while enough
//! others are busy, so which threads end, and how many, depends on timing. After a job's panic it
//! replaces the thread from inside a destructor, and aborts the process if it cannot.
//!
//! So every worker here is a [`ThreadPool`] of exactly one thread, and this file decides which of them
//! gets a job. Growing means building one more, with no count to restore when that fails. Retiring
//! means dropping the handle: the thread first runs its earlier jobs, then ends. No job can
//! be lost and no job can hang, because only a thread without a job is ever dropped. The cost is
//! 1.5 KiB for a channel per thread. Waking is no slower: 200 jobs that wait for each other take 18 to
//! 25 microseconds each, against 23 to 31 through one shared channel on the same 2 cores.
//!
//! A thread that has finished a job spins: it polls a few times for the next job before it goes back
//! to its channel, and `execute` leaves a job to a spinning thread. This saves the wake-up, which is
//! most of the cost of a short job. Such a job cannot be lost: a thread stops spinning and checks
//! the queue in one step, under the lock.
//!
//! The counts: a thread is running from the moment a job is sent to it until the job and
//! everything it captured have been dropped, and idle otherwise. A retired thread is no longer
//! counted, although the kernel may need a moment more to end it.
//!
//! On drop, running jobs continue and their threads end afterwards. Queued jobs are dropped
//! by the dropping thread without having run. Idle threads end at once. The drop does not wait.

mod no_thread;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use echown_fd::escape;
use echown_limits::{ThreadLimit, ThreadLimits};
use threadpool::ThreadPool;

use super::headroom::Headroom;
use crate::faults::Fault;
use crate::ownership::Registry;
use crate::sys::fork;
pub(crate) use no_thread::{NoThread, NoThreadReason};

/// Idle threads are retired when there are more than this many times the number to keep. Two: a start
/// costs 40 to 100 microseconds, and the cost of retiring threads at the end of one job is spread over
/// as many earlier ends at which no thread was retired.
const IDLE_FACTOR: usize = 2;

/// How often a thread without a job yields and polls for the next one before it sleeps. With short
/// connections this saves the wake-up, a third of a connection's time; more polls save no more. With
/// long ones it costs a microsecond per connection.
const SPIN_YIELDS: usize = 2;

/// From this share of the system's limit on (1 / `PROBE_SHARE`), a start is probed. A quarter: most of
/// the limits are shared with other processes, which may use three times what this one does. Where
/// mappings are the limit, the first 2,000 threads still start at the lower cost.
const PROBE_SHARE: usize = 4;

/// The settings of the workers.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The name of every thread, as debuggers and panic messages show it.
    pub(crate) name: String,
    /// The stack size of every thread, in bytes.
    pub(crate) stack_bytes: usize,
    /// The maximum number of threads. The system's [`ThreadLimit`] may be lower.
    pub(crate) limit: usize,
    /// The maximum number of queued jobs. With 0, a job that cannot run at once is rejected.
    pub(crate) queue: usize,
    /// The number of idle threads to keep when no job runs, at least 1.
    pub(crate) keep_idle: usize,
    /// Injected failures of thread starts.
    pub(crate) start_faults: StartFaults,
}

/// Injects failures of thread starts; see [`faults`](crate::faults).
#[derive(Clone, Default)]
pub(crate) struct StartFaults(Option<Registry>);

impl StartFaults {
    /// The injector of this registry, if it has one.
    pub(crate) fn of(registry: &Registry) -> StartFaults {
        StartFaults(registry.fault_injector().map(|_| registry.clone()))
    }

    fn check(&self) -> io::Result<()> {
        let injector = self.0.as_ref().and_then(Registry::fault_injector);
        Ok(injector.map_or(Ok(()), |injector| injector.strike(Fault::Thread))?)
    }
}

impl fmt::Debug for StartFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a fault injector" } else { "none" })
    }
}

/// Runs jobs on threads that it starts when there is a job and no idle thread.
pub(crate) struct Workers {
    config: Config,
    system_limit: ThreadLimit,
    shared: Arc<PoolShared>,
    /// Locked while a thread is started, so that threads start one at a time, and a job is never
    /// queued behind a thread whose start may still fail.
    growth: Mutex<Growth>,
    /// The fork generation of the process that created it; see [`fork`].
    generation: u32,
}

struct Growth {
    headroom: Headroom,
    /// Whether a start has failed. From then on every start is probed.
    has_failed: bool,
}

/// A job for a worker thread.
pub(crate) trait Job: Send + 'static {
    fn run(self: Box<Self>);

    /// Whether the job has nothing left to run. It then takes no place in the queue. Called under the
    /// lock.
    fn is_abandoned(&self) -> bool {
        false
    }
}

impl<F: FnOnce() + Send + 'static> Job for F {
    fn run(self: Box<F>) {
        self();
    }
}

type AnyJob = Box<dyn Job>;

/// The state that the handle and the running threads share. An idle thread holds no reference to it.
struct PoolShared {
    keep_idle: usize,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// Threads with a job, and spinning threads.
    active: usize,
    /// Threads that poll for a job.
    spinning: usize,
    /// In the order in which they became idle.
    idle: VecDeque<ThreadPool>,
    /// Each spinning thread is about to take one of these. The other jobs wait, and only while no
    /// thread is idle and at least one thread runs a job.
    queue: VecDeque<AnyJob>,
    closed: bool,
}

/// The next step of a thread after a job.
enum NextStep {
    Run(ThreadPool, AnyJob),
    /// Return to the channel. The threads in the list are retired; the current one may be among them.
    GoIdle(Vec<ThreadPool>),
}

impl Workers {
    /// Reads the system's limits. Starts no thread yet.
    pub(crate) fn new(config: Config) -> Workers {
        let limits = ThreadLimits::read();
        Workers::with_limits(ThreadLimit::of(&limits), Headroom::new(&limits), config)
    }

    fn with_limits(system_limit: ThreadLimit, headroom: Headroom, mut config: Config) -> Workers {
        // The standard library panics on a thread's name with a NUL inside.
        config.name = config.name.replace('\0', "?");
        let shared = PoolShared { keep_idle: config.keep_idle.max(1), state: Mutex::default() };
        let growth = Mutex::new(Growth { headroom, has_failed: false });
        let generation = fork::generation();
        Workers { config, system_limit, shared: Arc::new(shared), growth, generation }
    }

    /// Runs `job` on an idle thread, else on a new one, else as soon as a thread is free.
    ///
    /// Returns as soon as that is decided. A panic of the job is caught; the thread continues.
    ///
    /// # Errors
    ///
    /// [`NoThread`], which contains the job: every thread is busy, no further thread can be started, and
    /// the queue is full. The job is also queued after a failed start, if any thread exists.
    pub(crate) fn execute<J: Job>(&self, job: J) -> Result<(), NoThread<J>> {
        if self.generation != fork::generation() {
            return Err(NoThread { job, reason: NoThreadReason::Forked });
        }
        let job = match self.run_on_idle(job) {
            Ok(()) => return Ok(()),
            Err((job, _)) => job,
        };
        let mut growth = lock(&self.growth);
        // While this thread waited for the lock, a job may have ended.
        let (job, state) = match self.run_on_idle(job) {
            Ok(()) => return Ok(()),
            Err(left) => left,
        };
        let size = state.size();
        if size >= self.limit() {
            return self.queue_or_reject(state, job, |queued| self.limit_reached(queued));
        }
        drop(state);
        let error = match self.start(size, &mut growth) {
            Ok(thread) => {
                self.run_on_new(thread, Box::new(job));
                return Ok(());
            }
            Err(error) => error,
        };
        growth.has_failed = true;
        // While the start was tried, a job may have ended.
        let (job, state) = match self.run_on_idle(job) {
            Ok(()) => return Ok(()),
            Err(left) => left,
        };
        let threads = state.size();
        self.queue_or_reject(state, job, |_| NoThreadReason::StartFailed { threads, error })
    }

    /// The maximum number of threads: the configured limit or the system's, whichever is lower.
    pub(crate) fn limit(&self) -> usize {
        self.config.limit.min(self.system_limit.threads)
    }

    /// The system's limit, as it was when the workers were created.
    pub(crate) fn system_limit(&self) -> ThreadLimit {
        self.system_limit
    }

    /// The number of threads, running and idle.
    pub(crate) fn size(&self) -> usize {
        self.shared.lock().size()
    }

    /// The number of threads without a job.
    pub(crate) fn idle(&self) -> usize {
        self.shared.lock().idle()
    }

    /// The number of threads with a job.
    pub(crate) fn running(&self) -> usize {
        self.shared.lock().running()
    }

    /// The number of jobs that wait for a thread.
    pub(crate) fn queued(&self) -> usize {
        self.shared.lock().waiting()
    }

    /// Sends `job` to an idle thread. If no thread is idle, returns the job and the locked state.
    fn run_on_idle<J: Job>(&self, job: J) -> Result<(), (J, MutexGuard<'_, PoolState>)> {
        let mut state = self.shared.lock();
        if state.queue.len() < state.spinning {
            state.queue.push_back(Box::new(job));
            return Ok(());
        }
        let Some(thread) = state.take_idle() else {
            return Err((job, state));
        };
        drop(state);
        self.shared.dispatch(thread, Box::new(job));
        Ok(())
    }

    /// Counts a new thread and sends it a job: the first in the queue, if there is one.
    fn run_on_new(&self, thread: ThreadPool, job: AnyJob) {
        let mut state = self.shared.lock();
        state.active += 1;
        // Jobs can wait although the pool could grow: an earlier start has failed.
        state.queue.push_back(job);
        let first = state.queue.pop_front();
        drop(state);
        if let Some(first) = first {
            self.shared.dispatch(thread, first);
        }
    }

    /// Queues `job`, in a state in which no thread is idle. If the queue is full, returns the job with
    /// the `reason`, which gets the number of queued jobs.
    fn queue_or_reject<J: Job>(
        &self,
        mut state: MutexGuard<'_, PoolState>,
        job: J,
        reason: impl FnOnce(usize) -> NoThreadReason,
    ) -> Result<(), NoThread<J>> {
        let abandoned = state.take_abandoned();
        let waiting = state.waiting();
        // If the pool has no thread, no thread would ever take the job from the queue.
        let result = if state.size() > 0 && waiting < self.config.queue {
            state.queue.push_back(Box::new(job));
            Ok(())
        } else {
            Err(NoThread { job, reason: reason(waiting) })
        };
        // Abandoned jobs may run destructors of user code, so drop them without the lock.
        drop(state);
        drop(abandoned);
        result
    }

    fn limit_reached(&self, queued: usize) -> NoThreadReason {
        if self.config.limit <= self.system_limit.threads {
            let threads = self.config.limit;
            NoThreadReason::PoolLimit { threads, queued }
        } else {
            let limit = self.system_limit;
            NoThreadReason::SystemLimit { limit, queued }
        }
    }

    /// Starts thread number `size + 1`.
    ///
    /// A probe costs more than the start itself, because it is joined: growing by 500 threads takes 31
    /// to 51 microseconds per thread without a probe and 102 to 116 with it (2 cores, 256 KiB stacks).
    /// So a start is probed only where it is likely to fail (near the system's limit and after a first
    /// failure) and where `threadpool`'s panic would be fatal. A failure elsewhere is caught and becomes
    /// the same error, but its panic message has been written to standard error, once.
    fn start(&self, size: usize, growth: &mut Growth) -> io::Result<ThreadPool> {
        self.config.start_faults.check()?;
        growth.headroom.check(self.config.stack_bytes)?;
        let near = size >= self.system_limit.threads / PROBE_SHARE;
        if near || growth.has_failed || cfg!(panic = "abort") {
            probe(&self.config)?;
        }
        build(&self.config).map_err(|panicked| match probe(&self.config) {
            // The panic has the system's error only as text; the probe gets the error itself.
            Err(error) => error,
            Ok(()) => panicked,
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // The threads belong to the parent process, and one of them may hold the lock.
            std::mem::forget(Arc::clone(&self.shared));
            return;
        }
        let mut state = self.shared.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        let promised = state.claimed_by_spinning();
        let waiting = state.queue.split_off(promised);
        drop(state);
        drop(idle);
        for job in waiting {
            run_catching("dropping a job that never ran", || drop(job));
        }
    }
}

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        lock(&self.state)
    }

    /// Sends `job`, which is already counted as running, to `thread`.
    ///
    /// `ThreadPool::execute` panics only without a receiver, and the handle itself keeps the receiver.
    fn dispatch(self: &Arc<PoolShared>, thread: ThreadPool, job: AnyJob) {
        let shared = Arc::clone(self);
        let own = thread.clone();
        thread.execute(move || shared.work(own, job));
    }

    /// Runs `job`, then queued jobs, on the worker thread. `thread` is the thread's own handle.
    fn work(self: Arc<PoolShared>, mut thread: ThreadPool, mut job: AnyJob) {
        loop {
            run_catching("running a job", || job.run());
            match self.next(thread) {
                NextStep::Run(same, next) => (thread, job) = (same, next),
                NextStep::GoIdle(retired) => return drop(retired),
            }
        }
    }

    /// Decides what `thread` does after a job.
    fn next(&self, thread: ThreadPool) -> NextStep {
        let mut state = self.lock();
        if state.queue.is_empty() && !state.closed {
            state = self.spin(state);
        }
        if let Some(job) = state.queue.pop_front() {
            return NextStep::Run(thread, job);
        }
        state.active -= 1;
        if state.closed {
            return NextStep::GoIdle(vec![thread]);
        }
        state.idle.push_back(thread);
        let surplus = surplus(state.idle.len(), state.running(), self.keep_idle);
        NextStep::GoIdle(state.idle.drain(..surplus).collect())
    }

    /// Yields a few times, until there is a job.
    fn spin<'a>(&'a self, mut state: MutexGuard<'a, PoolState>) -> MutexGuard<'a, PoolState> {
        state.spinning += 1;
        for _ in 0..SPIN_YIELDS {
            drop(state);
            thread::yield_now();
            state = self.lock();
            if !state.queue.is_empty() {
                break;
            }
        }
        state.spinning -= 1;
        state
    }
}

impl PoolState {
    fn size(&self) -> usize {
        self.active + self.idle.len()
    }

    /// Jobs that spinning threads are about to take.
    fn claimed_by_spinning(&self) -> usize {
        self.queue.len().min(self.spinning)
    }

    /// Jobs that still have to run and that no thread is about to take.
    fn waiting(&self) -> usize {
        let live = self.queue.iter().filter(|job| !job.is_abandoned()).count();
        live.saturating_sub(self.spinning)
    }

    /// Removes the abandoned jobs from the queue.
    fn take_abandoned(&mut self) -> VecDeque<AnyJob> {
        let (void, live) = self.queue.drain(..).partition(|job| job.is_abandoned());
        self.queue = live;
        void
    }

    /// Threads that have a job or are about to take one.
    fn running(&self) -> usize {
        self.active - self.spinning + self.claimed_by_spinning()
    }

    /// Threads without a job.
    fn idle(&self) -> usize {
        self.size() - self.running()
    }

    /// Takes the thread that has been idle longest and counts it as running.
    ///
    /// The longest, because the latest is often still about to sleep: a round trip of a job took 53
    /// microseconds with it and 32 with the longest idle one.
    fn take_idle(&mut self) -> Option<ThreadPool> {
        let thread = self.idle.pop_front()?;
        self.active += 1;
        Some(thread)
    }
}

/// How many idle threads to retire after the end of a job.
///
/// While other threads run, only above `IDLE_FACTOR` times `keep_idle`. When no thread runs, all above
/// `keep_idle`, because no later end of a job would retire them.
fn surplus(idle: usize, running: usize, keep_idle: usize) -> usize {
    if running == 0 || idle > keep_idle.saturating_mul(IDLE_FACTOR) {
        idle.saturating_sub(keep_idle)
    } else {
        0
    }
}

/// Starts a thread that ends at once, to find out whether a start succeeds.
fn probe(config: &Config) -> io::Result<()> {
    let probe = thread::Builder::new().name(config.name.clone()).stack_size(config.stack_bytes);
    let started = catch_unwind(AssertUnwindSafe(|| probe.spawn(|| {})));
    let running = started.unwrap_or_else(|payload| Err(panicked(payload)))?;
    // Joined, so that its stack and its thread id are free again for the real start.
    running.join().map_err(panicked)
}

/// Starts a worker thread. `threadpool` panics if the system cannot start it.
fn build(config: &Config) -> io::Result<ThreadPool> {
    let builder = threadpool::Builder::new()
        .num_threads(1)
        .thread_name(config.name.clone())
        .thread_stack_size(config.stack_bytes);
    catch_unwind(AssertUnwindSafe(|| builder.build())).map_err(panicked)
}

/// Runs `step`, which may be user code, and catches its panic.
///
/// If a panic reached `threadpool`, it would start another thread from a destructor and abort the
/// process if that failed. No caller waits for the job, so the panic is logged. The log subscriber is
/// user code, too; its panic must not end the thread either.
fn run_catching(doing: &'static str, step: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(step)) else {
        return;
    };
    let log = || {
        tracing::error!(
            doing,
            reason = &*escape::text(text(&*payload)),
            "a job panicked in its worker"
        )
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(log)) {
        discard(again);
    }
    discard(payload);
}

/// Converts a panic into an error.
fn panicked(payload: Box<dyn Any + Send>) -> io::Error {
    let error = io::Error::other(text(&*payload).to_owned());
    discard(payload);
    error
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(payload is not a string)")
}

/// Drops a panic's payload, whose destructor may panic. The payload of that panic is leaked, so that
/// this does not repeat.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// Locks `mutex`, even if it is poisoned: no user code runs under these locks, and the data changes in
/// steps that cannot panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Workers")
            .field("config", &self.config)
            .field("system_limit", &self.system_limit)
            .field("running", &state.running())
            .field("idle", &state.idle())
            .field("queued", &state.waiting())
            .finish()
    }
}

#[cfg(test)]
mod tests;
