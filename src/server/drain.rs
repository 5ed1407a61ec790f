//! The story of shutting down.
//!
//! 1. Somebody orders the drain; each acceptor learns of it between two accepts.
//! 2. What the kernel had queued is accepted and served: those clients believe they are connected.
//! 3. The listener is closed. New clients are refused by the kernel.
//! 4. Every connection reads what has arrived for it, and then the end of the stream: what was
//!    begun is answered in full, and then comes our FIN.
//! 5. At the deadline the connections that are left are cancelled: their sockets are shut down,
//!    their tasks answer `Cancelled`, their finalizers run.

use std::time::{Duration, Instant};

use crate::net::Listener;
use crate::pool::Orphans;

/// Steps 3 to 5, in the acceptor's task.
pub(super) fn drain<T: Send + 'static>(
    listener: Listener,
    connections: &Orphans<T>,
    timeout: Duration,
) {
    drop(listener);
    let deadline = Instant::now() + timeout;
    let drained = connections.drain().and_then(|()| connections.wait_until(deadline));
    match drained {
        Ok(true) => {}
        Ok(false) => {
            let late = connections.tasks();
            tracing::warn!("{} connections are cut at the deadline", late.len());
            for task in late {
                tracing::info!(%task, "cut");
            }
            if let Err(error) = connections.cancel() {
                tracing::error!("{error}");
            }
        }
        // This task was itself cancelled: its end cancels the connections.
        Err(error) => tracing::debug!("{error}"),
    }
}
