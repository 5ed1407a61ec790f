//! The staged client: workers that ask for ever, and compare what they are answered.
//!
//! Each WORKER connects, sends `WORKER-n-SEQUENCE` as a line, reads the line that comes back, pauses,
//! and asks again; where something fails it waits and connects anew. RX and TX help it; TERMINATOR
//! hears signals. Machines are tasks without a thread, as in the server's
//! [`Staged`](crate::echo::Staged); each WORKER has a thread of its own that waits in the name of the
//! machine that has to wait.
//!
//! # Sources
//!
//! EDSM's echo client, of which it has the machines, the messages and the trace.

mod stop;
mod summary;
mod tables;
mod talk;
mod troupe;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::net::Endpoint;
use crate::ownership::{Registry, TaskError};
use crate::stage::{Lent, Sink, Tag};
use crate::thread;
pub use stop::Stop;
pub use summary::Summary;
use talk::Talk;
use troupe::Play;

/// What a client does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Whom to talk to.
    pub server: Endpoint,
    /// Connections at a time.
    pub workers: NonZeroUsize,
    /// Between a reply and the next request.
    pub pause: Duration,
    /// Between a failure and the next attempt to connect.
    pub retry: Duration,
    /// How long a reply may take.
    pub reply_timeout: Duration,
    /// After how many requests a worker ends, those among them that are not answered and attempts to
    /// connect that fail; never unless set.
    pub count: Option<u64>,
}

impl Settings {
    /// The usual ones, for this server.
    #[must_use]
    pub fn new(server: Endpoint) -> Settings {
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

/// Talks to a server until `stop` is given or every worker is done.
///
/// # Errors
/// A worker that could not be started; the others have been ended. `TimedOut`: it was told to stop,
/// and nobody reads what it says; workers are left behind.
pub fn run(
    registry: &Registry,
    settings: &Settings,
    sink: Option<Sink>,
    stop: &Stop,
) -> io::Result<Summary> {
    let play = Arc::new(Mutex::new(Play::open(registry, settings, sink, stop)?));
    let mut workers = Vec::new();
    let mut failed = None;
    for index in 0..settings.workers.get() {
        let worker = Worker { talk: index as u64, play: Arc::clone(&play), stop: stop.clone() };
        stop.enter();
        match thread::spawn_in(registry, "worker", [], move || worker.run()) {
            Ok(promise) => workers.push(promise),
            Err(error) => {
                failed = Some(io::Error::other(error.to_string()));
                break;
            }
        }
    }
    if failed.is_none()
        && let Some(signal) = stop.wait_for_all()
    {
        // Under the lock: nothing is told after it.
        let told = lock_patiently(&play).map(|mut play| {
            play.signal(signal);
            stop.stop_all();
        });
        if told.is_none() {
            // Their writing cannot be interrupted, and at its end a task waits for its children.
            std::mem::forget(workers);
            let text = "a worker is stuck: its output is not read";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    }
    stop.stop_all();
    for worker in &workers {
        // Ours, all of them; one that has ended is left alone.
        let _ = worker.request_cancel();
    }
    for worker in workers {
        match worker.join() {
            Ok(()) | Err(TaskError::Cancelled) => {}
            Err(failure) => tracing::error!("a worker: {failure}"),
        }
    }
    match (failed, Arc::into_inner(play)) {
        (Some(error), _) => Err(error),
        (None, Some(play)) => {
            Ok(play.into_inner().unwrap_or_else(PoisonError::into_inner).into_summary())
        }
        (None, None) => unreachable!("the workers have ended"),
    }
}

/// How long the end waits for whoever has the machines. They do nothing that takes long but say what
/// happens, to somebody who may not listen.
const STUCK_PATIENCE: Duration = Duration::from_secs(2);

/// Locks the machines, unless they are held up.
fn lock_patiently(play: &Mutex<Play>) -> Option<MutexGuard<'_, Play>> {
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + STUCK_PATIENCE;
    loop {
        match play.try_lock() {
            Ok(play) => return Some(play),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
}

fn lock(play: &Mutex<Play>) -> MutexGuard<'_, Play> {
    play.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that waits for one WORKER and its helpers.
struct Worker {
    talk: u64,
    play: Arc<Mutex<Play>>,
    stop: Stop,
}

impl Worker {
    fn run(self) {
        while let Some(mut lent) = self.lend() {
            let tag = lent.wait(Talk::wait).unwrap_or(Tag::D(2));
            // Looked at under the lock: after the trace has told of the signal nothing more happens.
            let mut play = lock(&self.play);
            if self.stop.is_stopped() {
                play.retire(lent);
                return;
            }
            play.come_back(lent, tag);
        }
    }

    fn lend(&self) -> Option<Lent<Talk>> {
        lock(&self.play).lend(self.talk)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.leave();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.talk)
    }
}
