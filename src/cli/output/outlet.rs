//! An output: standard error, or a file that was opened by its path.
//!
//! Opening and writing have time limits. A FIFO is opened without waiting for its reader. Data is
//! written in pieces that fit, each when the output is ready; between them the writer checks
//! whether the output has timed out.
//!
//! # Limits
//!
//! Standard error is shared with other processes: if one of them fills the pipe between the check
//! and the write, the write blocks, and this thread is abandoned at the end of the process. The
//! same applies to a disk that does not respond.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use echown_fd::{append, escape};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::net::File;

/// The number of bytes that a pipe or terminal accepts without blocking once it is ready:
/// `PIPE_BUF`.
const PIECE_MAX: usize = 4096;

/// The maximum size in bytes of a write of several items to a file.
const BATCH_MAX: usize = 64 * 1024;

/// How often the writer checks a stalled output for its timeout.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a FIFO may be without a reader when the program starts.
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often opening is retried meanwhile.
const READER_PAUSE: Duration = Duration::from_millis(20);

/// The destination of bytes.
pub(in crate::cli) enum Outlet {
    /// An inherited standard stream.
    Standard(BorrowedFd<'static>),
    /// A regular file, which never stalls.
    File(File),
    /// A FIFO, a terminal or a device, opened without blocking.
    Stream(File),
}

/// The standard stream that a path names, if it names one; `-` is standard output. It is not opened again, because it would
/// get a separate offset, and a socket cannot be opened.
pub(in crate::cli) fn standard(path: &Path) -> Option<BorrowedFd<'static>> {
    match path.to_str()? {
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(rustix::stdio::stderr()),
        "-" | "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(rustix::stdio::stdout()),
        _ => None,
    }
}

impl Outlet {
    /// Opens a file for appending.
    ///
    /// # Errors
    /// The error of the system call. For a FIFO without a reader: at once, or after a timeout if
    /// `waits`.
    pub(in crate::cli) fn append(path: &Path, waits: bool) -> io::Result<Outlet> {
        if let Some(stream) = standard(path) {
            return Ok(Outlet::Standard(stream));
        }
        let deadline = Instant::now() + if waits { READER_TIMEOUT } else { Duration::ZERO };
        let file = loop {
            match append::open(path) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotConnected && Instant::now() < deadline =>
                {
                    std::thread::sleep(READER_PAUSE);
                }
                opened => break opened?,
            }
        };
        let is_regular = file.metadata()?.is_file();
        let file = File::own(file)?;
        Ok(if is_regular { Outlet::File(file) } else { Outlet::Stream(file) })
    }

    /// The maximum size in bytes of a write of several items. Items are not split, so that another
    /// process's output appears between them.
    pub(in crate::cli) fn batch_max(&self) -> usize {
        match self {
            Outlet::File(_) => BATCH_MAX,
            Outlet::Standard(_) | Outlet::Stream(_) => PIECE_MAX,
        }
    }

    /// Writes all bytes, each piece when the output is ready. `None`: the output was given up,
    /// because `is_overdue` returned true while the output was stalled.
    ///
    /// # Errors
    /// The error of the system call.
    pub(in crate::cli) fn write_all(
        &self,
        mut bytes: &[u8],
        mut moved: impl FnMut(),
        mut is_overdue: impl FnMut() -> bool,
    ) -> io::Result<Option<()>> {
        while !bytes.is_empty() {
            let is_ready = match self {
                Outlet::File(_) => true,
                Outlet::Stream(file) => file.wait_writable(CHECK_INTERVAL)?,
                Outlet::Standard(stream) => is_writable(stream, CHECK_INTERVAL)?,
            };
            let written = match self {
                _ if !is_ready => Err(io::ErrorKind::WouldBlock.into()),
                Outlet::File(file) => (&mut &*file).write(bytes),
                Outlet::Stream(file) => (&mut &*file).write(piece(bytes)),
                Outlet::Standard(stream) => {
                    rustix::io::write(stream, piece(bytes)).map_err(io::Error::from)
                }
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    moved();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if is_overdue() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(()))
    }
}

/// The next piece to write: all bytes, or as many whole lines as fit, or as many bytes as fit.
fn piece(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= PIECE_MAX {
        return bytes;
    }
    let most = &bytes[..PIECE_MAX];
    let end = most.iter().rposition(|&byte| byte == b'\n').map_or(PIECE_MAX, |newline| newline + 1);
    &most[..end]
}

/// Whether a stream becomes writable, or has an error, within the timeout.
pub(in crate::cli) fn is_writable(stream: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&stream, PollFlags::OUT)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The output's name in messages.
pub(in crate::cli) fn name(path: Option<&Path>) -> Cow<'_, str> {
    path.map_or(Cow::Borrowed("standard error"), |path| escape::path(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_with_a_line_if_there_is_one() {
        assert_eq!(piece(b"a\nb"), b"a\nb");
        let mut long = vec![b'x'; 3 * PIECE_MAX];
        assert_eq!(piece(&long).len(), PIECE_MAX);
        long[100] = b'\n';
        assert_eq!(piece(&long).len(), 101);
    }
}
