//! The reserve descriptor, for when the process has run out of them.
//!
//! Without it, a process that is out of descriptors cannot even refuse a client: the connection stays in
//! the backlog, readable, and an accept loop spins. With it, the acceptor can accept and close the
//! connection, so that its client gets an error.
//!
//! It is a duplicate of a descriptor that the acceptor has anyway, not a file: an empty root directory
//! has no files.

use crate::net::PipeReader;
use crate::ownership::{Give, Resource};

/// One reserve descriptor.
#[derive(Debug)]
pub(super) struct ReserveFd(Option<PipeReader>);

impl ReserveFd {
    /// Opens one for the current task, as a duplicate.
    ///
    /// No descriptor is free.
    /// There is no free descriptor even now.
    pub(super) fn new(of: &PipeReader) -> std::io::Result<ReserveFd> {
        Ok(ReserveFd(Some(of.duplicate()?)))
    }

    /// Closes the reserve while `f` runs, then opens it again. `None` if there was no reserve: another
    /// thread took the descriptor the last time. Each call tries to open it again.
    pub(super) fn release_for<R>(&mut self, of: &PipeReader, f: impl FnOnce() -> R) -> Option<R> {
        // Dropping the duplicate frees the descriptor.
        let had_reserve = self.0.take().is_some();
        let result = had_reserve.then(f);
        self.0 = of.duplicate().ok();
        result
    }
}

impl Give for ReserveFd {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.0.list(resources);
    }
}
