//! The staged client: workers that send requests in a loop and verify the replies.
//!
//! Each WORKER connects, sends `WORKER-n-SEQUENCE` as a line, reads the line that comes back, pauses,
//! and sends the next. After a failure it waits and reconnects. TX connects and sends for it, RX
//! receives, and TERMINATOR handles signals. Each WORKER has a thread, on which it and its helpers run
//! as tasks; see [`stage`](crate::stage).
//!
//! # Sources
//!
//! The machines, the events and the trace are those of EDSM's echo client.

mod actions;
mod session;
mod stop_handle;
mod summary;
mod tables;

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::net::Endpoint;
use crate::ownership::{Registry, TaskError};
use crate::stage::{Driver, Machines, Sink};
use crate::thread;
use actions::ClientActions;
use session::Session;
pub(crate) use stop_handle::StopHandle;
pub(crate) use summary::Summary;

/// The settings of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) struct Settings {
    /// The server's address.
    pub server: Endpoint,
    /// The number of workers; each has one connection.
    pub workers: NonZeroUsize,
    /// The pause between a reply and the next request.
    pub pause: Duration,
    /// The pause between a failure and the next attempt to connect.
    pub retry: Duration,
    /// How long a reply may take.
    pub reply_timeout: Duration,
    /// After how many requests each worker ends, including those without a reply and attempts to connect
    /// that failed. `None`: never.
    pub count: Option<u64>,
}

impl Settings {
    /// The default settings, for this server.
    #[must_use]
    pub(crate) fn new(server: Endpoint) -> Settings {
        Settings {
            server,
            workers: WORKERS_DEFAULT,
            pause: Duration::from_millis(500),
            retry: Duration::from_millis(5000),
            reply_timeout: Duration::from_secs(10),
            count: None,
        }
    }
}

const WORKERS_DEFAULT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

/// Runs the workers until `stop` is used or every worker is done.
///
/// # Errors
/// A worker could not be started; the others were ended. `TimedOut`: the client was stopped, but its
/// output is not read; its workers are left running.
pub(crate) fn run(
    registry: &Registry,
    settings: &Settings,
    sink: Option<Sink>,
    stop: &StopHandle,
) -> io::Result<Summary> {
    let machines = Arc::new(Mutex::new(actions::open(settings, sink, stop)));
    let server = Arc::new(settings.server.clone());
    let mut workers = Vec::new();
    let mut failed = None;
    for number in 1..=settings.workers.get() {
        let session = Session::new(&server, stop, settings.count);
        let (theirs, machines) = (registry.clone(), Arc::clone(&machines));
        let guard = stop.begin_work();
        let work = move || {
            let _guard = guard;
            run_worker(&theirs, &machines, session, number);
        };
        match thread::spawn_named("worker", [], work) {
            Ok(promise) => workers.push(promise),
            Err(error) => {
                failed = Some(io::Error::other(error.to_string()));
                break;
            }
        }
    }
    if failed.is_none()
        && let Some(signal) = stop.wait_for_signal()
    {
        // Under the lock, so that nothing is traced after the signal.
        let delivered = lock_with_timeout(&machines).map(|mut machines| {
            actions::deliver_signal(&mut machines, signal);
            stop.stop_workers();
        });
        if delivered.is_none() {
            // A write cannot be interrupted, and a task waits for its children when it ends.
            std::mem::forget(workers);
            let text = "a worker is stuck: its output is not read";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    }
    stop.stop_workers();
    for worker in &workers {
        // Every worker is a child of this task. A cancel does nothing to one that has ended.
        let _ = worker.request_cancel();
    }
    for worker in workers {
        match worker.join() {
            Ok(()) | Err(TaskError::Cancelled) => {}
            Err(failure) => tracing::error!("a worker: {failure}"),
        }
    }
    let summary = lock(&machines).actions.summary;
    failed.map_or(Ok(summary), Err)
}

/// Runs WORKER-`number`, on its own thread.
fn run_worker(
    registry: &Registry,
    machines: &Mutex<Machines<ClientActions>>,
    session: Session,
    number: usize,
) {
    let begin = |machines: &mut Machines<_>| Some(machines.add(&tables::WORKER, number));
    let mut session = Driver::run(machines, registry, session, &|| (), begin);
    session.hang_up();
}

/// How long the end waits for the machines. What they do under the lock is short, except for writing
/// events to an output, which may not be read.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

fn lock_with_timeout<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match mutex.try_lock() {
            Ok(locked) => return Some(locked),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
