//! The manager's own tasks: one that does what is asked, and its children that listen and connect.
//!
//! ```text
//! whoever makes the manager
//!    └ socket manager (stops listeners) ── listen (owns its listener) ── callback (owns its socket)
//!                                      \─ connect (owns its socket)
//! ```
//!
//! Only a parent can give something to its child, and anybody may ask a manager for something. So
//! what is asked goes through a mailbox to a task that lives as long as the manager does.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use echown_fd::escape;

use super::ConnCallback;
use super::manager::Works;
use super::opening;
use super::waiting::{Waiters, lock};
use crate::net::{PipeWriter, pipe_in};
use crate::ownership::task::{self, Task};
use crate::ownership::{Resource, TaskError, TaskLabel, panic_message};
use crate::pool::{Orphans, SpawnError};

/// The most that may be asked of a manager before it has done it: connects by the thousand fit.
const WANTED_MAX: usize = 4096;

/// What can be asked of a manager.
pub(super) enum Wanted {
    Listen(ListenerId, SocketAddr),
    Connect(SocketAddr, Duration),
    /// Stop listening.
    Stop(ListenerId),
    /// A listener is over.
    Forget(ListenerId),
}

pub(super) type ListenerId = u64;

/// What a manager's handle and its tasks share.
pub(super) struct Office {
    works: Arc<Works>,
    desk: Mutex<Desk>,
    /// Those who wait for the end of a listener, or of everything.
    visitors: Waiters,
    keeper: OnceLock<Arc<Task>>,
}

#[derive(Default)]
struct Desk {
    mail: VecDeque<Wanted>,
    listening: Vec<Listening>,
    listeners: ListenerId,
    phase: Phase,
}

/// A listener that was asked for and is not over.
struct Listening {
    id: ListenerId,
    asked: SocketAddr,
    actual: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Aborted,
    Over,
}

impl Office {
    /// Starts the task that does what is asked, as a child of the current one.
    #[track_caller]
    pub(super) fn open(works: &Arc<Works>) -> io::Result<(Arc<Office>, Orphans<()>)> {
        let office = Arc::new(Office {
            works: Arc::clone(works),
            desk: Mutex::default(),
            visitors: Waiters::default(),
            keeper: OnceLock::new(),
        });
        let closing = Arc::clone(&office);
        // When the task has ended, and not a moment before: who waited may end right after.
        let staff = Orphans::reaped_by(&works.registry, move |task, outcome| {
            report(task, &outcome);
            closing.is_over();
        });
        let theirs = Arc::clone(&office);
        let keeper = works.pool.spawn_named("socket manager", [], move || theirs.keep());
        let keeper = keeper.map_err(no_thread)?;
        let is_first = office.keeper.set(Arc::clone(keeper.inner())).is_ok();
        debug_assert!(is_first, "the office was made right here");
        staff.adopt(keeper).map_err(|refused| refused.error().clone())?;
        Ok((office, staff))
    }

    /// # Errors
    /// The manager was aborted, or too much is asked of it.
    pub(super) fn post(&self, wanted: Wanted) -> io::Result<()> {
        let mut desk = lock(&self.desk);
        desk.check()?;
        if desk.mail.len() >= WANTED_MAX {
            let text = format!("{WANTED_MAX} things are asked of the manager and not done yet");
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        desk.mail.push_back(wanted);
        drop(desk);
        self.ring();
        Ok(())
    }

    /// # Errors
    /// As [`post`](Office::post).
    pub(super) fn start_listening(&self, asked: SocketAddr) -> io::Result<()> {
        let id = {
            let mut desk = lock(&self.desk);
            desk.check()?;
            desk.listeners += 1;
            let id = desk.listeners;
            desk.listening.push(Listening { id, asked, actual: None });
            id
        };
        self.post(Wanted::Listen(id, asked)).inspect_err(|_| self.listener_is_over(id))
    }

    #[track_caller]
    pub(super) fn stop_listening(&self, address: SocketAddr) -> io::Result<()> {
        let id = {
            let mut desk = lock(&self.desk);
            desk.check()?;
            let known = desk
                .listening
                .iter()
                .find(|listening| listening.asked == address || listening.actual == Some(address));
            let Some(id) = known.map(|listening| listening.id) else {
                let text = format!("{address} is not listened on");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            };
            desk.mail.push_back(Wanted::Stop(id));
            id
        };
        self.ring();
        let is_over = || {
            let desk = lock(&self.desk);
            desk.phase == Phase::Over || desk.listening.iter().all(|listening| listening.id != id)
        };
        Ok(self.visitors.wait(&self.works.registry, is_over)?)
    }

    pub(super) fn abort(&self) {
        let mut desk = lock(&self.desk);
        if desk.phase == Phase::Open {
            desk.phase = Phase::Aborted;
        }
        drop(desk);
        self.ring();
    }

    #[track_caller]
    pub(super) fn join(&self) -> io::Result<()> {
        let is_over = || lock(&self.desk).phase == Phase::Over;
        Ok(self.visitors.wait(&self.works.registry, is_over)?)
    }

    /// Whether the current task is one of the manager's own, or a child of one.
    pub(super) fn is_of_the_family(&self) -> bool {
        let Some(keeper) = self.keeper.get() else { return false };
        let mut task = Some(task::current(&self.works.registry));
        while let Some(one) = task {
            if one.id() == keeper.id() {
                return true;
            }
            task = one.parent();
        }
        false
    }

    fn ring(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.notify();
        }
    }

    fn is_over(&self) {
        lock(&self.desk).phase = Phase::Over;
        self.visitors.ring();
    }

    /// A listener has its address.
    pub(super) fn listens_on(&self, id: ListenerId, actual: SocketAddr) {
        let mut desk = lock(&self.desk);
        if let Some(listening) = desk.listening.iter_mut().find(|listening| listening.id == id) {
            listening.actual = Some(actual);
        }
    }

    /// Nobody listens for this one any more.
    pub(super) fn listener_is_over(&self, id: ListenerId) {
        lock(&self.desk).listening.retain(|listening| listening.id != id);
        self.visitors.ring();
        // An aborted manager has forgotten it already.
        let _ = self.post(Wanted::Forget(id));
    }

    /// Calls back, about no connection in particular. A panic in there ends nothing.
    pub(super) fn tell(&self, call: impl FnOnce(&dyn ConnCallback)) {
        let call = || call(&*self.works.callback);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
            tracing::error!("a callback panicked: {}", escape::text(panic_message(&*payload)));
            // Its own destructor could panic again.
            std::mem::forget(payload);
        }
    }

    /// Does what is asked, until the manager is aborted; then ends its children.
    fn keep(self: Arc<Office>) {
        let children: Orphans<()> = Orphans::reaped_by(&self.works.registry, |task, outcome| {
            report(task, &outcome);
        });
        let mut stops: HashMap<ListenerId, PipeWriter> = HashMap::new();
        let me = task::current(&self.works.registry);
        while let Some(wanted) = self.next_wanted(&me) {
            match wanted {
                Wanted::Listen(id, address) => match self.listen(id, address, &children) {
                    Some(stop) => drop(stops.insert(id, stop)),
                    None => self.listener_is_over(id),
                },
                Wanted::Connect(address, delay) => self.connect(address, delay, &children),
                // Releasing the pipe's end is the order to stop.
                Wanted::Stop(id) | Wanted::Forget(id) => drop(stops.remove(&id)),
            }
        }
        if let Err(error) = children.cancel() {
            tracing::error!("{error}");
        }
        self.refuse_the_rest();
    }

    /// Waits for what is asked next; `None` once the manager is aborted, by whomever.
    fn next_wanted(&self, me: &Arc<Task>) -> Option<Wanted> {
        let has_news = || {
            let desk = lock(&self.desk);
            !desk.mail.is_empty() || desk.phase != Phase::Open
        };
        me.wait_until(|| has_news() || me.is_cancelled(), None);
        let mut desk = lock(&self.desk);
        if me.is_cancelled() {
            desk.phase = Phase::Aborted;
        }
        if desk.phase == Phase::Open { desk.mail.pop_front() } else { None }
    }

    /// What was asked and never begun gets its answer all the same.
    fn refuse_the_rest(self: &Arc<Office>) {
        let rest = std::mem::take(&mut lock(&self.desk).mail);
        for wanted in rest {
            match wanted {
                Wanted::Listen(_, address) => drop(Owed::new(self, Asked::Listen(address))),
                Wanted::Connect(address, _) => drop(Owed::new(self, Asked::Connect(address))),
                Wanted::Stop(_) | Wanted::Forget(_) => {}
            }
        }
    }

    /// Starts a listener; what comes back stops it. `None`: it could not be started.
    fn listen(
        self: &Arc<Office>,
        id: ListenerId,
        address: SocketAddr,
        children: &Orphans<()>,
    ) -> Option<PipeWriter> {
        let owed = Owed::new(self, Asked::Listen(address));
        let (stopped, stop) = match pipe_in(&self.works.registry) {
            Ok(pipe) => pipe,
            Err(error) => {
                owed.fails(error);
                return None;
            }
        };
        let (office, works) = (Arc::clone(self), Arc::clone(&self.works));
        let give = [stopped.resource()];
        let is_started = self.start(&format!("listen {address}"), give, children, owed, |owed| {
            move || opening::listen(&works, &office, id, address, &stopped, owed)
        });
        is_started.then_some(stop)
    }

    fn connect(self: &Arc<Office>, address: SocketAddr, delay: Duration, children: &Orphans<()>) {
        let owed = Owed::new(self, Asked::Connect(address));
        let works = Arc::clone(&self.works);
        self.start(&format!("connect {address}"), [], children, owed, |owed| {
            move || opening::connect(&works, address, delay, owed)
        });
    }

    /// Starts a child that settles what is owed. One that cannot be started, or is cancelled before
    /// it begins, drops it unsettled, and that is an answer, too.
    fn start<F: FnOnce() + Send + 'static>(
        &self,
        name: &str,
        give: impl IntoIterator<Item = Resource>,
        children: &Orphans<()>,
        owed: Owed,
        job: impl FnOnce(Arc<Owed>) -> F,
    ) -> bool {
        let owed = Arc::new(owed);
        // Weak: the answer is given by the child, and not when this function returns.
        let theirs = Arc::downgrade(&owed);
        match self.works.pool.spawn_named(name, give, job(owed)) {
            Ok(child) => {
                let adopted = children.adopt(child);
                debug_assert!(adopted.is_ok(), "the parent adopts its own child");
                true
            }
            Err(refused) => {
                if let Some(owed) = theirs.upgrade() {
                    owed.fails(io::Error::other(refused.to_string()));
                }
                false
            }
        }
    }
}

impl Desk {
    fn check(&self) -> io::Result<()> {
        if self.phase == Phase::Open { Ok(()) } else { Err(aborted()) }
    }
}

/// What was asked, and has an answer to come.
#[derive(Clone, Copy)]
enum Asked {
    Listen(SocketAddr),
    Connect(SocketAddr),
}

/// An answer that somebody waits for: dropped unsettled, it is the error.
pub(super) struct Owed {
    office: Arc<Office>,
    asked: Asked,
    /// `None` once it is settled.
    error: Mutex<Option<io::Error>>,
}

impl Owed {
    fn new(office: &Arc<Office>, asked: Asked) -> Owed {
        // Whatever else can go wrong says so.
        Owed { office: Arc::clone(office), asked, error: Mutex::new(Some(aborted())) }
    }

    /// The good answer was given, or is about to be.
    pub(super) fn settle(&self) {
        *lock(&self.error) = None;
    }

    /// The answer will be this error.
    pub(super) fn fails(&self, error: io::Error) {
        *lock(&self.error) = Some(error);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let Some(error) = lock(&self.error).take() else { return };
        let asked = self.asked;
        self.office.tell(|callback| match asked {
            Asked::Listen(address) => callback.on_listen_error(address, &error),
            Asked::Connect(address) => callback.on_connect_error(address, &error),
        });
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the manager was aborted")
}

fn no_thread<F>(refused: SpawnError<F>) -> io::Error {
    io::Error::other(refused.to_string())
}

fn report(task: &TaskLabel, outcome: &Result<(), TaskError<()>>) {
    match outcome {
        // A leak's report was delivered when it was made.
        Ok(()) | Err(TaskError::Leaked(..) | TaskError::Cancelled) => {}
        Err(failure) => tracing::error!(%task, "{failure}"),
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desk = lock(&self.desk);
        write!(f, "{:?}, {} listeners", desk.phase, desk.listening.len())
    }
}
