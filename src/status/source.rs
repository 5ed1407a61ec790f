//! What a status server shows.

use crate::ownership::Registry;

/// Something with a state to show. Clients' tasks call it at the same time.
pub(crate) trait Source: Send + Sync {
    /// The state right now, as one JSON document.
    fn snapshot(&self) -> String;
}

/// A running program.
pub(crate) struct Live(pub(crate) Registry);

impl Source for Live {
    fn snapshot(&self) -> String {
        self.0.snapshot().to_json()
    }
}
