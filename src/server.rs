//! The echo server: acceptor tasks, and one task per connection that owns the accepted socket.
//!
//! ```text
//! main ── acceptor (owns its listener) ── connection (owns its socket)
//!    \─ owns the write end of a pipe        └ an orphan: reaped when it ends
//!       whose read end the acceptor owns
//! ```
//!
//! The command to drain sets a time stamp, which every acceptor checks between two clients. Main also
//! owns the write end of one pipe per acceptor and closes it, which wakes acceptors that wait. An acceptor
//! serves what is queued, closes its listener, and lets its connections finish (see `drain`). Main waits
//! on one channel of events: commands (from a signal or a test) and the ends of acceptors.
//!
//! With [`park`](ServerSettings::park) a connection is no task but a row of its acceptor's lot (see `parking`):
//! the acceptor owns it while it waits for its client, and a worker for one read and its echo.

mod accept;
mod bind;
mod capacity;
mod control;
mod drain;
mod end_counts;
mod error;
mod hooks;
mod latency;
mod limiter;
#[cfg(feature = "serve")]
mod metrics;
#[cfg(target_os = "linux")]
mod parking;
mod parking_counts;
#[cfg(feature = "serve")]
mod probe;
mod refusals;
mod reserve;
#[cfg(feature = "serve")]
mod single;
mod summary;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use echown_limits::{Capacity, SystemLimits};

use crate::bind::{Bound, Listening, Planned, SocketFile};
use crate::echo::{Handler, ServerContext, SharedHandler};
pub use crate::net::{BACKLOG_DEFAULT, Endpoint};
use crate::net::{KeepAlive, PipeWriter};
#[cfg(feature = "serve")]
use crate::net::{PipeReader, Stream};
use crate::ownership::{Level, Registry, TaskError, TaskLabel};
use crate::pool::{Orphans, Pool};
use bind::BoundAddress;
pub(crate) use capacity::Reserved;
pub use control::{Control, ControlHandle};
#[cfg(feature = "serve")]
pub(crate) use end_counts::ConnectionCounts;
pub use error::ServerError;
pub(crate) use hooks::ServerHooks;
use limiter::{ClientNetwork, ConnectionLimiter, LimitSource};
#[cfg(feature = "serve")]
pub(crate) use metrics::{CountsReader, Metrics};
#[cfg(feature = "serve")]
pub(crate) use probe::Prober;
pub use summary::ServerSummary;

/// Length of the event channel: each acceptor ends once, and a repeated command changes nothing.
const EVENT_QUEUE_MAX: usize = 1024;

/// The default of [`ServerSettings::park_blocked`]; what they wait to send takes at most 64 MiB.
pub(crate) const PARK_BLOCKED_DEFAULT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not 0");

/// How long shutdown waits for cancelled tasks that do not end: they are blocked outside of any socket
/// that they own, where nothing wakes them.
const STUCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSettings {
    /// Connections served at a time, over all addresses. One more is accepted, closed at once and
    /// counted, so that its client gets an error instead of waiting in the backlog. The server lowers
    /// this to what the process limits allow: [`Server::max_connections`].
    pub max_connections: usize,
    /// Connections served at a time per client: per IPv4 address, or per /64 of IPv6.
    pub max_per_ip: Option<NonZeroUsize>,
    /// Close a connection after this long without input.
    pub idle_timeout: Option<Duration>,
    /// Disconnect a peer that reads nothing for this long; its task would otherwise block indefinitely.
    pub write_timeout: Option<Duration>,
    /// TCP keep-alive probes, so that a client whose host is gone does not occupy a thread.
    pub keep_alive: Option<KeepAlive>,
    /// How long connections may continue after the command to drain before they are cancelled.
    pub drain_timeout: Duration,
    /// Length of the kernel's queue of connections that are not accepted yet. The kernel lowers it to
    /// `net.core.somaxconn`.
    pub backlog: u32,
    /// Acceptors per address, each with its own socket, queue and orphans.
    pub acceptors: NonZeroUsize,
    /// Park connections that wait for input, and serve those that have some on this many threads per
    /// acceptor. `None`: a thread per connection.
    pub park: Option<NonZeroUsize>,
    /// With [`park`](ServerSettings::park), how many connections per acceptor may wait for their clients to
    /// read, each with at most 64 KiB that it could not send. With one more, the one that has waited longest is
    /// reset. The server lowers this to what fits into a quarter of the process's memory limit.
    pub park_blocked: NonZeroUsize,
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
            park: None,
            park_blocked: PARK_BLOCKED_DEFAULT,
        }
    }
}

enum ServerEvent {
    Control(Control),
    /// Another process has taken over.
    HandedOver,
    AcceptorEnded(TaskLabel, Result<(), TaskError<()>>),
}

/// A server whose sockets are open and that does not accept yet.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpStream};
/// use std::sync::Arc;
///
/// use echown::echo::Plain;
/// use echown::ownership::Registry;
/// use echown::server::{Control, Server, ServerSettings};
///
/// let settings = ServerSettings::default();
/// let endpoints = ["127.0.0.1:0".parse()?];
/// let server = Server::bind(Registry::global(), &endpoints, settings, Arc::new(Plain))?;
/// let (control, address) = (server.control(), server.addresses().next().unwrap().to_owned());
/// let client = std::thread::spawn(move || {
///     let mut client = TcpStream::connect(address)?;
///     client.write_all(b"hello")?;
///     client.shutdown(Shutdown::Write)?;
///     control.send(Control::Drain);
///     let mut echoed = String::new();
///     client.read_to_string(&mut echoed).map(|_| echoed)
/// });
/// assert_eq!(server.serve()?.connections, 1);
/// assert_eq!(client.join().unwrap()?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    registry: Registry,
    settings: ServerSettings,
    handler: SharedHandler,
    capacity: Capacity,
    limiter: Arc<ConnectionLimiter>,
    pool: Pool,
    bound: Vec<BoundAddress>,
    /// A connection to serve instead, and what stops that.
    #[cfg(feature = "serve")]
    single: Option<(Stream, PipeReader, PipeWriter)>,
    control: ControlHandle,
    events: Receiver<ServerEvent>,
}

impl Server {
    /// Opens everything the server needs: listeners for each address, their stop pipes, and the reserve
    /// descriptors.
    ///
    /// # Errors
    /// The address that cannot be bound, with the cause; or a descriptor limit that leaves none for a
    /// client. Everything that was opened before is closed.
    #[track_caller]
    pub fn bind(
        registry: &Registry,
        endpoints: &[Endpoint],
        settings: ServerSettings,
        handler: Arc<dyn Handler>,
    ) -> Result<Server, ServerError> {
        let planned = endpoints.iter().cloned().map(Planned::bound).collect();
        Server::bind_planned(registry, planned, settings, handler, Reserved::default())
    }

    /// [`bind`](Server::bind) in a program that has received listeners, and that needs more than the server
    /// while it serves.
    ///
    /// # Errors
    /// See [`bind`](Server::bind).
    #[track_caller]
    pub(crate) fn bind_planned(
        registry: &Registry,
        planned: Vec<Planned>,
        mut settings: ServerSettings,
        handler: Arc<dyn Handler>,
        reserved: Reserved,
    ) -> Result<Server, ServerError> {
        let _entered = registry.enter();
        if settings.park.is_some() {
            capacity::check_parking(&*handler).map_err(ServerError::new)?;
        }
        let wanted = settings.acceptors.get();
        let acceptors = planned.iter().map(|address| address.acceptors(wanted));
        let acceptors = acceptors.fold(0, usize::saturating_add);
        capacity::check_descriptors(acceptors, &settings, reserved).map_err(ServerError::new)?;
        let mut bound = bind::open_all(planned, &settings, reserved.probes > 0)?;
        let requirements = capacity::requirements(acceptors, &settings, &*handler, reserved);
        let reads_symbols =
            crate::sys::memory::prints_backtraces() || registry.level() == Level::Full;
        let open = capacity::open_descriptors() + reserved.descriptors;
        let capacity = SystemLimits::read(open, reads_symbols)
            .capacity(settings.max_connections, requirements);
        if let Some(bytes) = capacity.shares.socket_buffer {
            for address in &mut bound {
                address.limit_buffers(bytes)?;
            }
        }
        let blocked = NonZeroUsize::new(capacity.blocked / acceptors.max(1));
        settings.park_blocked = blocked.unwrap_or(NonZeroUsize::MIN);
        let tasks = capacity::tasks(&capacity, &requirements, &*handler, reserved);
        let pool = Pool::builder().registry(registry).limit(tasks).build();
        let tightest = capacity.limiting.first();
        let source =
            tightest.map_or(LimitSource::Setting, |by| LimitSource::System(by.limit, by.value));
        let limiter =
            Arc::new(ConnectionLimiter::new(capacity.connections, source, settings.max_per_ip));
        let (sender, events) = sync_channel(EVENT_QUEUE_MAX);
        let control = ControlHandle::new(sender);
        Ok(Server {
            registry: registry.clone(),
            settings,
            handler,
            limiter,
            capacity,
            pool,
            bound,
            #[cfg(feature = "serve")]
            single: None,
            control,
            events,
        })
    }

    /// The addresses that the server listens on, numeric, in the order they were given.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.bound.iter().map(|address| address.name.as_str())
    }

    /// The addresses, as another process can take them over.
    #[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
    pub(crate) fn listening(&self) -> Vec<Listening> {
        self.bound.iter().map(BoundAddress::listening).collect()
    }

    /// [`addresses`](Server::addresses), for the cause why another part of the program cannot listen.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn bound(&self) -> Vec<Bound<'_>> {
        self.bound.iter().map(BoundAddress::bound).collect()
    }

    /// The files of Unix sockets that are removed at exit.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(crate) fn socket_files(&self) -> impl Iterator<Item = &SocketFile> {
        self.bound.iter().filter_map(|address| address.path.as_ref())
    }

    /// How many connections there can be at a time: the setting, or what the process limits of
    /// descriptors, threads, memory mappings and memory allow.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.capacity.connections
    }

    /// The limits that are too low for the configured connections, the lowest first. Each text has
    /// the value, the number of connections that it allows, and how to raise it.
    pub fn limiting_factors(&self) -> impl Iterator<Item = String> {
        self.capacity.limiting.iter().map(ToString::to_string)
    }

    /// How many connections per acceptor may wait for their clients to read, of those that were requested.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(crate) fn park_blocked(&self) -> NonZeroUsize {
        self.settings.park_blocked
    }

    /// Returns a handle that sends commands to this server.
    #[must_use]
    pub fn control(&self) -> ControlHandle {
        self.control.clone()
    }

    /// Serves until it receives a command to drain, drains, and returns the summary.
    ///
    /// # Errors
    /// The handler failed to start, and nothing was accepted; or an acceptor failed to start, and the
    /// others were drained.
    pub fn serve(self) -> Result<ServerSummary, ServerError> {
        self.serve_with(&mut ())
    }

    /// [`serve`](Server::serve) with what the program does at its turning points. The last one comes
    /// before the handler closes, to stop tasks that may still call the handler.
    ///
    /// # Errors
    /// See [`serve`](Server::serve); `at_end` runs in every case.
    pub(crate) fn serve_with(
        self,
        hooks: &mut dyn ServerHooks,
    ) -> Result<ServerSummary, ServerError> {
        let handler = Arc::clone(&self.handler);
        let served = self.run(hooks);
        hooks.at_end();
        if served.as_ref().is_ok_and(|summary| summary.stuck.is_empty()) {
            handler.close();
        }
        served
    }

    fn run(self, hooks: &mut dyn ServerHooks) -> Result<ServerSummary, ServerError> {
        let addresses = self.addresses().map(str::to_owned).collect();
        let context = ServerContext {
            memory: self.capacity.shares.pooled,
            ..ServerContext::new(&self.pool, addresses, self.capacity.connections)
        };
        self.handler.open(&context).map_err(ServerError::accepting)?;
        let limiter = self.limiter;
        let events = self.control.events().clone();
        let acceptors: Orphans<()> = Orphans::reaped_by(&self.registry, move |task, outcome| {
            // Fails only when the server no longer waits for this acceptor.
            let _ = events.send(ServerEvent::AcceptorEnded(task.clone(), outcome));
        });
        let mut paths = Vec::new();
        let mut stops = Vec::new();
        let mut failed = None;
        let gate: Arc<OnceLock<()>> = Arc::default();
        'start: for address in self.bound {
            paths.extend(address.path);
            for (stop, resources) in address.acceptors {
                let acceptor = accept::Acceptor {
                    resources,
                    pool: self.pool.clone(),
                    limiter: Arc::clone(&limiter),
                    handler: Arc::clone(&self.handler),
                    settings: self.settings.clone(),
                    control: self.control.clone(),
                    gate: Arc::clone(&gate),
                };
                let name = format!("accept {}", address.name);
                let spawned = self.pool.spawn_named_with(&name, acceptor, accept_and_serve);
                match spawned.map(|promise| acceptors.adopt(promise)) {
                    Ok(adopted) => {
                        debug_assert!(adopted.is_ok(), "the parent adopts its own child");
                        stops.push(stop);
                    }
                    Err(error) => {
                        failed = Some(ServerError::accepting(error.without_job()));
                        break 'start;
                    }
                }
            }
        }
        #[cfg(feature = "serve")]
        if let Some((stream, stop, order)) = self.single {
            let single = single::Single {
                stream,
                stop,
                pool: self.pool.clone(),
                limiter: Arc::clone(&limiter),
                handler: Arc::clone(&self.handler),
                settings: self.settings.clone(),
                control: self.control.clone(),
            };
            let spawned = self.pool.spawn_named_with("accepted", single, single::Single::run);
            match spawned.map(|promise| acceptors.adopt(promise)) {
                Ok(adopted) => {
                    debug_assert!(adopted.is_ok(), "the parent adopts its own child");
                    stops.push(order);
                }
                Err(error) => failed = Some(ServerError::accepting(error.without_job())),
            }
        }
        let mut stopped_with = Vec::new();
        if failed.is_none() {
            match hooks.before_accepting() {
                Ok(stops) => stopped_with = stops,
                Err(message) => failed = Some(ServerError::new(message)),
            }
        }
        if let Some(injector) = self.registry.fault_injector() {
            // Faults start here: the server's own resources are open. A failed start is the caller's error.
            injector.begin();
        }
        match failed {
            Some(_) => {
                hooks.not_accepting();
                self.control.send(Control::Drain);
            }
            // The program has said that it stops, so it must not say that it is ready.
            None if self.control.is_stopping() => {}
            None => hooks.accepting(),
        }
        // Nothing waits for it in vain: no task is cancelled before the event loop runs.
        gate.get_or_init(|| ());
        let event_loop = EventLoop {
            registry: self.registry.clone(),
            acceptors,
            stops,
            stopped_with,
            paths,
            events: self.events,
            control: self.control.clone(),
            drain_timeout: self.settings.drain_timeout,
        };
        let ended = event_loop.run(hooks);
        if let Some(acceptor) = &ended.unexpected_end {
            failed.get_or_insert(ServerError::accepting(format!("{acceptor} ended unexpectedly")));
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(ServerSummary::new(
                &limiter.counters,
                &self.registry,
                self.handler.injector(),
                ended,
            )),
        }
    }
}

/// The task of an acceptor.
fn accept_and_serve(acceptor: accept::Acceptor) {
    #[cfg(target_os = "linux")]
    if let Some(workers) = acceptor.settings.park {
        return parking::run(acceptor, workers);
    }
    acceptor.run();
}

/// The main thread's event loop while the server runs.
struct EventLoop {
    registry: Registry,
    acceptors: Orphans<()>,
    stops: Vec<PipeWriter>,
    /// Of other parts of the program.
    stopped_with: Vec<PipeWriter>,
    paths: Vec<SocketFile>,
    events: Receiver<ServerEvent>,
    control: ControlHandle,
    drain_timeout: Duration,
}

/// The result of a shutdown.
#[derive(Default)]
struct ShutdownResult {
    drain: Duration,
    stuck: Vec<TaskLabel>,
    /// An acceptor that ended without a command.
    unexpected_end: Option<TaskLabel>,
}

impl EventLoop {
    /// Handles events until every acceptor has ended, or until the time to wait for them has passed.
    fn run(mut self, hooks: &mut dyn ServerHooks) -> ShutdownResult {
        let mut wait_until: Option<Instant> = None;
        let mut is_handed_over = false;
        let mut is_commanded = false;
        let mut unexpected_end = None;
        // Counted here: the reaper sends an acceptor's event, and while it runs the set of orphans
        // still contains the acceptor.
        let mut running = self.stops.len();
        while running > 0 {
            let timeout = wait_until.map(|at| at.saturating_duration_since(Instant::now()));
            let event = match timeout {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(timeout) => self.events.recv_timeout(timeout),
            };
            match event {
                Ok(ServerEvent::Control(command)) => {
                    if command == Control::Abort {
                        self.abort();
                    }
                    is_commanded = true;
                    if is_handed_over {
                        self.control.hurry();
                    }
                    let started = self.control.begin();
                    let deadline = match command {
                        Control::Drain => after(started, self.drain_timeout),
                        Control::Abort => Instant::now(),
                    };
                    self.stop_accepting();
                    let latest = after(deadline, STUCK_TIMEOUT);
                    wait_until = Some(wait_until.map_or(latest, |before| before.min(latest)));
                }
                Ok(ServerEvent::HandedOver) => {
                    is_handed_over = true;
                    if is_commanded {
                        // It came during the hand-over, and was queued before this event.
                        self.control.hurry();
                    }
                    self.stop_accepting();
                    hooks.handed_over();
                    let deadline = after(self.control.begin(), self.drain_timeout);
                    wait_until = Some(after(deadline, drain::FINISH_TIME + STUCK_TIMEOUT));
                }
                Ok(ServerEvent::AcceptorEnded(task, outcome)) => {
                    report(&task, &outcome);
                    running -= 1;
                    if self.control.first().is_none() {
                        // Its address is no longer served: stop the whole server instead of serving in part.
                        unexpected_end.get_or_insert(task);
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
            // A task waits for its children at its end: leave these to the end of the process.
            std::mem::forget(self.acceptors);
        }
        let drain = self.control.first().map_or(Duration::ZERO, |at| at.elapsed());
        ShutdownResult { drain, stuck, unexpected_end }
    }

    /// Wakes the acceptors.
    fn stop_accepting(&mut self) {
        // Without its file a Unix socket gets no more clients, so its queue drains.
        self.paths.clear();
        // After an abort: an acceptor that this wakes starts to drain. The owner can always release its own
        // resource.
        self.stops.clear();
        self.stopped_with.clear();
    }

    /// Tasks that were cancelled and have not ended: the stuck ones, and those that wait for them.
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

fn report(task: &TaskLabel, outcome: &Result<(), TaskError<()>>) {
    match outcome {
        // A leak's report was delivered when it was found.
        Ok(()) | Err(TaskError::Leaked(..) | TaskError::Cancelled) => {}
        Err(failure) => tracing::error!(%task, "{failure}"),
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

/// `moment` plus `duration`; a year later if the clock cannot represent the sum.
fn after(moment: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    moment.checked_add(duration).unwrap_or(moment + YEAR)
}

/// What the limit per client applies to; `None` for Unix sockets, which have no address.
fn client_of(peer: &crate::net::Address) -> Option<ClientNetwork> {
    peer.inet().map(|address| ClientNetwork::of(address.ip()))
}
