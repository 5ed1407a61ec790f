//! Owned files.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use echown_fd::kind;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::checked::{self, Checked, marker};
use super::pipe::PipeReader;
use super::syscalls::Syscalls;
use crate::ownership::Refused;

/// An open file with one owner.
///
/// Reading, writing and seeking also work through `&File`; they share one position, as in the standard
/// library. Cancelling does not wake a task that is blocked here.
///
/// # Examples
/// ```
/// use std::io::{Read, Seek, Write};
///
/// let path = std::env::temp_dir().join(format!("echown-doc-{}", std::process::id()));
/// let mut options = std::fs::OpenOptions::new();
/// let mut file =
///     echown::net::File::open_with(&path, options.read(true).write(true).create_new(true))?;
/// file.write_all(b"written by its owner")?;
/// file.rewind()?;
///
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "written by its owner");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type File = Checked<marker::File>;

impl File {
    /// Opens a file for reading (`open(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file for writing; truncates or creates it (`open(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        File::open_with(path, OpenOptions::new().write(true).create(true).truncate(true))
    }

    /// Opens a file with the given options (`open(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> io::Result<File> {
        Ok(File::own(options.open(path)?)?)
    }

    /// Becomes the owner of a file of the standard library.
    ///
    /// # Errors
    /// `AlreadyOwned`: the number is already registered, and the file is returned open. `Cancelled`,
    /// `TaskExiting`: it was closed at once.
    #[track_caller]
    pub fn own(file: std::fs::File) -> Result<File, Refused<std::fs::File>> {
        checked::own_as(file, kind::FILE, Checked)
    }

    /// Waits until there is something to read, including the end, or until every write end of `stop` is
    /// closed (`poll(2)`). Returns true if there is something to read. A file on a disk is always ready;
    /// this is for terminals and inherited pipes.
    ///
    /// # Errors
    /// Errors of the system call and the registry, for either descriptor.
    #[track_caller]
    pub fn wait_readable_or_stop(&self, stop: &PipeReader) -> io::Result<bool> {
        let syscalls = Syscalls::of(self.handle());
        self.handle().call(|file| {
            Ok(stop.handle().call(|stop| {
                let mut polled =
                    [PollFd::new(&file, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
                syscalls.poll(&mut polled, None)?;
                Ok(!polled[0].revents().is_empty() && polled[1].revents().is_empty())
            }))
        })?
    }

    /// Waits until a write is possible or fails, at most this long (`poll(2)`). Returns false on a timeout
    /// or a signal. A file on a disk is always ready; this is for terminals and pipes.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait_writable(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let syscalls = Syscalls::of(self.handle());
        let polled = self
            .handle()
            .call(|fd| syscalls.poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timeout)));
        match polled {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until contents and metadata are on the disk (`fsync(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn sync_all(&self) -> io::Result<()> {
        self.handle().call(|fd| rustix::fs::fsync(fd))
    }

    /// Sets the length of the file (`ftruncate(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.handle().call(|fd| rustix::fs::ftruncate(fd, bytes))
    }
}

impl Seek for &File {
    #[track_caller]
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(bytes) => rustix::fs::SeekFrom::Start(bytes),
            SeekFrom::End(bytes) => rustix::fs::SeekFrom::End(bytes),
            SeekFrom::Current(bytes) => rustix::fs::SeekFrom::Current(bytes),
        };
        self.handle().call(|fd| rustix::fs::seek(fd, to))
    }
}

impl Seek for File {
    #[track_caller]
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}
