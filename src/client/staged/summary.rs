//! `Summary`: the counters of a client.

use std::fmt;

use crate::report::Plural;

/// The counters of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
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

#[cfg(feature = "json")]
impl Summary {
    /// One line of JSON.
    #[must_use]
    pub(crate) fn to_json(self) -> String {
        match serde_json::to_string(&self) {
            Ok(json) => json,
            Err(error) => unreachable!("plain data always serializes: {error}"),
        }
    }
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
