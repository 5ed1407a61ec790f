//! The story of shutting down.
//!
//! 1. Somebody orders the drain; each acceptor learns of it between two accepts. The time that the
//!    drain may take begins with the order.
//! 2. What the kernel has queued at that moment is accepted and served: those clients believe they
//!    are connected. Clients that come later are not waited for, or there would be no end to it.
//! 3. The listener is closed. New clients are refused by the kernel.
//! 4. Every connection reads what has arrived for it, and then the end of the stream: what was
//!    begun is answered in full, and then comes our FIN. Idle ones end at once.
//! 5. At the deadline, or when everything is to be cut, the connections that are left are cancelled:
//!    their sockets are shut down, their tasks answer `Cancelled`, their finalizers run.
//! 6. A task that does not even end then is blocked outside of any socket of its own. Main gives it
//!    a moment, names it, and lets the process end.

use std::time::Instant;

use crate::net::Listener;
use crate::ownership::Error;
use crate::pool::Orphans;
use crate::report::Count;

/// Steps 3 to 5, in the acceptor's task.
pub(super) fn drain<T: Send + 'static>(
    listener: Listener,
    connections: &Orphans<T>,
    deadline: Instant,
) {
    drop(listener);
    let now = Instant::now();
    // An error: this task was itself cancelled, which is the order to cut. Asked first, so that what
    // is to be cut is not told to finish.
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
    tracing::warn!("cutting what is left: {}", Count(late.len() as u64, "connection"));
    for task in late {
        tracing::info!(%task, "cut");
    }
    connections.cancel()
}
