//! `Connection`: what the lot knows of one connection, shared by all workers.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use slotmap::DefaultKey;

use super::super::limiter::Permit;
use crate::net::{Address, Stream};

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
    /// When its writer began to wait for the client, in milliseconds of the lot's clock plus one; 0: it does
    /// not wait.
    blocked_since: AtomicU64,
    is_displaced: AtomicBool,
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
            blocked_since: AtomicU64::new(0),
            is_displaced: AtomicBool::new(false),
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

    /// When its writer began to wait, if it waits.
    pub(super) fn blocked_since(&self) -> Option<u64> {
        // ord: Relaxed; it only chooses among writers.
        self.blocked_since.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(super) fn set_blocked(&self, since: Option<u64>) {
        // ord: Relaxed; as above.
        self.blocked_since.store(since.map_or(0, |at| at + 1), Ordering::Relaxed);
    }

    /// Whether its writer was cancelled to make room for another.
    pub(super) fn is_displaced(&self) -> bool {
        // ord: Relaxed; the cancellation that follows is by locks, and its outcome comes after it.
        self.is_displaced.load(Ordering::Relaxed)
    }

    pub(super) fn set_displaced(&self) {
        // ord: Relaxed; as above.
        self.is_displaced.store(true, Ordering::Relaxed);
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
