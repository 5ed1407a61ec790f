//! `Connection`: what the lot knows of one connection, shared by all workers.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use slotmap::DefaultKey;

use super::super::limiter::Permit;
use crate::net::{Address, Stream};

/// What could not be sent without waiting.
pub(super) struct Unsent {
    pub(super) bytes: Vec<u8>,
    /// How many of them are sent.
    pub(super) sent: usize,
    /// Its place among the blocked connections of the lot.
    pub(super) place: u64,
    /// When the last of them was sent, in milliseconds of the lot's clock.
    pub(super) since: u64,
}

/// A connection. Whichever task owns the stream may use it; the rest belongs to all.
pub(super) struct Connection {
    pub(super) key: DefaultKey,
    pub(super) stream: Stream,
    peer: Address,
    style: &'static str,
    /// `None`: a connection of the server to itself, which no limit and no count contains.
    permit: Option<Permit>,
    /// The peer has finished; see [`is_at_end`](Connection::is_at_end).
    is_at_end: AtomicBool,
    /// See [`has_short_reads`](Connection::has_short_reads).
    has_short_reads: AtomicBool,
    is_draining: AtomicBool,
    /// Of the last turn, in milliseconds of the lot's clock.
    last_turn: AtomicU64,
    /// What could not be sent; only the owner uses it, so the lock is always free.
    unsent: Mutex<Option<Unsent>>,
    /// Whether there is something unsent.
    is_blocked: AtomicBool,
    /// Whether its events contain that there is room again.
    reports_room: AtomicBool,
    /// Whether an entry of a worker's timeouts waits for the client to read.
    has_write_timeout: AtomicBool,
}

impl Connection {
    pub(super) fn new(
        key: DefaultKey,
        stream: Stream,
        peer: Address,
        style: &'static str,
        permit: Option<Permit>,
    ) -> Connection {
        // A read ends after bytes that came with a descriptor.
        let is_unix = peer.inet().is_none();
        Connection {
            key,
            stream,
            peer,
            style,
            permit,
            is_at_end: AtomicBool::new(false),
            has_short_reads: AtomicBool::new(is_unix),
            is_draining: AtomicBool::new(false),
            last_turn: AtomicU64::new(0),
            unsent: Mutex::default(),
            is_blocked: AtomicBool::new(false),
            reports_room: AtomicBool::new(false),
            has_write_timeout: AtomicBool::new(false),
        }
    }

    /// Whether the peer is known to have finished, so that the end of the stream follows what was sent,
    /// without another event.
    pub(super) fn is_at_end(&self) -> bool {
        // ord: Acquire; partner: the Release in `set_at_end`. The worker that has the connection learns of the
        // event from the mark in the slot; this orders nothing else.
        self.is_at_end.load(Ordering::Acquire)
    }

    /// Whether a read may leave input behind although it had room for it. TCP does that for urgent data only.
    pub(super) fn has_short_reads(&self) -> bool {
        // ord: Acquire; as in `is_at_end`.
        self.has_short_reads.load(Ordering::Acquire)
    }

    /// Called before the event claims or marks the connection.
    pub(super) fn set_short_reads(&self) {
        // ord: Release; as in `set_at_end`.
        self.has_short_reads.store(true, Ordering::Release);
    }

    /// Called before the event claims or marks the connection.
    pub(super) fn set_at_end(&self) {
        // ord: Release, as above.
        self.is_at_end.store(true, Ordering::Release);
    }

    /// Counts the time from the accept until its input is served.
    pub(super) fn count_start(&self) {
        if let Some(permit) = &self.permit {
            permit.count_start(self.stream.resource().age_nanos());
        }
    }

    /// Shuts down the reading, once, for a drain. Called by the owner.
    pub(super) fn drain(&self) -> io::Result<()> {
        // ord: Relaxed; only the owner reads and writes it, and the slot orders owners.
        if self.is_draining.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.is_draining.store(true, Ordering::Relaxed);
        self.set_at_end();
        self.stream.shutdown(Shutdown::Read)
    }

    /// The time of the last turn.
    pub(super) fn last_turn(&self) -> u64 {
        // ord: Relaxed; a time, for the idle timeout only.
        self.last_turn.load(Ordering::Relaxed)
    }

    pub(super) fn set_last_turn(&self, millis: u64) {
        // ord: Relaxed; as above.
        self.last_turn.store(millis, Ordering::Relaxed);
    }

    /// Whether the client has to read before more can be sent.
    pub(super) fn is_blocked(&self) -> bool {
        // ord: Relaxed; the owner's own, for whom the slot orders it. For others it is a hint.
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// What could not be sent. Called by the owner.
    pub(super) fn unsent(&self) -> MutexGuard<'_, Option<Unsent>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by the owner after it has changed what is unsent.
    pub(super) fn set_blocked(&self, on: bool) {
        // ord: Relaxed; as above.
        self.is_blocked.store(on, Ordering::Relaxed);
    }

    /// Returns whether its events contained before that there is room again; from now on they do.
    pub(super) fn reports_room(&self) -> bool {
        // ord: Relaxed; the owner's own, and the slot orders owners.
        self.reports_room.swap(true, Ordering::Relaxed)
    }

    /// Returns whether there was an entry for its write timeout before.
    pub(super) fn set_write_timeout(&self, on: bool) -> bool {
        // ord: AcqRel; partner: itself. A worker blocks the connection and then sets this; the one whose entry is
        // due clears this and then looks whether it is blocked. If the first one finds it still set, and adds no
        // entry, the second one finds the connection blocked, and adds one.
        self.has_write_timeout.swap(on, Ordering::AcqRel)
    }

    /// Whether it is the server's own.
    pub(super) fn is_probe(&self) -> bool {
        self.permit.is_none()
    }

    /// Adds its bytes to the server's counters, at its end.
    pub(super) fn count_bytes(&self) {
        let (received, sent) = self.stream.traffic();
        if let Some(permit) = &self.permit {
            permit.count_bytes(received, sent);
        }
    }
}

/// As the task of a connection is called, with the connection's number.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.style, self.peer)
    }
}
