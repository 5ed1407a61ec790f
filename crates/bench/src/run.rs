//! The run of a load: starts the workers together, measures, and collects their statistics.

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use echown_limits::{MAP_COUNT, ThreadLimit, ThreadLimits};

use crate::blocking;
use crate::error_kind;
use crate::event::EventClient;
use crate::frames::BroadcastClients;
use crate::host::Host;
use crate::idle::IdleConnections;
use crate::load_error::{LoadError, no_connection};
use crate::payload::Payload;
use crate::plan::{ClientKind, LoadPlan, Target, WireProtocol};
use crate::progress::LoadProgress;
use crate::result::{LoadResult, Measurements};
use crate::run_context::{RunContext, Window};
use crate::start_barrier::StartBarrier;
use crate::stop_handle::LoadStopHandle;
use crate::usage::{UsageInterval, UsageSample};
use crate::worker_stats::WorkerStats;

/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Runs a load against a server. `pid` is the server's process, if its resources are to be measured;
/// `progress` is called from time to time.
///
/// # Errors
/// No connection could be established (this is returned at once, not at the end of the run); a worker
/// could not be started; the process could not be read; or the run was stopped before anything was
/// measured.
///
/// # Limits
/// Run one load at a time in a process: its own processor time is taken for the client's.
pub fn run(
    host: &Arc<dyn Host>,
    plan: &LoadPlan,
    target: &Target,
    pid: Option<i32>,
    stop: &LoadStopHandle,
    mut progress: impl FnMut(LoadProgress<'_>),
) -> Result<LoadResult, LoadError> {
    let mut plan = plan.clone().with_enough_sources(target);
    match plan.client {
        ClientKind::Event { .. } => {
            plan.client = ClientKind::Event { threads: shares(&plan).len().max(1) }
        }
        ClientKind::Blocking => check_threads(plan.connections)?,
    }
    let before = UsageSample::take(pid);
    if let (Some(pid), None) = (pid, &before.server) {
        let what = "there is no such process, or /proc does not show it";
        return Err(LoadError::new(format!("failed to read the server's process {pid}: {what}")));
    }
    let mut idle = IdleConnections::open(host, &plan, target, stop, &mut progress)?;
    let run = Arc::new(RunContext {
        host: Arc::clone(host),
        payload: Arc::new(Payload::new(plan.protocol, plan.message_bytes, plan.seed)),
        plan,
        target: target.clone(),
        stop: stop.clone(),
        epoch: Instant::now(),
        barrier: StartBarrier::default(),
        connected: AtomicU64::new(0),
        replies: AtomicU64::new(0),
        working: AtomicUsize::new(0),
    });
    let mut workers = Vec::new();
    let mut failed = None;
    for share in shares(&run.plan) {
        let of_worker = Arc::clone(&run);
        // ord: Relaxed; the zero at the end is polled.
        run.working.fetch_add(1, Ordering::Relaxed);
        let builder = thread::Builder::new().name("client".into());
        match builder.spawn(move || work(&of_worker, share)) {
            Ok(worker) => workers.push(worker),
            Err(error) => {
                let text = format!("failed to start a client thread: {error}");
                failed = Some(LoadError::new(text).caused_by(error));
                break;
            }
        }
    }
    let (usage, ended_early) = match &failed {
        None => observe(&run, workers.len(), pid, &mut progress),
        Some(_) => {
            run.barrier.release(None);
            (UsageInterval::default(), true)
        }
    };
    let stats = gather(workers)?;
    if let Some(failed) = failed {
        return Err(failed);
    }
    let mut stats = stats;
    let is_stopped = stop.is_stopped();
    if is_stopped && stats.messages == 0 {
        return Err(LoadError::new("the run was stopped before anything was measured"));
    }
    idle.check(stop, &mut stats);
    if stats.established == 0 {
        // The consequences of having no connection do not say why there is none.
        let consequences = [error_kind::NO_CONNECTION, error_kind::NEVER_SENT];
        let mut reasons = stats.errors.keys().filter(|why| !consequences.contains(why));
        let why = reasons.next().copied().unwrap_or("no attempt was made");
        return Err(no_connection(target, why));
    }
    let idle = idle.held();
    Ok(LoadResult::new(
        &run.plan,
        Measurements { stats, idle, before, usage, is_stopped, ended_early },
    ))
}

/// Checks that a thread can be started for each connection. One more than the mappings allow would
/// abort the process; beyond the other limits a start returns an error.
fn check_threads(connections: usize) -> Result<(), LoadError> {
    let limits = ThreadLimit::all(&ThreadLimits::read());
    let Some(limit) =
        limits.iter().find(|limit| limit.limit == MAP_COUNT && limit.threads < connections)
    else {
        return Ok(());
    };
    Err(LoadError::new(format!(
        "{connections} connections of the blocking client exceed the limit of {limit}: use fewer \
         connections or --client event"
    )))
}

/// Divides the connections among the workers.
fn shares(plan: &LoadPlan) -> Vec<Range<usize>> {
    let connections = plan.connections;
    let workers = match plan.client {
        // One worker, because the order of frames is compared across all connections.
        _ if plan.protocol == WireProtocol::Frames => 1,
        ClientKind::Event { threads } => threads.clamp(1, connections.max(1)),
        ClientKind::Blocking => connections,
    };
    let first = |worker: usize| worker * connections / workers.max(1);
    (0..workers).map(|worker| first(worker)..first(worker + 1)).collect()
}

fn work(run: &RunContext, share: Range<usize>) -> WorkerStats {
    if run.plan.rate.is_some() {
        // By default a sleep is up to 50 microseconds longer than requested.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    }
    let stats = match run.plan.client {
        _ if run.plan.protocol == WireProtocol::Frames => {
            drive(run, share, BroadcastClients::connect, BroadcastClients::drive)
        }
        ClientKind::Event { .. } => drive(run, share, EventClient::connect, EventClient::drive),
        ClientKind::Blocking => blocking::work(run, share),
    };
    // ord: Relaxed; as where it is incremented.
    run.working.fetch_sub(1, Ordering::Relaxed);
    stats
}

/// Runs the connections of one worker, which `connect` establishes before the run starts.
fn drive<'run, C>(
    run: &'run RunContext,
    share: Range<usize>,
    connect: impl FnOnce(&'run RunContext, Range<usize>, &mut WorkerStats) -> io::Result<C>,
    exchange: impl FnOnce(&mut C, Window, &mut WorkerStats),
) -> WorkerStats {
    let mut stats = WorkerStats::new(share.len());
    let connected = connect(run, share, &mut stats);
    if let Err(error) = &connected {
        stats.record_error(error_kind::of(error));
    }
    // The others wait for this worker, even if it failed.
    if let (Some(window), Ok(mut connections)) = (run.wait_for_all(), connected) {
        exchange(&mut connections, window, &mut stats);
    }
    stats
}

fn gather(workers: Vec<JoinHandle<WorkerStats>>) -> Result<WorkerStats, LoadError> {
    let mut stats = WorkerStats::new(0);
    let mut failed = None;
    for worker in workers {
        match worker.join() {
            Ok(of_worker) => stats.add(of_worker),
            Err(panic) => failed = Some(format!("a client thread panicked: {}", message(&*panic))),
        }
    }
    failed.map_or(Ok(stats), |failed| Err(LoadError::new(failed)))
}

/// The message of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Releases the workers, reports progress, and samples resources at both ends of the measured time.
/// Returns also whether the run ended early: it was stopped, or no worker had anything left to do.
fn observe(
    run: &RunContext,
    workers: usize,
    pid: Option<i32>,
    progress: &mut impl FnMut(LoadProgress<'_>),
) -> (UsageInterval, bool) {
    // ord: Relaxed; they are only displayed.
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let connections = run.plan.connections;
    while !run.barrier.wait_for(workers, PROGRESS_INTERVAL) {
        let connected = load(&run.connected);
        let text = format!("connecting to {}: {connected} of {connections}", run.target);
        progress(LoadProgress::Waiting(&text));
        if run.is_stopped() {
            break;
        }
    }
    let start = run.now();
    if run.is_stopped() || run.has_none_connected() {
        // Without a connection there is nothing to measure.
        run.barrier.release(None);
        return (UsageInterval::default(), true);
    }
    run.barrier.release(Some(start));
    let window = run.window(start);
    let mut reported = (start, load(&run.replies));
    // In an open loop, a worker may have sent its last message long before the end.
    let can_end = run.plan.rate.is_none();
    // ord: Relaxed; polled.
    let is_over = || run.is_stopped() || can_end && run.working.load(Ordering::Relaxed) == 0;
    let mut wait_until = |moment: u64| {
        while run.now() < moment && !is_over() {
            let left = Duration::from_nanos(moment.saturating_sub(run.now()));
            run.stop.wait(left.min(PROGRESS_INTERVAL));
            let now = (run.now(), load(&run.replies));
            let seconds = Duration::from_nanos(now.0 - reported.0).as_secs_f64();
            let rate = (now.1 - reported.1) as f64 / seconds.max(1e-9);
            let left = Duration::from_nanos(window.until.saturating_sub(now.0));
            let left = left.as_secs_f64();
            let text = format!("{rate:.0} messages per second, {left:.0} s left");
            progress(LoadProgress::Running(&text));
            reported = now;
        }
    };
    wait_until(window.from);
    let first = UsageSample::take(pid);
    wait_until(window.until);
    let ended_early = run.now() < window.until;
    (UsageInterval { first, last: UsageSample::take(pid) }, ended_early)
}
