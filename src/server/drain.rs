//! The drain: how a server shuts down.
//!
//! 1. A command starts the drain; each acceptor notices it between two accepts. The drain timeout
//!    starts with the command.
//! 2. The acceptor accepts and serves what the kernel has queued at that moment: those clients believe
//!    they are connected. It does not wait for clients that arrive later; otherwise the drain might
//!    never end.
//! 3. The acceptor closes its listener. The kernel refuses new clients.
//! 4. Every connection reads what has arrived for it, and then the end of the stream: it echoes that
//!    input in full and then sends our FIN. Idle connections end at once.
//! 5. At the deadline, or on an abort, the remaining connections are cancelled: their sockets are shut
//!    down, their tasks return `Cancelled`, their finalizers run.
//! 6. A task that does not end even then is blocked outside of its own sockets. Main waits for it a
//!    moment longer, logs its name, and lets the process end.
//!
//! After a hand-over to another process ([`upgrade`](crate::upgrade)) two steps differ: the queue is left
//! to the other process, and connections go on as before until the deadline. Then they have
//! [`FINISH_TIME`] for step 4.

use std::time::{Duration, Instant};

use super::ControlHandle;
use crate::net::Listener;
use crate::ownership::Error;
use crate::pool::Orphans;
use crate::report::Plural;

/// How long connections may take to finish when the deadline after a hand-over has passed.
pub(super) const FINISH_TIME: Duration = Duration::from_secs(1);

/// How long a hand-over's drain waits before it checks for a command.
pub(super) const SLICE: Duration = Duration::from_millis(50);

/// Closes the listener, which another process has, too, and lets the connections go on, until the deadline
/// or until a command.
pub(super) fn hand_over<T: Send + 'static>(
    listener: Listener,
    connections: &Orphans<T>,
    deadline: Instant,
    control: &ControlHandle,
) {
    // Closed and not shut down: the socket and its queue are the other process's.
    let closed = listener.close();
    debug_assert!(closed.is_ok(), "the acceptor owns it: {closed:?}");
    while !control.is_hurried() {
        let now = Instant::now();
        match connections.wait_until(deadline.min(now + SLICE)) {
            Ok(false) if now < deadline => {}
            // All have ended, the time has passed, or this task was cancelled.
            _ => break,
        }
    }
    drain(listener, connections, deadline.max(Instant::now()) + FINISH_TIME);
}

/// Steps 3 to 5, in the acceptor's task.
pub(super) fn drain<T: Send + 'static>(
    listener: Listener,
    connections: &Orphans<T>,
    deadline: Instant,
) {
    drop(listener);
    finish(connections, deadline);
}

/// Steps 4 and 5.
pub(super) fn finish<T: Send + 'static>(connections: &Orphans<T>, deadline: Instant) {
    let now = Instant::now();
    // An error: this task was itself cancelled, which means abort. Checked first, so that connections
    // that are to be cancelled are not drained.
    let is_drained = connections
        .wait_until(now)
        .and_then(|_| connections.drain())
        .and_then(|()| connections.wait_until(deadline))
        .unwrap_or(false);
    if !is_drained && let Err(error) = cancel_rest(connections) {
        tracing::error!("{error}");
    }
}

fn cancel_rest<T: Send + 'static>(connections: &Orphans<T>) -> Result<(), Error> {
    let late = connections.tasks();
    tracing::warn!("aborting what is left: {}", Plural(late.len() as u64, "connection"));
    for task in late {
        tracing::info!(%task, "aborted");
    }
    connections.cancel()
}
