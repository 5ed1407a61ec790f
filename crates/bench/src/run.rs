//! Doing what a plan says: the workers, their beginning at the same moment, and the end.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::blocking;
use crate::event;
use crate::frames;
use crate::gate::Gate;
use crate::host::Host;
use crate::idle::Idle;
use crate::machine::{Meter, Reading};
use crate::net::Stream;
use crate::outcome::{Measured, Outcome};
use crate::pattern::Pattern;
use crate::plan::{Client, Dialect, Plan, Target};
use crate::tally::{self, Tally};
use crate::threads::ThreadLimit;
use crate::watch::Watch;

/// How long answers are waited for that were missing when the time was over.
const GRACE: Duration = Duration::from_secs(3);

/// How often whoever watches is told.
const TELLING_PERIOD: Duration = Duration::from_millis(250);

/// What was to be done could not be begun.
#[derive(Debug)]
pub struct LoadError(String);

impl LoadError {
    pub(crate) fn new(text: impl Into<String>) -> LoadError {
        LoadError(text.into())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// What goes on.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// Something is waited for that should be there at once.
    Waiting(&'a str),
    /// It goes on.
    Running(&'a str),
}

impl Progress<'_> {
    /// Tells it as a part of something larger.
    pub fn under(self, what: &str, mut progress: impl FnMut(Progress<'_>)) {
        match self {
            Progress::Waiting(text) => progress(Progress::Waiting(&format!("{what}: {text}"))),
            Progress::Running(text) => progress(Progress::Running(&format!("{what}: {text}"))),
        }
    }
}

/// What the workers of one run have in common.
pub(crate) struct Run {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) plan: Plan,
    pub(crate) target: Target,
    pub(crate) pattern: Arc<Pattern>,
    watch: Watch,
    epoch: Instant,
    gate: Gate,
    connected: AtomicU64,
    answered: AtomicU64,
    /// Workers that have not ended.
    working: AtomicUsize,
}

impl Run {
    /// Nanoseconds since the run's epoch.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Waits until all workers are connected. `None`: nothing is to be measured.
    pub(crate) fn wait_for_all(&self) -> Option<Window> {
        self.gate.arrive().map(|began| self.window(began))
    }

    fn window(&self, began: u64) -> Window {
        let from = began + self.plan.warmup.as_nanos() as u64;
        let until = from + self.plan.duration.as_nanos() as u64;
        let give_up = until + GRACE.as_nanos() as u64;
        Window { began, from, until, give_up, is_of_a_rate: self.plan.rate.is_some() }
    }

    /// Whether nothing more is to be asked.
    pub(crate) fn is_stopped(&self) -> bool {
        self.watch.is_stopped()
    }

    /// Tells whoever watches of a connection that stands.
    pub(crate) fn tell_connected(&self) {
        // ord: Relaxed; it is shown and nothing else.
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no connection was made so far: a worker whose first attempt failed does not try the
    /// others, each of which may take as long to fail.
    pub(crate) fn has_none_connected(&self) -> bool {
        // ord: Relaxed; a connection that another worker makes at this moment may be missed, which
        // costs this worker its own.
        self.connected.load(Ordering::Relaxed) == 0
    }

    /// Tells whoever watches of answers.
    pub(crate) fn tell_answered(&self, messages: u64) {
        // ord: Relaxed; it is shown and nothing else.
        self.answered.fetch_add(messages, Ordering::Relaxed);
    }

    /// A connection of the run, by its number.
    pub(crate) fn connect(&self, connection: usize) -> io::Result<Stream> {
        self.target.connect(&self.host, self.plan.source(connection))
    }
}

/// What counts when, in nanoseconds of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The workers begin.
    pub(crate) began: u64,
    /// Answers begin to count.
    pub(crate) from: u64,
    /// Nothing more is asked.
    pub(crate) until: u64,
    /// Nothing more is waited for.
    pub(crate) give_up: u64,
    /// Messages are due at a rate, whether or not those before are answered.
    pub(crate) is_of_a_rate: bool,
}

impl Window {
    pub(crate) fn counts(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// Asks a server what the plan says. `pid` is the server's process, if it runs here and is to be looked
/// at; `progress` is told from time to time what is going on.
///
/// # Errors
/// No connection could be made, which is known at once and not when the time is over; a worker not be
/// started, or the process not be looked at; or it was stopped before anything was measured.
pub fn run(
    host: &Arc<dyn Host>,
    plan: &Plan,
    target: &Target,
    pid: Option<i32>,
    watch: &Watch,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Outcome, LoadError> {
    let mut plan = plan.clone().with_enough_sources(target);
    match plan.client {
        Client::Event { .. } => plan.client = Client::Event { threads: shares(&plan).len().max(1) },
        Client::Blocking => fits(plan.connections)?,
    }
    let before = Reading::take(pid);
    if let (Some(pid), None) = (pid, &before.server) {
        let what = "there is none on this machine that may be looked at";
        return Err(LoadError::new(format!("the server's process {pid}: {what}")));
    }
    let mut idle = Idle::open(host, &plan, target, watch, &mut progress)?;
    let run = Arc::new(Run {
        host: Arc::clone(host),
        pattern: Arc::new(Pattern::new(plan.dialect, plan.message_bytes, plan.seed)),
        plan,
        target: target.clone(),
        watch: watch.clone(),
        epoch: Instant::now(),
        gate: Gate::default(),
        connected: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        working: AtomicUsize::new(0),
    });
    let mut workers = Vec::new();
    let mut failed = None;
    for share in shares(&run.plan) {
        let of_worker = Arc::clone(&run);
        // ord: Relaxed; what counts is when it is zero again, which is looked at again and again.
        run.working.fetch_add(1, Ordering::Relaxed);
        let builder = thread::Builder::new().name("client".into());
        match builder.spawn(move || work(&of_worker, share)) {
            Ok(worker) => workers.push(worker),
            Err(error) => {
                failed = Some(format!("no thread for another client: {error}"));
                break;
            }
        }
    }
    let (meter, is_cut) = match &failed {
        None => observe(&run, workers.len(), pid, &mut progress),
        Some(_) => {
            run.gate.open(None);
            (Meter::default(), true)
        }
    };
    let tally = gather(workers)?;
    if let Some(failed) = failed {
        return Err(LoadError::new(failed));
    }
    let mut tally = tally;
    let is_stopped = watch.is_stopped();
    if is_stopped && tally.messages == 0 {
        return Err(LoadError::new("it was ended before anything was measured"));
    }
    idle.check(watch, &mut tally);
    if tally.established == 0 {
        // What came of having none does not say why there is none.
        let consequences = [tally::NO_CONNECTION, tally::UNASKED];
        let mut reasons = tally.errors.keys().filter(|why| !consequences.contains(why));
        let why = reasons.next().copied().unwrap_or("no attempt was made");
        return Err(no_connection(target, why));
    }
    let idle = idle.held();
    Ok(Outcome::new(&run.plan, Measured { tally, idle, before, meter, is_stopped, is_cut }))
}

/// Why there is no connection, and what to do about it.
pub(crate) fn no_connection(target: &Target, why: &str) -> LoadError {
    let advice = match (why, target) {
        (tally::REFUSED | tally::NO_SOCKET, _) => format!(
            ": no server listens there; start one (`echown serve --listen {target}`), or leave the \
             address out: then `echown bench` starts its own"
        ),
        (tally::TIMED_OUT, _) => ": check the address, the network and its firewalls".into(),
        (tally::UNANSWERED | tally::CLOSED, _) => {
            ": the server accepts connections and does not answer; check its protocol (--style)"
                .into()
        }
        _ => String::new(),
    };
    LoadError::new(format!("failed to connect to {target}: {why}{advice}"))
}

/// Whether a thread for each connection is no more than this machine carries. Beyond that the standard
/// library may end the process.
fn fits(connections: usize) -> Result<(), LoadError> {
    let limit = ThreadLimit::read();
    if connections as u64 <= limit.threads {
        return Ok(());
    }
    let what = format!("{connections} threads are more than the ceiling of {limit}");
    Err(LoadError::new(format!("{what}: have fewer connections, or the event client")))
}

/// Which connections each worker has.
fn shares(plan: &Plan) -> Vec<Range<usize>> {
    let connections = plan.connections;
    let workers = match plan.client {
        // Their order is one that all of them are compared with.
        _ if plan.dialect == Dialect::Frames => 1,
        Client::Event { threads } => threads.clamp(1, connections.max(1)),
        Client::Blocking => connections,
    };
    let beginning = |worker: usize| worker * connections / workers.max(1);
    (0..workers).map(|worker| beginning(worker)..beginning(worker + 1)).collect()
}

fn work(run: &Run, share: Range<usize>) -> Tally {
    if run.plan.rate.is_some() {
        // What is due is to be asked then; usually a sleep is 50 microseconds longer than it has to be.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    }
    let tally = match run.plan.client {
        _ if run.plan.dialect == Dialect::Frames => frames::work(run, share),
        Client::Event { .. } => event::work(run, share),
        Client::Blocking => blocking::work(run, share),
    };
    // ord: Relaxed; as where it is counted.
    run.working.fetch_sub(1, Ordering::Relaxed);
    tally
}

fn gather(workers: Vec<JoinHandle<Tally>>) -> Result<Tally, LoadError> {
    let mut tally = Tally::new(0);
    let mut failed = None;
    for worker in workers {
        match worker.join() {
            Ok(of_worker) => tally.add(of_worker),
            Err(panic) => failed = Some(format!("a client panicked: {}", message(&*panic))),
        }
    }
    failed.map_or(Ok(tally), |failed| Err(LoadError::new(failed)))
}

/// The message of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Opens the gate, tells what goes on, and looks at the machine at both ends of what counts. Whether that
/// was cut short: it was stopped, or no worker has anything left to do.
fn observe(
    run: &Run,
    workers: usize,
    pid: Option<i32>,
    progress: &mut impl FnMut(Progress<'_>),
) -> (Meter, bool) {
    // ord: Relaxed; shown and nothing else.
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let connections = run.plan.connections;
    while !run.gate.wait_for(workers, TELLING_PERIOD) {
        let connected = load(&run.connected);
        let text = format!("connecting to {}: {connected} of {connections}", run.target);
        progress(Progress::Waiting(&text));
        if run.is_stopped() {
            break;
        }
    }
    let began = run.now();
    if run.is_stopped() || run.has_none_connected() {
        // Without a connection there is nothing to measure, and no reason to wait for the end.
        run.gate.open(None);
        return (Meter::default(), true);
    }
    run.gate.open(Some(began));
    let window = run.window(began);
    let mut told = (began, load(&run.answered));
    // At a rate a worker may have asked its last message long before the end.
    let can_end = run.plan.rate.is_none();
    // ord: Relaxed; looked at again and again.
    let is_over = || run.is_stopped() || can_end && run.working.load(Ordering::Relaxed) == 0;
    let mut wait_until = |moment: u64| {
        while run.now() < moment && !is_over() {
            let left = Duration::from_nanos(moment.saturating_sub(run.now()));
            run.watch.wait(left.min(TELLING_PERIOD));
            let now = (run.now(), load(&run.answered));
            let seconds = Duration::from_nanos(now.0 - told.0).as_secs_f64();
            let rate = (now.1 - told.1) as f64 / seconds.max(1e-9);
            let left = Duration::from_nanos(window.until.saturating_sub(now.0));
            let left = left.as_secs_f64();
            let text = format!("{rate:.0} messages a second, {left:.0} s to go");
            progress(Progress::Running(&text));
            told = now;
        }
    };
    wait_until(window.from);
    let first = Reading::take(pid);
    wait_until(window.until);
    let is_cut = run.now() < window.until;
    (Meter { first, last: Reading::take(pid) }, is_cut)
}
