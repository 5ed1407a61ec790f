//! `Summary`: the counters of a client.

use std::fmt;

use crate::report::Plural;

/// The counters of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Summary {
    /// Requests.
    pub requests: u64,
    /// Replies that were correct.
    pub replies: u64,
    /// Replies that were wrong.
    pub wrong: u64,
    /// Connections.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub failed_attempts: u64,
    /// Connections that ended before a reply was complete.
    pub lost: u64,
    /// Whether the client was stopped before every worker was done.
    pub is_stopped: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} verified, {} wrong, {}, {}, {} lost",
            Plural(self.requests, "request"),
            self.replies,
            self.wrong,
            Plural(self.connections, "connection"),
            Plural(self.failed_attempts, "failed attempt"),
            self.lost
        )
    }
}
