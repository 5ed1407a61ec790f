//! Opens a file to append to, without waiting for another process.
//!
//! The failure story: `open(2)` of a FIFO for writing waits for a reader, possibly indefinitely,
//! and the program hangs before it has done anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file for appending, created if it is missing. A FIFO, terminal or device is
/// non-blocking.
///
/// # Errors
/// The error of the system call. `NotConnected`: no process reads the FIFO.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let opened = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
    opened.map_err(|error| {
        let is_unread = error.raw_os_error() == Some(Errno::NXIO.raw_os_error());
        if is_unread && std::fs::metadata(path).is_ok_and(|is| is.file_type().is_fifo()) {
            let text = "no process reads this FIFO; start its reader first";
            return io::Error::new(io::ErrorKind::NotConnected, text);
        }
        error
    })
}

/// Opens a file as [`open`] does, but writes block until the reader takes the data.
///
/// # Errors
/// See [`open`].
pub fn open_blocking(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}
