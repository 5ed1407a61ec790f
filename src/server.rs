//! The server: one task per connection, which is given the accepted socket.
//!
//! ```text
//! main ── acceptor (owns its listener) ── connection (owns its socket)
//!    \─ holds the writing end of a pipe     └ an orphan: reaped when it ends
//!       whose reading end the acceptor owns
//! ```
//!
//! The command to drain is a moment in time, which all acceptors look at between two clients. Main also
//! holds one end of a pipe for each of them and releases it, which wakes those that wait. An acceptor
//! serves what is queued, closes its listener, and lets its connections finish (see `drain`). Everything that main waits for comes through one events: control, from whoever has
//! a sender (signals, a test), and the ends of acceptors.

mod accept;
mod backoff;
mod bind;
mod capacity;
mod drain;
mod end_counts;
mod limiter;
mod memory;
mod reserve;
mod summary;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::echo::{ServerContext, SharedHandler};
pub use crate::net::Endpoint;
use crate::net::{KeepAlive, PipeWriter};
use crate::ownership::{Failure, Level, Registry, TaskLabel};
use crate::pool::{Orphans, Pool, STACK_BYTES_DEFAULT, SpawnError};
pub use bind::BindError;
use bind::{BoundAddress, SocketFile};
use capacity::{Capacity, Requirements, SystemLimits};
pub use end_counts::{ConnectionCounts, EndCounts};
use limiter::{ConnectionLimiter, LimitSource};
pub use summary::ServerSummary;

/// Connections that wait to be accepted, as asked of the kernel, whose own limit
/// (`net.core.somaxconn`) may be lower. Enough for a burst while one connection is set up.
pub const BACKLOG_DEFAULT: u32 = 1024;

/// What may wait in the events: each acceptor ends once, and control say nothing new when repeated.
const EVENT_QUEUE_MAX: usize = 1024;

/// How long the end waits for tasks that were cancelled and do not end. They are blocked outside of
/// any socket of theirs, where nothing wakes them.
const STUCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How a server behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSettings {
    /// Connections served at a time, over all addresses. One more is accepted, closed at once and
    /// counted: its client learns that it is refused, and does not hang in the backlog. What the
    /// process cannot carry is lowered to what it can: [`Server::max_connections`].
    pub max_connections: usize,
    /// Connections served at a time for one IP address.
    pub max_per_ip: Option<NonZeroUsize>,
    /// A connection on which nothing arrives for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// A peer that takes nothing for so long is cut: its task would be blocked for ever.
    pub write_timeout: Option<Duration>,
    /// When a silent client is probed by TCP, so that one whose host is gone does not keep its thread.
    pub keep_alive: Option<KeepAlive>,
    /// How long connections may go on after the command to drain, before they are cancelled.
    pub drain_timeout: Duration,
    /// Connections that the kernel queues before they are accepted.
    pub backlog: u32,
    /// Acceptors per address, each with a socket, a queue and orphans of its own.
    pub acceptors: NonZeroUsize,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            max_connections: 1024,
            max_per_ip: None,
            idle_timeout: None,
            write_timeout: Some(Duration::from_secs(30)),
            keep_alive: Some(KeepAlive::DEFAULT),
            drain_timeout: Duration::from_secs(10),
            backlog: BACKLOG_DEFAULT,
            acceptors: NonZeroUsize::MIN,
        }
    }
}

/// What a server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Stop accepting, finish what is under way.
    Drain,
    /// Cancel everything now.
    Abort,
}

enum ServerEvent {
    Control(Control),
    AcceptorEnded(TaskLabel, Result<(), Failure<()>>),
}

/// Gives control to a server, from any thread.
#[derive(Clone)]
pub struct ControlHandle {
    event: SyncSender<ServerEvent>,
    /// When the first one was given: what the drain's time is counted from.
    first: Arc<OnceLock<Instant>>,
}

impl ControlHandle {
    /// Gives an command. After the server's end nobody hears it.
    pub fn send(&self, command: Control) {
        if command == Control::Drain {
            // Before the event: acceptors look at this, and the end of one must not look unordered. A
            // cut begins when the acceptors are cancelled: before, they would let connections finish.
            self.begin();
        }
        match self.event.try_send(ServerEvent::Control(command)) {
            // A full events holds the same command already.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Notes the first command, and answers when it was given.
    fn begin(&self) -> Instant {
        *self.first.get_or_init(Instant::now)
    }

    /// When the first command was given, if there was one.
    fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }
}

impl fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlHandle")
    }
}

/// Reads a server's counts of connections, from any thread.
#[derive(Clone, Debug)]
pub struct CountsReader(Arc<ConnectionLimiter>);

impl CountsReader {
    /// What has been done with connections so far.
    #[must_use]
    pub fn read(&self) -> ConnectionCounts {
        self.0.counts()
    }
}

/// A server whose sockets are open and which does not accept yet.
pub struct Server {
    registry: Registry,
    settings: ServerSettings,
    handler: SharedHandler,
    capacity: Capacity,
    limiter: Arc<ConnectionLimiter>,
    pool: Pool,
    bound: Vec<BoundAddress>,
    control: ControlHandle,
    events: Receiver<ServerEvent>,
}

impl Server {
    /// Opens everything the server requirements: listeners for each address, what stops them, and the
    /// descriptors that are kept in reserve.
    ///
    /// # Errors
    /// An address that cannot be had, with its name; a limit of descriptors that leaves none for a
    /// client. What had been opened before is closed.
    #[track_caller]
    pub fn bind(
        registry: &Registry,
        endpoints: &[Endpoint],
        settings: ServerSettings,
        handler: SharedHandler,
    ) -> Result<Server, BindError> {
        let acceptors = endpoints.len().saturating_mul(settings.acceptors.get());
        capacity::check_descriptors(acceptors, settings.max_connections).map_err(BindError::new)?;
        let mut bound = bind::open_all(registry, endpoints, &settings)?;
        let requirements = Requirements {
            tasks_per_connection: handler.tasks_per_connection(),
            acceptors,
            stack_bytes: STACK_BYTES_DEFAULT as u64,
            memory: handler.memory(),
        };
        let reads_symbols =
            crate::sys::memory::prints_backtraces() || registry.level() == Level::Full;
        let capacity =
            SystemLimits::read(reads_symbols).capacity(settings.max_connections, requirements);
        if let Some(bytes) = capacity.shares.socket_buffer {
            for address in &mut bound {
                address.limit_buffers(bytes)?;
            }
        }
        let tasks = capacity.connections.saturating_mul(requirements.tasks_per_connection);
        let pool =
            Pool::builder().registry(registry).limit(tasks.saturating_add(acceptors)).build();
        let tightest = capacity.limiting.first();
        let source =
            tightest.map_or(LimitSource::Setting, |by| LimitSource::System(by.limit, by.value));
        let limiter =
            Arc::new(ConnectionLimiter::new(capacity.connections, source, settings.max_per_ip));
        let (sender, events) = sync_channel(EVENT_QUEUE_MAX);
        let control = ControlHandle { event: sender, first: Arc::default() };
        Ok(Server {
            registry: registry.clone(),
            settings,
            handler,
            limiter,
            capacity,
            pool,
            bound,
            control,
            events,
        })
    }

    /// The addresses that the server listens on, numeric, in the command they were asked for.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.bound.iter().map(|address| address.name.as_str())
    }

    /// How many connections there can be at a time: what was set, or what this process can carry by
    /// its limits of descriptors, threads, memory mappings and memory.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.capacity.connections
    }

    /// The limits that are too limiting for the connections that were set, the tightest first: what
    /// each is, what it is enough for, and how to raise it to what is needed.
    pub fn tight_limits(&self) -> impl Iterator<Item = String> {
        self.capacity.limiting.iter().map(ToString::to_string)
    }

    /// What gives this server control.
    #[must_use]
    pub fn control(&self) -> ControlHandle {
        self.control.clone()
    }

    /// What reads this server's counts of connections, also while it serves.
    #[must_use]
    pub fn counts_reader(&self) -> CountsReader {
        CountsReader(Arc::clone(&self.limiter))
    }

    /// Serves until it is ordered to drain, drains, and answers what it has done.
    ///
    /// # Errors
    /// The handler could not be made ready, and nothing was accepted; or an acceptor could not be
    /// started, and the others have been drained.
    pub fn serve(self) -> Result<ServerSummary, ServeError> {
        self.serve_then(|| ())
    }

    /// [`serve`](Server::serve); when the last connection has ended, and before the handler gives back
    /// what it has, `at_end` is run: for ending what may still tell the handler something.
    ///
    /// # Errors
    /// As there; `at_end` has run all the same.
    pub fn serve_then(self, at_end: impl FnOnce()) -> Result<ServerSummary, ServeError> {
        let handler = Arc::clone(&self.handler);
        let served = self.run();
        at_end();
        if served.as_ref().is_ok_and(|summary| summary.stuck.is_empty()) {
            handler.close();
        }
        served
    }

    fn run(self) -> Result<ServerSummary, ServeError> {
        let addresses = self.addresses().map(str::to_owned).collect();
        let context = ServerContext {
            memory: self.capacity.shares.pooled,
            ..ServerContext::new(&self.pool, addresses, self.capacity.connections)
        };
        self.handler.open(&context).map_err(|error| ServeError(error.to_string()))?;
        let limiter = self.limiter;
        let event = self.control.event.clone();
        let acceptors: Orphans<()> = Orphans::reaped_by(&self.registry, move |task, outcome| {
            // Fails only when the server has given up on this acceptor.
            let _ = event.send(ServerEvent::AcceptorEnded(task.clone(), outcome));
        });
        let mut paths = Vec::new();
        let mut stops = Vec::new();
        let mut failed = None;
        'start: for address in self.bound {
            paths.extend(address.path);
            for (stop, resources) in address.acceptors {
                let give = resources.resources();
                let acceptor = accept::Acceptor {
                    resources,
                    pool: self.pool.clone(),
                    limiter: Arc::clone(&limiter),
                    handler: Arc::clone(&self.handler),
                    settings: self.settings.clone(),
                    control: self.control.clone(),
                };
                let name = format!("accept {}", address.name);
                let spawned = self.pool.spawn_named(&name, give, move || acceptor.run());
                match spawned.map(|promise| acceptors.adopt(promise)) {
                    Ok(adopted) => {
                        debug_assert!(adopted.is_ok(), "the parent adopts its own child");
                        stops.push(stop);
                    }
                    Err(error) => {
                        failed = Some(ServeError::from(error));
                        break 'start;
                    }
                }
            }
        }
        if let Some(saboteur) = self.registry.saboteur() {
            // What a server requirements for itself is there; a start that fails is the starter's to see.
            saboteur.begin();
        }
        if failed.is_some() {
            self.control.send(Control::Drain);
        }
        let event_loop = EventLoop {
            registry: self.registry.clone(),
            acceptors,
            stops,
            paths,
            events: self.events,
            control: self.control.clone(),
            drain_timeout: self.settings.drain_timeout,
        };
        let ended = event_loop.run();
        if let Some(acceptor) = &ended.lost {
            failed.get_or_insert(ServeError(format!("{acceptor} ended without an order")));
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(ServerSummary::new(
                &limiter.counters,
                &self.registry,
                self.handler.injected(),
                ended,
            )),
        }
    }
}

/// The main thread while the server runs.
struct EventLoop {
    registry: Registry,
    acceptors: Orphans<()>,
    stops: Vec<PipeWriter>,
    paths: Vec<SocketFile>,
    events: Receiver<ServerEvent>,
    control: ControlHandle,
    drain_timeout: Duration,
}

/// How the end went.
struct ShutdownResult {
    drain: Duration,
    stuck: Vec<TaskLabel>,
    /// An acceptor that ended without an order.
    lost: Option<TaskLabel>,
}

impl EventLoop {
    /// Attends to the events until every acceptor has ended, or until waiting makes no sense.
    fn run(mut self) -> ShutdownResult {
        let mut give_up: Option<Instant> = None;
        let mut lost = None;
        // Counted here: an acceptor's event is sent by its reaper, and while that runs the orphans
        // still have it.
        let mut running = self.stops.len();
        while running > 0 {
            let timeout = give_up.map(|at| at.saturating_duration_since(Instant::now()));
            let event = match timeout {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(timeout) => self.events.recv_timeout(timeout),
            };
            match event {
                Ok(ServerEvent::Control(command)) => {
                    if command == Control::Abort {
                        self.abort();
                    }
                    let ordered = self.control.begin();
                    let deadline = match command {
                        Control::Drain => after(ordered, self.drain_timeout),
                        Control::Abort => Instant::now(),
                    };
                    // Without its file a socket gets no more clients, and its queue an end.
                    self.paths.clear();
                    // After the cut: an acceptor that is woken by this begins to drain. Releasing
                    // what is ours cannot be refused.
                    self.stops.clear();
                    let latest = after(deadline, STUCK_TIMEOUT);
                    give_up = Some(give_up.map_or(latest, |before| before.min(latest)));
                }
                Ok(ServerEvent::AcceptorEnded(task, outcome)) => {
                    report(&task, &outcome);
                    running -= 1;
                    if self.control.first().is_none() {
                        // Nobody listens on its address any more: better no server than half a one.
                        lost.get_or_insert(task);
                        self.control.send(Control::Drain);
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the acceptors' reaper holds a sender")
                }
            }
        }
        let mut stuck = Vec::new();
        if !self.acceptors.tasks().is_empty() {
            stuck = self.cancelled_tasks();
            // At its own end a task waits for its children: these are left to the process's end.
            std::mem::forget(self.acceptors);
        }
        let drain = self.control.first().map_or(Duration::ZERO, |at| at.elapsed());
        ShutdownResult { drain, stuck, lost }
    }

    /// Who was asked to end and has not: those who are stuck, and those who wait for them.
    fn cancelled_tasks(&self) -> Vec<TaskLabel> {
        let tasks = self.registry.snapshot().tasks;
        tasks.into_iter().filter(|task| task.cancelled).map(|task| task.task).collect()
    }

    fn abort(&self) {
        if let Err(error) = self.acceptors.request_cancel() {
            tracing::error!("{error}");
        }
    }
}

fn report(task: &TaskLabel, outcome: &Result<(), Failure<()>>) {
    match outcome {
        // A leak's report was delivered when it was made.
        Ok(()) | Err(Failure::Leaked(..) | Failure::Cancelled) => {}
        Err(failure) => tracing::error!(%task, "{failure}"),
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

/// A server that could not accept, or not go on accepting.
#[derive(Debug)]
pub struct ServeError(String);

impl<F> From<SpawnError<F>> for ServeError {
    fn from(error: SpawnError<F>) -> ServeError {
        ServeError(error.to_string())
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot accept: {}", self.0)
    }
}

impl std::error::Error for ServeError {}

/// A moment so much later; a year later when it is too late for the clock.
fn after(moment: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    moment.checked_add(duration).unwrap_or(moment + YEAR)
}

/// The address that a limit per client goes by; `None` for those without one (Unix sockets).
fn ip_of(peer: &crate::net::Address) -> Option<IpAddr> {
    peer.inet().map(|address| address.ip().to_canonical())
}
