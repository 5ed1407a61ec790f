//! Owned pipes; each end has its own owner.

use std::io;
use std::time::Duration;

use echown_fd::kind;
use rustix::event::PollFlags;

use super::checked::{Checked, marker};
use super::wait::wait;
use crate::ownership::{Registry, Site};
use crate::sys::platform;

/// The read end of a pipe.
///
/// Cancelling does not wake a task that is blocked here.
pub type PipeReader = Checked<marker::PipeReader>;

/// The write end of a pipe. Releasing it is the reader's end of file.
pub type PipeWriter = Checked<marker::PipeWriter>;

/// A new pipe, both ends owned by the current task (`pipe2(2)`).
///
/// # Errors
/// Errors of the system call and the registry.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = echown::net::pipe()?;
/// writer.write_all(b"through the pipe")?;
/// writer.close()?;
///
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "through the pipe");
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let site = Site::here();
    let (reader, writer) = platform::pipe()?;
    let registry = Registry::current();
    let reader = registry.own_fd_as(reader, kind::PIPE, None, site)?;
    let writer = registry.own_fd_as(writer, kind::PIPE, None, site)?;
    Ok((Checked(reader), Checked(writer)))
}

impl PipeReader {
    /// A duplicate of this end, owned by the current task (`fcntl(2)`, `F_DUPFD_CLOEXEC`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn duplicate(&self) -> io::Result<PipeReader> {
        let other = self.handle().call(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))?;
        let registry = &self.handle().record().registry;
        Ok(Checked(registry.own_fd_as(other, kind::PIPE, None, Site::here())?))
    }

    /// Waits until there is something to read or every write end is closed, at most for `timeout`
    /// (`poll(2)`). Returns false on a timeout.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        wait(self.handle(), PollFlags::IN, Some(timeout))
    }
}
