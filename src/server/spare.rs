//! A descriptor in reserve, for the moment when there is none left.
//!
//! Without one, a process that is out of descriptors cannot even refuse a client: the connection
//! stays in the backlog, readable, and whoever accepts in a loop spins. With one, the connection in
//! hand can be accepted and closed, so that its client learns of it.

use crate::net::File;
use crate::ownership::{Registry, Resource};

/// What a reserved descriptor leads to.
const NOTHING: &str = "/dev/null";

/// One descriptor, kept for bad times.
#[derive(Debug)]
pub(super) struct Spare {
    registry: Registry,
    file: Option<File>,
}

impl Spare {
    /// Reserves one for the current task.
    ///
    /// # Errors
    /// Not even now is there one.
    pub(super) fn new(registry: &Registry) -> std::io::Result<Spare> {
        Ok(Spare { registry: registry.clone(), file: Some(open(registry)?) })
    }

    /// For giving it to another task.
    pub(super) fn resource(&self) -> Option<Resource> {
        self.file.as_ref().map(File::resource)
    }

    /// Lends the room of one descriptor to `f`. `None` when the reserve was not there: somebody
    /// else was quicker the last time. It is tried again the next time.
    pub(super) fn lend<R>(&mut self, f: impl FnOnce() -> R) -> Option<R> {
        // Dropping the file is what makes the room.
        let had = self.file.take().is_some();
        let answer = had.then(f);
        self.file = open(&self.registry).ok();
        answer
    }
}

fn open(registry: &Registry) -> std::io::Result<File> {
    File::open_with_in(registry, NOTHING, std::fs::OpenOptions::new().read(true))
}
