//! `ConnectionLot`: what the workers of one acceptor share.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slotmap::{DefaultKey, SlotMap};

use super::super::limiter::{ConnectionLimiter, Permit};
use super::connection::Connection;
use crate::echo::{EndReason, SharedHandler, Turns};
use crate::net::{Address, Stream};
use crate::ownership::{Error, ErrorKind, Lot, TaskId};
use crate::pool::Pool;

/// Size of a worker's buffer, which all of its connections use: that of the largest buffer that a connection
/// with a thread gets.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// How long a connection may take to get what was sent to it, at the end of a drain.
pub(super) const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The writers of a worker and their connections.
pub(super) type Writing = Arc<Mutex<HashMap<TaskId, Arc<Connection>>>>;

/// The connections of one acceptor, and what serving them needs.
pub(super) struct ConnectionLot {
    /// Where connections are parked: the acceptor's account.
    pub(super) lot: Lot,
    pub(super) pool: Pool,
    pub(super) limiter: Arc<ConnectionLimiter>,
    /// How many writers each worker may have.
    pub(super) writers_max: usize,
    handler: SharedHandler,
    connections: Mutex<SlotMap<DefaultKey, Arc<Connection>>>,
    is_draining: AtomicBool,
    /// Whether reads can be cut short by injected faults, so that a short one says nothing.
    pub(super) has_faults: bool,
    has_idle_timeout: bool,
    began: Instant,
}

impl ConnectionLot {
    /// An empty lot of the current task, the acceptor's.
    pub(super) fn new(
        pool: &Pool,
        limiter: &Arc<ConnectionLimiter>,
        handler: &SharedHandler,
        writers_max: usize,
        has_idle_timeout: bool,
    ) -> ConnectionLot {
        ConnectionLot {
            lot: Lot::new(),
            pool: pool.clone(),
            limiter: Arc::clone(limiter),
            writers_max,
            handler: Arc::clone(handler),
            connections: Mutex::default(),
            is_draining: AtomicBool::new(false),
            has_faults: pool.registry().fault_injector().is_some(),
            has_idle_timeout,
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

    /// The connections of these keys that have not ended. `each` takes no lock.
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
        if self.connections().remove(connection.key).is_none() || connection.is_probe() {
            return;
        }
        connection.count_bytes();
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
        if self.connections().remove(connection.key).is_some() && !connection.is_probe() {
            connection.count_bytes();
            self.limiter.counters.ends.count(reason);
        }
    }

    /// Parks a connection of the current task. Returns false if input came after the last read.
    ///
    /// # Errors
    /// The current task or the lot's was cancelled.
    pub(super) fn park(&self, connection: &Connection) -> Result<bool, Error> {
        if self.has_idle_timeout {
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
    Error::in_io(error).is_some_and(|error| error.kind() == ErrorKind::Cancelled)
}
