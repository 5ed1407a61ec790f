//! What is done with a connection. One room per way of echoing; the loop that accepts, the limits
//! and the drain are the server's, and the same for all.

mod chaos;
mod plain;

use std::io;
use std::sync::Arc;

use crate::net::Stream;

pub use chaos::{Chaos, Fault, Faults, Plan, PlanError};
pub use plain::Plain;

/// A way of serving a connection.
pub trait Style: Send + Sync {
    /// The name of its tasks in reports: `echo`.
    fn name(&self) -> &'static str;

    /// Serves one connection to its end, in the task that owns it.
    ///
    /// # Errors
    /// What ended the connection before its time: the peer's reset, a timeout, the registry's
    /// refusal. It ends this connection and no other.
    fn serve(&self, stream: Stream) -> io::Result<()>;

    /// Answers what comes first and no more, so that something can be done to a connection that has
    /// begun; [`serve`](Style::serve) goes on from there. False when the peer has finished without
    /// having sent anything.
    ///
    /// # Errors
    /// As [`serve`](Style::serve).
    fn answer_first(&self, stream: &Stream) -> io::Result<bool> {
        plain::answer(stream, &mut plain::buffer()).map(|answered| answered > 0)
    }

    /// The faults that were committed on purpose so far; see [`Chaos`].
    fn injected(&self) -> Faults {
        Faults::default()
    }
}

/// How a style reaches the server.
pub type SharedStyle = Arc<dyn Style>;
