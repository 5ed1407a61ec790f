//! `ConnectionLot`: what the workers of one acceptor share.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slotmap::{DefaultKey, SlotMap};

use super::super::ServerSettings;
use super::super::limiter::{ConnectionLimiter, Permit};
use super::connection::Connection;
use super::timeouts::Timeouts;
use crate::echo::{EndReason, SharedHandler, Turns};
use crate::net::{Address, Stream};
use crate::ownership::{Error, ErrorKind, Lot, Registry};

/// Size of a worker's buffer, which all of its connections use: that of the largest buffer that a connection
/// with a thread gets.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// The connections of one acceptor, and what serving them needs.
pub(super) struct ConnectionLot {
    /// Where connections are parked: the acceptor's account.
    pub(super) lot: Lot,
    pub(super) limiter: Arc<ConnectionLimiter>,
    /// How many connections may be blocked.
    blocked_max: usize,
    /// The connections that are blocked, by their places: the first one has waited longest.
    blocked: Mutex<Blocked>,
    pub(super) timeouts: WaitTimeouts,
    handler: SharedHandler,
    connections: Mutex<SlotMap<DefaultKey, Arc<Connection>>>,
    is_draining: AtomicBool,
    /// Whether reads can be cut short by injected faults, so that a short one says nothing.
    pub(super) has_faults: bool,
    began: Instant,
}

/// How long a connection may wait, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitTimeouts {
    /// For input.
    pub(super) idle: Option<u64>,
    /// For its client to read.
    pub(super) write: Option<u64>,
}

#[derive(Debug, Default)]
struct Blocked {
    by_place: BTreeMap<u64, DefaultKey>,
    next: u64,
}

impl ConnectionLot {
    /// An empty lot of the current task, the acceptor's.
    pub(super) fn new(
        registry: &Registry,
        limiter: &Arc<ConnectionLimiter>,
        handler: &SharedHandler,
        settings: &ServerSettings,
    ) -> ConnectionLot {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let timeouts = WaitTimeouts {
            idle: settings.idle_timeout.map(millis),
            write: settings.write_timeout.map(millis),
        };
        ConnectionLot {
            lot: Lot::new(),
            limiter: Arc::clone(limiter),
            blocked_max: settings.park_blocked.get(),
            blocked: Mutex::default(),
            timeouts,
            handler: Arc::clone(handler),
            connections: Mutex::default(),
            is_draining: AtomicBool::new(false),
            has_faults: registry.fault_injector().is_some(),
            began: Instant::now(),
        }
    }

    /// The handler's way to serve in turns.
    pub(super) fn turns(&self) -> &dyn Turns {
        let Some(turns) = self.handler.turns() else {
            unreachable!("a server opens a lot only for a handler with turns")
        };
        turns
    }

    /// Milliseconds since the lot was opened.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it is until this time of the lot's clock.
    pub(super) fn until(&self, millis: u64) -> Duration {
        let at = self.began.checked_add(Duration::from_millis(millis));
        at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Adds a new connection, which the current task owns.
    pub(super) fn add(&self, stream: Stream, peer: Address, permit: Permit) -> Arc<Connection> {
        self.insert(stream, peer, Some(permit))
    }

    /// Adds a connection of the server to itself.
    pub(super) fn add_probe(&self, stream: Stream) -> Arc<Connection> {
        self.insert(stream, Address::Unnamed, None)
    }

    fn insert(&self, stream: Stream, peer: Address, permit: Option<Permit>) -> Arc<Connection> {
        let style = self.handler.name();
        let mut connections = self.connections();
        let key = connections
            .insert_with_key(|key| Arc::new(Connection::new(key, stream, peer, style, permit)));
        Arc::clone(&connections[key])
    }

    /// The connections of these keys that have not ended. `each` must take no lock.
    pub(super) fn find<T>(
        &self,
        keys: impl Iterator<Item = (DefaultKey, T)>,
        mut each: impl FnMut(&Arc<Connection>, T),
    ) {
        let connections = self.connections();
        for (key, with) in keys {
            if let Some(connection) = connections.get(key) {
                each(connection, with);
            }
        }
    }

    /// All connections.
    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.connections().values().cloned().collect()
    }

    /// Whether no client is connected.
    pub(super) fn is_empty(&self) -> bool {
        self.connections().values().all(|connection| connection.is_probe())
    }

    /// Removes a connection whose stream is closed, or is being closed, and counts its end. Does nothing for
    /// one that was removed before.
    pub(super) fn end(&self, connection: &Connection, result: io::Result<EndReason>) {
        if !self.remove(connection) {
            return;
        }
        let ends = &self.limiter.counters.ends;
        match result {
            Ok(reason) => ends.count_and_log(reason, connection, None),
            // Logged where it is cancelled.
            Err(error) if is_cancelled(&error) => ends.count(EndReason::Aborted),
            Err(error) => {
                let reason = EndReason::from_error(&error);
                // Do not repeat an error that says no more than the reason.
                let is_more = error.to_string() != reason.to_string();
                ends.count_and_log(reason, connection, is_more.then_some(&error as _));
            }
        }
    }

    /// [`end`](ConnectionLot::end) of a connection that is logged elsewhere.
    pub(super) fn end_silently(&self, connection: &Connection, reason: EndReason) {
        if self.remove(connection) {
            self.limiter.counters.ends.count(reason);
        }
    }

    /// Removes a connection, and returns whether its end is to be counted.
    fn remove(&self, connection: &Connection) -> bool {
        if self.connections().remove(connection.key).is_none() {
            return false;
        }
        if let Some(unsent) = connection.unsent().take() {
            self.unblock(unsent.place);
        }
        connection.count_bytes();
        !connection.is_probe()
    }

    /// Gives a blocked connection a place, the last one. Returns the connections that have waited longest, as many
    /// as there are too many.
    pub(super) fn block(&self, connection: &Connection) -> (u64, Vec<DefaultKey>) {
        let mut blocked = self.blocked();
        let place = blocked.next;
        blocked.next += 1;
        blocked.by_place.insert(place, connection.key);
        let excess = blocked.by_place.len().saturating_sub(self.blocked_max);
        let longest = blocked.by_place.values().take(excess).copied().collect();
        drop(blocked);
        self.limiter.counters.parking.blocked();
        (place, longest)
    }

    /// Frees the place of a connection that is no longer blocked.
    pub(super) fn unblock(&self, place: u64) {
        if self.blocked().by_place.remove(&place).is_some() {
            self.limiter.counters.parking.unblocked();
        }
    }

    fn blocked(&self) -> MutexGuard<'_, Blocked> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection with this key, if it has not ended.
    pub(super) fn get(&self, key: DefaultKey) -> Option<Arc<Connection>> {
        self.connections().get(key).cloned()
    }

    /// Removes the timeouts of connections that have ended.
    pub(super) fn prune(&self, timeouts: &mut Timeouts) {
        let connections = self.connections();
        timeouts.prune(|key| connections.contains_key(key));
    }

    /// Parks a connection of the current task. Returns false if input came after the last read.
    ///
    /// # Errors
    /// The current task or the lot's was cancelled.
    pub(super) fn park(&self, connection: &Connection) -> Result<bool, Error> {
        if self.timeouts.idle.is_some() {
            connection.set_last_turn(self.now());
        }
        connection.stream.park(&self.lot)
    }

    /// Sends our end, if that is not left to the close, on a connection whose peer has finished.
    ///
    /// # Errors
    /// The peer has reset the connection.
    pub(super) fn finish(&self, connection: &Connection) -> io::Result<EndReason> {
        if !self.is_draining() {
            return Ok(EndReason::Finished);
        }
        // The peer may still be sending, and a close alone would then reset the connection.
        connection.stream.shutdown(Shutdown::Write)?;
        Ok(EndReason::Drained)
    }

    /// Whether connections are to end when what has arrived is echoed.
    pub(super) fn is_draining(&self) -> bool {
        // ord: Acquire; partner: the Release in `begin_drain`. What the acceptor then marks is read again by
        // its worker, which acquires the mark and therefore finds this set.
        self.is_draining.load(Ordering::Acquire)
    }

    pub(super) fn begin_drain(&self) {
        // ord: Release, as above.
        self.is_draining.store(true, Ordering::Release);
    }

    fn connections(&self) -> MutexGuard<'_, SlotMap<DefaultKey, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the task that made the call was cancelled.
pub(super) fn is_cancelled(error: &io::Error) -> bool {
    // A worker parks after its lot's task was cancelled, and before it is cancelled itself.
    Error::in_io(error).is_some_and(|error| {
        matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::ParentExiting)
    })
}
