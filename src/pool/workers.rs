//! Threads that run jobs: as many as are needed, reused while warm, let go when they are too many.
//!
//! The failure story. The `threadpool` crate panics in its caller when a thread cannot be had and
//! keeps counting the thread it did not get. It lets an idle thread go only if that thread finishes
//! a job while enough others are busy, so that which and how many leave depends on timing. After a
//! job's panic it replaces the thread from inside a destructor, and aborts the process if it cannot.
//!
//! So every thread here is a [`ThreadPool`] of exactly one, and this file decides which of them
//! gets a job. Growing is building one more, with no count to restore when it fails. Letting go is
//! dropping the handle: its thread takes what was sent to it before, then ends. No job can be lost
//! and none can hang, because only a thread with nothing to do is ever dropped. The price is
//! 1.5 KiB for a channel of one's own; waking is no slower (200 jobs that wait for each other:
//! 18 to 25 microseconds each, against 23 to 31 through one shared channel on the same 2 cores).
//!
//! A thread that has ended a job looks a few times for the next one before it goes back to its
//! channel, and whoever has a job leaves it to a thread that looks. Neither is woken then, which is most
//! of what a short job costs. A job that is left like this cannot be lost either: a thread stops spinning
//! and sees that there is none in one step, under the lock.
//!
//! What is counted: a thread is running from the moment a job is handed to it until the job and
//! everything it captured are gone, and idle otherwise. A thread that is let go is no longer
//! counted, though the kernel may need a moment more to end it.
//!
//! On drop, running jobs go on and their threads end after them; jobs that still wait are dropped
//! without having run, by the dropping thread; idle threads end at once. Nobody is waited for.

mod no_thread;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use echown_fd::escape;
use threadpool::ThreadPool;

use super::headroom::Headroom;
use super::thread_limit::ThreadLimit;
use crate::faults::Saboteur;
use crate::ownership::Registry;
use crate::sys::fork;
use crate::sys::limits::Limits;
pub(crate) use no_thread::{NoThread, NoThreadReason};

/// Idle threads are let go when there are more than this many times the number to keep. Two: a
/// start costs 40 to 100 microseconds, and so the threads let go at one job's end are paid for by as many
/// earlier ends at which nothing was done.
const IDLE_FACTOR: usize = 2;

/// How often a thread without a job lets others run and looks for the next before it sleeps. Where
/// clients come and go, that saves waking it, and a third of a short connection's time; more looks
/// save no more. Where they do not, it is a microsecond for each connection.
const SPIN_YIELDS: usize = 2;

/// From this share of the ceiling on (one part in so many), a start is probed. A quarter: most of
/// the limits are shared with other processes, which may hold three times what this one does; and
/// where mappings are the ceiling, the first 2,000 threads are still had at the lower price.
const PROBE_SHARE: usize = 4;

/// How many threads there may be, and how they look.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Name of every thread, as debuggers and panic messages show it.
    pub(crate) name: String,
    /// Stack of every thread, in bytes.
    pub(crate) stack_bytes: usize,
    /// The most threads at a time; the machine's [`ThreadLimit`] may be lower.
    pub(crate) limit: usize,
    /// The most jobs that wait for a thread; 0 refuses what cannot run at once.
    pub(crate) queue: usize,
    /// Idle threads kept when nothing runs; at least 1 is.
    pub(crate) keep_idle: usize,
    /// Asked before each start whether it is to fail.
    pub(crate) start_faults: StartFaults,
}

/// What may keep a thread from starting besides the system: see [`faults`](crate::faults).
#[derive(Clone, Default)]
pub(crate) struct StartFaults(Option<Registry>);

impl StartFaults {
    /// Whatever sabotages a registry.
    pub(crate) fn of(registry: &Registry) -> StartFaults {
        StartFaults(registry.saboteur().map(|_| registry.clone()))
    }

    fn pass(&self) -> io::Result<()> {
        let saboteur = self.0.as_ref().and_then(Registry::saboteur);
        Ok(saboteur.map_or(Ok(()), Saboteur::before_thread)?)
    }
}

impl fmt::Debug for StartFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a saboteur" } else { "none" })
    }
}

/// Runs jobs on threads that it starts when there is a job and no idle thread.
pub(crate) struct Workers {
    config: Config,
    ceiling: ThreadLimit,
    shared: Arc<PoolShared>,
    /// Held while a thread is started, so that threads come one at a time, and a job is never
    /// queued behind a thread that is still being started and might not come.
    growth: Mutex<Growth>,
    /// Of the process that made it; see [`fork`].
    generation: u32,
}

struct Growth {
    headroom: Headroom,
    /// A start has been refused: from then on every start is probed.
    was_refused: bool,
}

/// What a thread runs.
pub(crate) trait Job: Send + 'static {
    fn run(self: Box<Self>);

    /// Whether there is nothing left to run: it then takes no place among those that wait. Called under
    /// the lock.
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

/// What the handle and the running threads share. An idle thread holds no reference to it.
struct PoolShared {
    keep_idle: usize,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// Threads with a job, and those that look for one.
    active: usize,
    /// How many of them look for one.
    spinning: usize,
    /// In the order in which they became idle.
    idle: VecDeque<ThreadPool>,
    /// As many as there are threads that look are on their way to these; the others wait, and do so
    /// only while nobody is idle and at least one thread runs a job.
    queue: VecDeque<AnyJob>,
    closed: bool,
}

/// What a thread does after a job.
enum NextStep {
    Run(ThreadPool, AnyJob),
    /// Return to the channel. The threads in here are let go; the own one may be among them.
    GoIdle(Vec<ThreadPool>),
}

impl Workers {
    /// Reads the machine's ceiling; starts no thread yet.
    pub(crate) fn new(config: Config) -> Workers {
        let limits = Limits::read();
        Workers::with_limits(ThreadLimit::of(&limits), Headroom::new(&limits), config)
    }

    fn with_limits(ceiling: ThreadLimit, headroom: Headroom, mut config: Config) -> Workers {
        // The standard library panics on a thread's name with a NUL inside.
        config.name = config.name.replace('\0', "?");
        let shared = PoolShared { keep_idle: config.keep_idle.max(1), state: Mutex::default() };
        let growth = Mutex::new(Growth { headroom, was_refused: false });
        let generation = fork::generation();
        Workers { config, ceiling, shared: Arc::new(shared), growth, generation }
    }

    /// Runs `job` on an idle thread, else on a new one, else as soon as a thread is free.
    ///
    /// Returns as soon as that is decided. A panic of the job ends with the job; the thread goes on.
    ///
    /// # Errors
    ///
    /// [`NoThread`] if every thread is busy, no further one can be had, and the queue is full. It
    /// gives the job back. The queue is used also after a refused start, if any thread exists.
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
        growth.was_refused = true;
        // While the start was tried, a job may have ended.
        let (job, state) = match self.run_on_idle(job) {
            Ok(()) => return Ok(()),
            Err(left) => left,
        };
        let threads = state.size();
        self.queue_or_reject(state, job, |_| NoThreadReason::StartFailed { threads, error })
    }

    /// The most threads there can be: the configured limit or the ceiling, whichever is lower.
    pub(crate) fn limit(&self) -> usize {
        self.config.limit.min(self.ceiling.threads)
    }

    /// This machine's ceiling, as it was when the workers were made.
    pub(crate) fn ceiling(&self) -> ThreadLimit {
        self.ceiling
    }

    /// Threads, running and idle.
    pub(crate) fn size(&self) -> usize {
        self.shared.lock().size()
    }

    /// Threads without a job.
    pub(crate) fn idle(&self) -> usize {
        self.shared.lock().idle()
    }

    /// Threads with a job.
    pub(crate) fn running(&self) -> usize {
        self.shared.lock().running()
    }

    /// Jobs that wait for a thread.
    pub(crate) fn queued(&self) -> usize {
        self.shared.lock().waiting()
    }

    /// Hands `job` to an idle thread, or back together with the state in which nobody is idle.
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

    /// Counts a new thread in and gives it a job: the longest waiting one, if any waits.
    fn run_on_new(&self, thread: ThreadPool, job: AnyJob) {
        let mut state = self.shared.lock();
        state.active += 1;
        // Some wait although there was room to grow if an earlier start was refused.
        state.queue.push_back(job);
        let first = state.queue.pop_front();
        drop(state);
        if let Some(first) = first {
            self.shared.dispatch(thread, first);
        }
    }

    /// Queues `job`, in a state in which nobody is idle, or gives it back with the `reason` for so many
    /// waiting jobs.
    fn queue_or_reject<J: Job>(
        &self,
        mut state: MutexGuard<'_, PoolState>,
        job: J,
        reason: impl FnOnce(usize) -> NoThreadReason,
    ) -> Result<(), NoThread<J>> {
        let void = state.take_abandoned();
        let waiting = state.waiting();
        // Without a thread nobody would ever come for the job.
        let answer = if state.size() > 0 && waiting < self.config.queue {
            state.queue.push_back(Box::new(job));
            Ok(())
        } else {
            Err(NoThread { job, reason: reason(waiting) })
        };
        // What is left of them may be the user's to drop: without the lock.
        drop(state);
        drop(void);
        answer
    }

    fn limit_reached(&self, queued: usize) -> NoThreadReason {
        if self.config.limit <= self.ceiling.threads {
            let threads = self.config.limit;
            NoThreadReason::PoolLimit { threads, queued }
        } else {
            let ceiling = self.ceiling;
            NoThreadReason::SystemLimit { ceiling, queued }
        }
    }

    /// Starts a thread, the `size + 1`st.
    ///
    /// A probe costs more than the start itself, because it is waited for: growing by 500 threads
    /// takes 31 to 51 microseconds a thread without and 102 to 116 with it (2 cores, 256 KiB
    /// stacks). So it is made where a refusal is likely, near the ceiling and after a first refusal,
    /// and where `threadpool`'s panic would be fatal. A refusal elsewhere is caught and is the same
    /// error, but has left a panic message on standard error, once.
    fn start(&self, size: usize, growth: &mut Growth) -> io::Result<ThreadPool> {
        self.config.start_faults.pass()?;
        growth.headroom.check(self.config.stack_bytes)?;
        let near = size >= self.ceiling.threads / PROBE_SHARE;
        if near || growth.was_refused || cfg!(panic = "abort") {
            probe(&self.config)?;
        }
        build(&self.config).map_err(|panicked| match probe(&self.config) {
            // The panic has the system's answer only as text; ask again for the answer itself.
            Err(refusal) => refusal,
            Ok(()) => panicked,
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // Its threads are the parent process's, and its lock may be held by one of them.
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

    /// Sends `job`, which is counted as running already, to `thread`.
    ///
    /// `ThreadPool::execute` panics only if nobody can receive; the handle itself keeps the receiver.
    fn dispatch(self: &Arc<PoolShared>, thread: ThreadPool, job: AnyJob) {
        let shared = Arc::clone(self);
        let own = thread.clone();
        thread.execute(move || shared.work(own, job));
    }

    /// Runs `job`, then what waits. On the thread's own stack; `thread` is its handle.
    fn work(self: Arc<PoolShared>, mut thread: ThreadPool, mut job: AnyJob) {
        loop {
            run_catching("running a job", || job.run());
            match self.next(thread) {
                NextStep::Run(same, next) => (thread, job) = (same, next),
                NextStep::GoIdle(retired) => return drop(retired),
            }
        }
    }

    /// Accounts for the end of a job on `thread`.
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

    /// Lets others run, a few times, until there is a job.
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

    /// Jobs that a thread that looks is about to find.
    fn claimed_by_spinning(&self) -> usize {
        self.queue.len().min(self.spinning)
    }

    /// Jobs for which there is no thread yet, and that are still to be run.
    fn waiting(&self) -> usize {
        let live = self.queue.iter().filter(|job| !job.is_abandoned()).count();
        live.saturating_sub(self.spinning)
    }

    /// Takes out what is not to be run any more.
    fn take_abandoned(&mut self) -> VecDeque<AnyJob> {
        let (void, live) = self.queue.drain(..).partition(|job| job.is_abandoned());
        self.queue = live;
        void
    }

    /// Threads that have a job, or are about to find it.
    fn running(&self) -> usize {
        self.active - self.spinning + self.claimed_by_spinning()
    }

    /// Threads that nothing has been handed to.
    fn idle(&self) -> usize {
        self.size() - self.running()
    }

    /// Takes the thread that has been idle longest and counts it as running.
    ///
    /// The longest, not the last: that one is often still on its way to sleep, and waking it took
    /// 53 microseconds for a job there and back where the longest idle one took 32.
    fn take_idle(&mut self) -> Option<ThreadPool> {
        let thread = self.idle.pop_front()?;
        self.active += 1;
        Some(thread)
    }
}

/// How many idle threads to let go after a job's end.
///
/// While others run, only when there are clearly too many; when nothing runs, all above
/// `keep_idle`, because no later end of a job would do it.
fn surplus(idle: usize, running: usize, keep_idle: usize) -> usize {
    if running == 0 || idle > keep_idle.saturating_mul(IDLE_FACTOR) {
        idle.saturating_sub(keep_idle)
    } else {
        0
    }
}

/// Starts a thread that ends at once, to learn whether one can be had.
fn probe(config: &Config) -> io::Result<()> {
    let probe = thread::Builder::new().name(config.name.clone()).stack_size(config.stack_bytes);
    let started = catch_unwind(AssertUnwindSafe(|| probe.spawn(|| {})));
    let running = started.unwrap_or_else(|payload| Err(panicked(payload)))?;
    // Joined, so that what it took is free again for the thread that is wanted.
    running.join().map_err(panicked)
}

/// Starts the thread that is wanted. `threadpool` answers a refusal with a panic.
fn build(config: &Config) -> io::Result<ThreadPool> {
    let builder = threadpool::Builder::new()
        .num_threads(1)
        .thread_name(config.name.clone())
        .thread_stack_size(config.stack_bytes);
    catch_unwind(AssertUnwindSafe(|| builder.build())).map_err(panicked)
}

/// Runs `step`, which may be a stranger's code, and ends its panic here.
///
/// Were a panic to reach `threadpool`, it would start another thread from a destructor, and where
/// that cannot be had the process would abort. Nobody waits for a job, so it is logged; a log that
/// panics in turn (it is a stranger's code too) must not cost the thread either.
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

/// The panic as an error.
fn panicked(payload: Box<dyn Any + Send>) -> io::Error {
    let error = io::Error::other(text(&*payload).to_owned());
    discard(payload);
    error
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a payload that is no text")
}

/// Drops a panic's payload, which may panic in turn. Forgetting what that leaves ends the regress.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// Locks also after a panic elsewhere: no stranger's code runs under these locks, and what is
/// behind them changes in steps that cannot panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Workers")
            .field("config", &self.config)
            .field("ceiling", &self.ceiling)
            .field("running", &state.running())
            .field("idle", &state.idle())
            .field("queued", &state.waiting())
            .finish()
    }
}

#[cfg(test)]
mod tests;
