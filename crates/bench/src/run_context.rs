//! The state that the workers of a run share, and the times of the run.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::net::ClientSocket;
use crate::payload::Payload;
use crate::plan::{LoadPlan, Target};
use crate::start_barrier::StartBarrier;
use crate::stop_handle::LoadStopHandle;

/// How long missing replies are waited for after the measured time.
const GRACE: Duration = Duration::from_secs(3);

/// The state that the workers of one run share.
pub(crate) struct RunContext {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) plan: LoadPlan,
    pub(crate) target: Target,
    pub(crate) payload: Arc<Payload>,
    pub(crate) stop: LoadStopHandle,
    pub(crate) epoch: Instant,
    pub(crate) barrier: StartBarrier,
    pub(crate) connected: AtomicU64,
    pub(crate) replies: AtomicU64,
    /// Workers that have not finished.
    pub(crate) working: AtomicUsize,
}

impl RunContext {
    /// Nanoseconds since the run's epoch.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Waits until all workers are connected. `None`: the run does not start.
    pub(crate) fn wait_for_all(&self) -> Option<Window> {
        self.barrier.arrive().map(|start| self.window(start))
    }

    pub(crate) fn window(&self, start: u64) -> Window {
        let from = start + self.plan.warmup.as_nanos() as u64;
        let until = from + self.plan.duration.as_nanos() as u64;
        let deadline = until + GRACE.as_nanos() as u64;
        Window { start, from, until, deadline, is_open_loop: self.plan.rate.is_some() }
    }

    /// Whether the run was stopped early.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// Counts an established connection, for the progress.
    pub(crate) fn count_connected(&self) {
        // ord: Relaxed; it is only displayed.
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no connection has been established yet. Then a worker whose first attempt failed does not
    /// try the others, each of which may take as long to fail.
    pub(crate) fn has_none_connected(&self) -> bool {
        // ord: Relaxed; a connection that another worker establishes at this moment may be missed, and
        // then this worker gives up its own.
        self.connected.load(Ordering::Relaxed) == 0
    }

    /// Counts replies, for the progress.
    pub(crate) fn count_replies(&self, messages: u64) {
        // ord: Relaxed; it is only displayed.
        self.replies.fetch_add(messages, Ordering::Relaxed);
    }

    /// Establishes a connection of the run, by its number.
    pub(crate) fn connect(&self, connection: usize) -> io::Result<ClientSocket> {
        self.target.connect(&self.host, self.plan.source(connection))
    }
}

/// The times of a run, in nanoseconds since its epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The workers start.
    pub(crate) start: u64,
    /// The measured time starts.
    pub(crate) from: u64,
    /// The measured time ends. Nothing more is sent.
    pub(crate) until: u64,
    /// Missing replies are no longer waited for.
    pub(crate) deadline: u64,
    /// Messages are sent at a fixed rate, whether or not replies arrive.
    pub(crate) is_open_loop: bool,
}

impl Window {
    /// Whether a time is within the measured time.
    pub(crate) fn contains(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }
}
