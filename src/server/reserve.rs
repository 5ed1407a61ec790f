//! A descriptor in reserve, for the moment when there is none left.
//!
//! Without one, a process that is out of descriptors cannot even refuse a client: the connection
//! stays in the backlog, readable, and whoever accepts in a loop spins. With one, the connection in
//! hand can be accepted and closed, so that its client learns of it.
//!
//! It is a duplicate of what the acceptor has anyway, and no file: in an empty root there is none.

use crate::net::PipeReader;
use crate::ownership::Resource;

/// One descriptor, kept for bad times.
#[derive(Debug)]
pub(super) struct ReserveFd(Option<PipeReader>);

impl ReserveFd {
    /// Reserves one for the current task, as a duplicate.
    ///
    /// # Errors
    /// Not even now is there one.
    pub(super) fn new(of: &PipeReader) -> std::io::Result<ReserveFd> {
        Ok(ReserveFd(Some(of.duplicate()?)))
    }

    /// For giving it to another task.
    pub(super) fn resource(&self) -> Option<Resource> {
        self.0.as_ref().map(PipeReader::resource)
    }

    /// Lends the room of one descriptor to `f`. `None` when the reserve was not there: somebody
    /// else was quicker the last time. It is tried again the next time.
    pub(super) fn release_for<R>(&mut self, of: &PipeReader, f: impl FnOnce() -> R) -> Option<R> {
        // Dropping the duplicate is what makes the room.
        let had = self.0.take().is_some();
        let answer = had.then(f);
        self.0 = of.duplicate().ok();
        answer
    }
}
