//! What a client has done, in numbers.

use std::fmt;

use crate::report::Plural;

/// What a client has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Requests that were begun.
    pub requests: u64,
    /// Replies that were what they should be.
    pub replies: u64,
    /// Replies that were something else.
    pub wrong: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub failed_attempts: u64,
    /// Connections that ended before a reply was there.
    pub lost: u64,
    /// It was told to stop before all was done.
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
