//! Commands to a running server, from any thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::ServerEvent;

/// A command to a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Stop accepting, finish open connections.
    Drain,
    /// Cancel all connections now.
    Abort,
}

/// Sends commands to a server, from any thread.
#[derive(Clone)]
pub struct ControlHandle {
    events: SyncSender<ServerEvent>,
    stop: Arc<Stop>,
}

#[derive(Default)]
struct Stop {
    /// When the first command was sent; the drain timeout starts here.
    first: OnceLock<Instant>,
    /// Held while the first command is decided: a command or a hand-over.
    decision: Mutex<()>,
    /// Set when any command was sent.
    is_stopping: AtomicBool,
    /// Set when connections that may go on after a hand-over are to finish now.
    hurried: OnceLock<()>,
}

impl ControlHandle {
    pub(super) fn new(events: SyncSender<ServerEvent>) -> ControlHandle {
        ControlHandle { events, stop: Arc::default() }
    }

    /// Where the ends of acceptors are sent.
    pub(super) fn events(&self) -> &SyncSender<ServerEvent> {
        &self.events
    }

    /// Sends a command. Does nothing after the server has ended.
    pub fn send(&self, command: Control) {
        // ord: Relaxed; no other access depends on it.
        self.stop.is_stopping.store(true, Ordering::Relaxed);
        if command == Control::Drain {
            // Before the event: acceptors read this time stamp, and an acceptor that ends must not look as
            // if it ended without a command. An abort starts when the acceptors are cancelled; earlier,
            // they would let connections finish.
            self.begin();
        }
        match self.events.try_send(ServerEvent::Control(command)) {
            // A full channel already contains the same command.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Whether the server drains or aborts, or is about to.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn is_stopping(&self) -> bool {
        // ord: Relaxed, as in `send`.
        self.stop.is_stopping.load(Ordering::Relaxed)
    }

    /// Hands over to another process, unless a command was sent before: calls `mark`, which marks the
    /// listeners that the other process has, and stops the server. Those listeners are closed with their
    /// queues, and their connections go on until the drain timeout. Returns whether it handed over.
    #[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
    pub(crate) fn hand_over(&self, mark: impl FnOnce()) -> bool {
        let decision = self.decide();
        if self.stop.first.get().is_some() {
            return false;
        }
        // Before the time stamp: an acceptor that finds the latter finds its listener marked.
        mark();
        self.stop.first.get_or_init(Instant::now);
        drop(decision);
        // Fails only after the server has ended. It waits only if the channel is full of commands.
        let _ = self.events.send(ServerEvent::HandedOver);
        true
    }

    /// Whether the server has begun to stop. If not, what this task did before is seen by whatever does
    /// the stop.
    #[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
    pub(crate) fn has_begun(&self) -> bool {
        let _decision = self.decide();
        self.stop.first.get().is_some()
    }

    /// Records the time of the first command and returns it.
    pub(super) fn begin(&self) -> Instant {
        let _decision = self.decide();
        *self.stop.first.get_or_init(Instant::now)
    }

    fn decide(&self) -> impl Sized {
        self.stop.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the first command was sent, if there was one.
    pub(super) fn first(&self) -> Option<Instant> {
        self.stop.first.get().copied()
    }

    /// Ends the time that connections have after a hand-over.
    pub(super) fn hurry(&self) {
        self.stop.hurried.get_or_init(|| ());
    }

    /// Whether that time has ended.
    pub(super) fn is_hurried(&self) -> bool {
        self.stop.hurried.get().is_some()
    }
}

impl fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlHandle")
    }
}
