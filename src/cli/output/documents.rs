//! Documents that are written at the end: the summary, a baseline, a plot.
//!
//! The program checks that each document can be written before the work starts, so that no result
//! is lost. Two outputs with the same path would overwrite each other, which is an error before
//! anything is opened.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use echown_fd::escape;

use super::outlet::{self, Outlet};
use super::{STALL_TIMEOUT, leaving};
use crate::report::atomic_file::{AtomicFile, resolved};

/// Checks that a document can be written later. An existing document stays unchanged.
///
/// # Errors
/// The document cannot be written. The error is a message for people.
pub(in crate::cli) fn attempt(what: &str, path: &Path) -> Result<(), String> {
    if is_special(path) {
        return Ok(());
    }
    AtomicFile::at(path).attempt().map_err(|error| write_error(what, path, &error))
}

/// Writes a document. A regular file is replaced. A stream or a device is written to; if it stalls,
/// the write fails after two seconds.
///
/// # Errors
/// The document cannot be written. The error is a message for people.
pub(in crate::cli) fn write(what: &str, path: &Path, text: &str) -> Result<(), String> {
    let written = if is_special(path) {
        write_to_stream(path, text)
    } else {
        AtomicFile::at(path).replace(|temporary| fs::write(temporary, text))
    };
    written.map_err(|error| write_error(what, path, &error))
}

/// Writes a document as [`write`] does. A new file can be read only by the user of this process.
///
/// # Errors
/// As [`write`].
pub(in crate::cli) fn write_private(what: &str, path: &Path, text: &str) -> Result<(), String> {
    if is_special(path) {
        return write(what, path, text);
    }
    let written = AtomicFile::at(path).replace(|temporary| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(text.as_bytes())
    });
    written.map_err(|error| write_error(what, path, &error))
}

fn write_to_stream(path: &Path, text: &str) -> io::Result<()> {
    let outlet = Outlet::append(path, true)?;
    let begun = Instant::now();
    let is_overdue = || {
        leaving(begun);
        begun.elapsed() >= STALL_TIMEOUT
    };
    let written = outlet.write_all(text.as_bytes(), || (), is_overdue)?;
    written.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "its reader stalled"))
}

fn write_error(what: &str, path: &Path, error: &io::Error) -> String {
    format!("failed to write {what} to {}: {error}", escape::path(path))
}

/// Whether the path names a standard stream, which is not opened again.
pub(in crate::cli) fn is_standard(path: &Path) -> bool {
    outlet::standard(path).is_some()
}

/// Whether the path refers to a stream or a device. Several outputs may share one.
fn is_special(path: &Path) -> bool {
    is_standard(path)
        || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// The device and inode of a file, which identify it independently of its path.
pub(super) type Node = (u64, u64);

pub(super) fn node(metadata: fs::Metadata) -> Node {
    (metadata.dev(), metadata.ino())
}

/// Checks that no two outputs have the same file. Each output has the name of its option.
///
/// # Errors
/// Two outputs have the same file. The error is a message for people.
pub(in crate::cli) fn distinct<'a>(
    outputs: impl IntoIterator<Item = (&'static str, Option<&'a Path>)>,
) -> Result<(), String> {
    let mut known: Vec<(&str, Result<Node, PathBuf>)> = Vec::new();
    for (option, path) in outputs {
        let Some(path) = path.filter(|path| !is_special(path)) else { continue };
        // A file that does not exist yet is identified by its path.
        let identity = fs::metadata(path).map(node).map_err(|_| resolved(path));
        if let Some((other, _)) = known.iter().find(|(_, it)| *it == identity) {
            return Err(format!(
                "{other} and {option} name the same file, {}: give each a file of its own",
                escape::path(path)
            ));
        }
        known.push((option, identity));
    }
    Ok(())
}
