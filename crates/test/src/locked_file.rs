//! An output file that several processes write to at the same time, under a lock.
//!
//! Records are appended under the file's lock, each by one call. A document is read, changed and
//! replaced as a whole under the lock ([`AtomicFile`]): a reader finds a complete document, or an
//! empty file before the first one.
//!
//! The lock (`flock`) is on the file itself and ends with the process that holds it, so no lock
//! file is left behind. While a process waits for the lock, the file may be replaced; the process
//! then starts again with the new file.

use std::io::{self, Write};
use std::path::Path;

#[cfg(feature = "ci")]
use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::MetadataExt,
};

use echown_fd::append;

use echown_report::atomic_file::AtomicFile;
#[cfg(feature = "ci")]
use echown_report::atomic_file::NOT_REGULAR;
use rustix::fs::{FlockOperation, flock};

/// Appends a record.
///
/// Standard output and standard error are not opened again by path: a second open file has its own
/// offset, so that other writers would overwrite its text, and a socket cannot be opened. The
/// existing descriptor is written to instead, bypassing the runner's capture, under the lock of the
/// standard stream.
pub(super) fn append_record(path: &Path, record: &[u8]) -> io::Result<()> {
    match standard(path) {
        Some(Standard::Error) => return io::stderr().lock().write_all(record),
        Some(Standard::Output) => {
            let mut output = io::stdout().lock();
            output.write_all(record)?;
            return output.flush();
        }
        None => {}
    }
    let mut file = append::open_blocking(path)?;
    if file.metadata()?.is_file() {
        flock(&file, FlockOperation::LockExclusive)?;
    }
    file.write_all(record)
}

enum Standard {
    Output,
    Error,
}

/// The standard stream that a path names, if it names one.
fn standard(path: &Path) -> Option<Standard> {
    match path.to_str()? {
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(Standard::Error),
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(Standard::Output),
        _ => None,
    }
}

/// Replaces a document by the result of `change` on its text. `None` leaves it unchanged.
///
/// # Errors
/// The error of `change` or of the system call, without the file's name.
#[cfg(feature = "ci")]
pub(super) fn update(
    path: &Path,
    change: impl FnOnce(&str) -> Result<Option<String>, String>,
) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let file = AtomicFile::at(path);
    let mut locked = lock(file.path()).map_err(words)?;
    let mut text = String::new();
    locked.read_to_string(&mut text).map_err(words)?;
    let Some(text) = change(&text)? else { return Ok(()) };
    file.replace(|temporary| fs::write(temporary, text)).map_err(words)
}

/// Checks that records can be appended to a file, or that a document can be replaced. Changes
/// nothing.
///
/// # Errors
/// The error of the system call.
pub(super) fn check_writable(path: &Path, is_document: bool) -> io::Result<()> {
    if standard(path).is_some() && !is_document {
        return Ok(());
    }
    match std::fs::metadata(path) {
        Ok(_) if !is_document => append::open(path).map(drop),
        _ => AtomicFile::at(path).attempt(),
    }
}

/// Opens the file, which is created if necessary, and locks it.
#[cfg(feature = "ci")]
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mine = file.metadata()?;
        if !mine.is_file() {
            return Err(io::Error::other(NOT_REGULAR));
        }
        flock(&file, FlockOperation::LockExclusive)?;
        let named = fs::metadata(path).ok().map(|named| (named.dev(), named.ino()));
        if named == Some((mine.dev(), mine.ino())) {
            return Ok(file);
        }
    }
}
