//! The server: one task per connection, which is given the accepted socket.
//!
//! ```text
//! main ── acceptor (owns its listener) ── connection (owns its socket)
//!    \─ holds the writing end of a pipe     └ an orphan: reaped when it ends
//!       whose reading end the acceptor owns
//! ```
//!
//! The order to drain is a moment in time, which all acceptors look at between two clients. Main also
//! holds one end of a pipe for each of them and releases it, which wakes those that wait. An acceptor
//! serves what is queued, closes its listener, and lets its connections finish (see `drain`). Everything that main waits for comes through one mailbox: orders, from whoever has
//! a sender (signals, a test), and the ends of acceptors.

mod accept;
mod backoff;
mod bind;
mod drain;
mod ends;
mod gate;
mod memory;
mod room;
mod spare;
mod summary;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::echo::{House, SharedStyle};
pub use crate::net::Endpoint;
use crate::net::{KeepAlive, PipeWriter};
use crate::ownership::{Failure, Level, Registry, TaskLabel};
use crate::pool::{Orphans, Pool, STACK_BYTES_DEFAULT, SpawnError};
pub use bind::BindError;
use bind::{Place, SocketFile};
pub use ends::{ConnectionCounts, EndCounts};
use gate::{Bound, Gate};
use room::{Machine, Needs, Room};
pub use summary::Summary;

/// Connections that wait to be accepted, as asked of the kernel, whose own limit
/// (`net.core.somaxconn`) may be lower. Enough for a burst while one connection is set up.
pub const BACKLOG_DEFAULT: u32 = 1024;

/// What may wait in the mailbox: each acceptor ends once, and orders say nothing new when repeated.
const MAIL_QUEUED: usize = 1024;

/// How long the end waits for tasks that were cancelled and do not end. They are blocked outside of
/// any socket of theirs, where nothing wakes them.
const STUCK_PATIENCE: Duration = Duration::from_secs(2);

/// How a server behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
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
    /// How long connections may go on after the order to drain, before they are cancelled.
    pub drain_timeout: Duration,
    /// Connections that the kernel queues before they are accepted.
    pub backlog: u32,
    /// Acceptors per address, each with a socket, a queue and orphans of its own.
    pub acceptors: NonZeroUsize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
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
pub enum Order {
    /// Stop accepting, finish what is under way.
    Drain,
    /// Cancel everything now.
    Cut,
}

enum Mail {
    Order(Order),
    AcceptorEnded(TaskLabel, Result<(), Failure<()>>),
}

/// Gives orders to a server, from any thread.
#[derive(Clone)]
pub struct Orders {
    mail: SyncSender<Mail>,
    /// When the first one was given: what the drain's time is counted from.
    first: Arc<OnceLock<Instant>>,
}

impl Orders {
    /// Gives an order. After the server's end nobody hears it.
    pub fn give(&self, order: Order) {
        if order == Order::Drain {
            // Before the mail: acceptors look at this, and the end of one must not look unordered. A
            // cut begins when the acceptors are cancelled: before, they would let connections finish.
            self.begin();
        }
        match self.mail.try_send(Mail::Order(order)) {
            // A full mailbox holds the same order already.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Notes the first order, and answers when it was given.
    fn begin(&self) -> Instant {
        *self.first.get_or_init(Instant::now)
    }

    /// When the first order was given, if there was one.
    fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Orders")
    }
}

/// Reads a server's counts of connections, from any thread.
#[derive(Clone, Debug)]
pub struct Counters(Arc<Gate>);

impl Counters {
    /// What has been done with connections so far.
    #[must_use]
    pub fn read(&self) -> ConnectionCounts {
        self.0.counts()
    }
}

/// A server whose sockets are open and which does not accept yet.
pub struct Server {
    registry: Registry,
    settings: Settings,
    style: SharedStyle,
    room: Room,
    gate: Arc<Gate>,
    pool: Pool,
    places: Vec<Place>,
    orders: Orders,
    mailbox: Receiver<Mail>,
}

impl Server {
    /// Opens everything the server needs: listeners for each address, what stops them, and the
    /// descriptors that are kept in reserve.
    ///
    /// # Errors
    /// An address that cannot be had, with its name; a limit of descriptors that leaves none for a
    /// client. What had been opened before is closed.
    #[track_caller]
    pub fn bind(
        registry: &Registry,
        endpoints: &[Endpoint],
        settings: Settings,
        style: SharedStyle,
    ) -> Result<Server, BindError> {
        let acceptors = endpoints.len().saturating_mul(settings.acceptors.get());
        room::check_descriptors(acceptors, settings.max_connections).map_err(BindError::new)?;
        let mut places = bind::open_all(registry, endpoints, &settings)?;
        let needs = Needs {
            tasks_per_connection: style.tasks_per_connection(),
            acceptors,
            stack_bytes: STACK_BYTES_DEFAULT as u64,
            memory: style.memory(),
        };
        let reads_symbols =
            crate::sys::memory::prints_backtraces() || registry.level() == Level::Full;
        let room = Machine::read(reads_symbols).room(settings.max_connections, needs);
        if let Some(bytes) = room.shares.socket_buffer {
            for place in &mut places {
                place.hold_buffers(bytes)?;
            }
        }
        let tasks = room.connections.saturating_mul(needs.tasks_per_connection);
        let pool =
            Pool::builder().registry(registry).limit(tasks.saturating_add(acceptors)).build();
        let tightest = room.tight.first();
        let bound = tightest.map_or(Bound::Asked, |by| Bound::Machine(by.limit, by.value));
        let gate = Arc::new(Gate::new(room.connections, bound, settings.max_per_ip));
        let (sender, mailbox) = sync_channel(MAIL_QUEUED);
        let orders = Orders { mail: sender, first: Arc::default() };
        Ok(Server {
            registry: registry.clone(),
            settings,
            style,
            gate,
            room,
            pool,
            places,
            orders,
            mailbox,
        })
    }

    /// The addresses that the server listens on, numeric, in the order they were asked for.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }

    /// How many connections there can be at a time: what was set, or what this process can carry by
    /// its limits of descriptors, threads, memory mappings and memory.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.room.connections
    }

    /// The limits that are too tight for the connections that were set, the tightest first: what
    /// each is, what it is enough for, and how to raise it to what is needed.
    pub fn tight_limits(&self) -> impl Iterator<Item = String> {
        self.room.tight.iter().map(ToString::to_string)
    }

    /// What gives this server orders.
    #[must_use]
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// What reads this server's counts of connections, also while it serves.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters(Arc::clone(&self.gate))
    }

    /// Serves until it is ordered to drain, drains, and answers what it has done.
    ///
    /// # Errors
    /// The style could not be made ready, and nothing was accepted; or an acceptor could not be
    /// started, and the others have been drained.
    pub fn serve(self) -> Result<Summary, ServeError> {
        self.serve_then(|| ())
    }

    /// [`serve`](Server::serve); when the last connection has ended, and before the style gives back
    /// what it has, `at_end` is run: for ending what may still tell the style something.
    ///
    /// # Errors
    /// As there; `at_end` has run all the same.
    pub fn serve_then(self, at_end: impl FnOnce()) -> Result<Summary, ServeError> {
        let style = Arc::clone(&self.style);
        let served = self.attend();
        at_end();
        if served.as_ref().is_ok_and(|summary| summary.stuck.is_empty()) {
            style.close();
        }
        served
    }

    fn attend(self) -> Result<Summary, ServeError> {
        let addresses = self.addresses().map(str::to_owned).collect();
        let house = House {
            memory: self.room.shares.pooled,
            ..House::new(&self.pool, addresses, self.room.connections)
        };
        self.style.open(&house).map_err(|error| ServeError(error.to_string()))?;
        let gate = self.gate;
        let mail = self.orders.mail.clone();
        let acceptors: Orphans<()> = Orphans::reaped_by(&self.registry, move |task, outcome| {
            // Fails only when the server has given up on this acceptor.
            let _ = mail.send(Mail::AcceptorEnded(task.clone(), outcome));
        });
        let mut paths = Vec::new();
        let mut stops = Vec::new();
        let mut failed = None;
        'start: for place in self.places {
            paths.extend(place.path);
            for (stop, seat) in place.seats {
                let give = seat.resources();
                let acceptor = accept::Acceptor {
                    seat,
                    pool: self.pool.clone(),
                    gate: Arc::clone(&gate),
                    style: Arc::clone(&self.style),
                    settings: self.settings.clone(),
                    orders: self.orders.clone(),
                };
                let name = format!("accept {}", place.name);
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
            // What a server needs for itself is there; a start that fails is the starter's to see.
            saboteur.begin();
        }
        if failed.is_some() {
            self.orders.give(Order::Drain);
        }
        let main = Main {
            registry: self.registry.clone(),
            acceptors,
            stops,
            paths,
            mailbox: self.mailbox,
            orders: self.orders.clone(),
            drain_timeout: self.settings.drain_timeout,
        };
        let ended = main.attend();
        if let Some(acceptor) = &ended.lost {
            failed.get_or_insert(ServeError(format!("{acceptor} ended without an order")));
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Summary::new(&gate.tally, &self.registry, self.style.injected(), ended)),
        }
    }
}

/// The main thread while the server runs.
struct Main {
    registry: Registry,
    acceptors: Orphans<()>,
    stops: Vec<PipeWriter>,
    paths: Vec<SocketFile>,
    mailbox: Receiver<Mail>,
    orders: Orders,
    drain_timeout: Duration,
}

/// How the end went.
struct Ended {
    drain: Duration,
    stuck: Vec<TaskLabel>,
    /// An acceptor that ended without an order.
    lost: Option<TaskLabel>,
}

impl Main {
    /// Attends to the mailbox until every acceptor has ended, or until waiting makes no sense.
    fn attend(mut self) -> Ended {
        let mut give_up: Option<Instant> = None;
        let mut lost = None;
        // Counted here: an acceptor's mail is sent by its reaper, and while that runs the orphans
        // still have it.
        let mut running = self.stops.len();
        while running > 0 {
            let patience = give_up.map(|at| at.saturating_duration_since(Instant::now()));
            let mail = match patience {
                None => self.mailbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(patience) => self.mailbox.recv_timeout(patience),
            };
            match mail {
                Ok(Mail::Order(order)) => {
                    if order == Order::Cut {
                        self.cut();
                    }
                    let ordered = self.orders.begin();
                    let deadline = match order {
                        Order::Drain => after(ordered, self.drain_timeout),
                        Order::Cut => Instant::now(),
                    };
                    // Without its file a socket gets no more clients, and its queue an end.
                    self.paths.clear();
                    // After the cut: an acceptor that is woken by this begins to drain. Releasing
                    // what is ours cannot be refused.
                    self.stops.clear();
                    let latest = after(deadline, STUCK_PATIENCE);
                    give_up = Some(give_up.map_or(latest, |before| before.min(latest)));
                }
                Ok(Mail::AcceptorEnded(task, outcome)) => {
                    report(&task, &outcome);
                    running -= 1;
                    if self.orders.first().is_none() {
                        // Nobody listens on its address any more: better no server than half a one.
                        lost.get_or_insert(task);
                        self.orders.give(Order::Drain);
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
        let drain = self.orders.first().map_or(Duration::ZERO, |at| at.elapsed());
        Ended { drain, stuck, lost }
    }

    /// Who was asked to end and has not: those who are stuck, and those who wait for them.
    fn cancelled_tasks(&self) -> Vec<TaskLabel> {
        let tasks = self.registry.snapshot().tasks;
        tasks.into_iter().filter(|task| task.cancelled).map(|task| task.task).collect()
    }

    fn cut(&self) {
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
