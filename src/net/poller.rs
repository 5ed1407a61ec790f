//! `Poller`: an epoll instance, which tells which of many sockets can be read.
//!
//! One thread waits for all connections at once, instead of one thread for each. Several tasks can wait
//! on the same instance: each has a descriptor of its own for it ([`Poller::duplicate`]), so that every
//! descriptor has one owner.
//!
//! # Limits
//!
//! Cancelling does not wake a task that waits here. The task registers a socket of its own, which the
//! cancellation shuts down.

use std::io;
use std::time::{Duration, Instant};

use echown_fd::kind;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::adaptive_spin::AdaptiveSpin;
use super::checked::{Checked, Held, Kind, marker};
use super::stream::Stream;
use super::syscalls::Syscalls;
use crate::ownership::{Registry, Site};

/// An epoll instance.
pub(crate) type Poller = Checked<marker::Poller>;

/// The maximum number of events of one [`Poller::wait`].
const EVENTS_MAX: usize = 64;

/// A yield that takes longer has given the processor to another program for a slice of its time.
const SLOW_YIELD: Duration = Duration::from_micros(50);

/// What is reported of a descriptor with [`Trigger::Edge`].
const EDGE_EVENTS: EventFlags =
    EventFlags::IN.union(EventFlags::PRI).union(EventFlags::RDHUP).union(EventFlags::ET);

/// How often a registered descriptor is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// By every wait while it can be read.
    Level,
    /// Once for each arrival, to one of the tasks that wait, also if nothing was read meanwhile.
    Edge,
}

/// A registered descriptor that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readable {
    /// What it was registered with.
    pub(crate) key: u64,
    /// The peer has finished or reset the connection: a read may return the end after the last bytes,
    /// without another event.
    pub(crate) is_at_end: bool,
    /// There is urgent data (TCP, or a Unix socket's): a read ends before it, although more has arrived.
    pub(crate) is_urgent: bool,
}

/// The events of one wait.
pub(crate) struct Events(Vec<epoll::Event>);

impl Events {
    pub(crate) fn new() -> Events {
        Events(Vec::with_capacity(EVENTS_MAX))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Readable> {
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        self.0.iter().map(move |event| {
            let (flags, data) = (event.flags, event.data);
            Readable {
                key: data.u64(),
                is_at_end: flags.intersects(end),
                is_urgent: flags.contains(EventFlags::PRI),
            }
        })
    }
}

impl Poller {
    /// A new instance (`epoll_create1(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn new() -> io::Result<Poller> {
        let site = Site::here();
        let descriptor = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Checked(Registry::current().own_fd_as(descriptor, kind::EPOLL, None, site)?))
    }

    /// Another descriptor of the same instance, owned by the current task (`fcntl(2)`, `F_DUPFD_CLOEXEC`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn duplicate(&self) -> io::Result<Poller> {
        let other = self.handle().call(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))?;
        let registry = &self.handle().record().registry;
        Ok(Checked(registry.own_fd_as(other, kind::EPOLL, None, Site::here())?))
    }

    /// Reports from now on when `target`, which the current task owns, can be read, with this key
    /// (`epoll_ctl(2)`). A descriptor that can be read already is reported at once.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn add<K: Kind>(
        &self,
        target: &Checked<K>,
        key: u64,
        trigger: Trigger,
    ) -> io::Result<()> {
        let flags = match trigger {
            Trigger::Level => EventFlags::IN,
            Trigger::Edge => EDGE_EVENTS,
        };
        let data = EventData::new_u64(key);
        target.check()?;
        let target = target.0.handle();
        self.handle().call(|poller| Ok(target.call(|fd| epoll::add(poller, fd, data, flags))))?
    }

    /// Reports a registered stream from now on also when there is room for sending again, each time after a send
    /// would have had to wait (`epoll_ctl(2)`). If there is room already, it is reported at once.
    ///
    /// # Errors
    /// See [`add`](Poller::add).
    #[track_caller]
    pub(crate) fn report_room(&self, target: &Stream, key: u64) -> io::Result<()> {
        let data = EventData::new_u64(key);
        let flags = EDGE_EVENTS | EventFlags::OUT;
        let target = target.handle();
        self.handle().call(|poller| Ok(target.call(|fd| epoll::modify(poller, fd, data, flags))))?
    }

    /// Ends the reports about `target`, which the current task owns. An event that was already returned by
    /// a wait of another task may still be on its way.
    ///
    /// To be called before a registered descriptor is closed. Otherwise a thread that waits here may hold the
    /// file open, and its peer sees no end of the connection until that thread returns.
    ///
    /// # Errors
    /// `NotFound`: it is not registered. Other errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn remove<K: Kind>(&self, target: &Checked<K>) -> io::Result<()> {
        let target = target.0.handle();
        self.handle().call(|poller| Ok(target.call(|fd| epoll::delete(poller, fd))))?
    }

    /// Waits until registered descriptors can be read, at most for `timeout` (`epoll_wait(2)`). No events on
    /// a timeout.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let syscalls = Syscalls::of(self.handle());
        let mut deadline = super::deadline::Deadline::after(timeout.filter(|time| !time.is_zero()));
        let zero = Timespec::default();
        self.handle().call(|fd| {
            events.0.clear();
            let left = match timeout {
                Some(Duration::ZERO) => Some(zero),
                _ => deadline.left(),
            };
            let spare = rustix::buffer::spare_capacity(&mut events.0);
            syscalls.epoll_wait(fd, spare, left.as_ref())
        })?;
        Ok(())
    }

    /// [`wait`](Poller::wait) that yields and polls a few times before it blocks, where that pays: where the
    /// polls find another event than the `last` one. The next message of a lone client would have come in
    /// time to be woken by it.
    ///
    /// # Errors
    /// See [`wait`](Poller::wait).
    #[track_caller]
    pub(crate) fn wait_spinning(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
        last: u64,
        spin: &mut AdaptiveSpin,
    ) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.wait(events, timeout);
        }
        let attempts = spin.attempts(&self.handle().record().registry);
        for _ in 0..attempts {
            let before = Instant::now();
            std::thread::yield_now();
            self.wait(events, Some(Duration::ZERO))?;
            // Another program has the processor: polls only give it away.
            let is_slow = before.elapsed() > SLOW_YIELD;
            if !events.0.is_empty() {
                if !is_slow && events.iter().any(|event| event.key != last) {
                    spin.hit();
                } else {
                    spin.miss();
                }
                return Ok(());
            }
            if is_slow {
                break;
            }
        }
        if attempts > 0 {
            spin.miss();
        }
        self.wait(events, timeout)
    }
}
