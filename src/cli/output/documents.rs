//! Documents that are written at the end: the summary, a baseline, a plot.
//!
//! Whether each can be written is tried before the work starts, when nothing is lost yet. Two outputs of
//! one path would write over each other: that is refused before anything is opened.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use echown_fd::escape;

use super::outlet::{self, Outlet};
use super::{STALL_TIMEOUT, leaving};
use crate::ownership::Registry;
use crate::report::atomic_file::{AtomicFile, resolved};

/// Tries whether a document can be written there at the end; what is there stays as it is.
///
/// # Errors
/// It cannot, in words.
pub(in crate::cli) fn attempt(what: &str, path: &Path) -> Result<(), String> {
    if is_special(path) {
        return Ok(());
    }
    AtomicFile::at(path).attempt().map_err(|error| cannot_write(what, path, &error))
}

/// Writes a document: in the place of the old one, or, where the path means a stream or a device, to
/// that, which gets two seconds when it is stalled.
///
/// # Errors
/// It cannot be written, in words.
pub(in crate::cli) fn write(
    registry: &Registry,
    what: &str,
    path: &Path,
    text: &str,
) -> Result<(), String> {
    let written = if is_special(path) {
        write_to_stream(registry, path, text)
    } else {
        AtomicFile::at(path).replace(|beside| fs::write(beside, text))
    };
    written.map_err(|error| cannot_write(what, path, &error))
}

fn write_to_stream(registry: &Registry, path: &Path, text: &str) -> io::Result<()> {
    let outlet = Outlet::append(registry, path, true)?;
    let begun = Instant::now();
    let is_overdue = || {
        leaving(begun);
        begun.elapsed() >= STALL_TIMEOUT
    };
    let written = outlet.write_all(text.as_bytes(), || (), is_overdue)?;
    written.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "its reader stalled"))
}

fn cannot_write(what: &str, path: &Path, error: &io::Error) -> String {
    format!("failed to write {what} to {}: {error}", escape::path(path))
}

/// No regular file, and none to be: it is written to as it is, and several may go there.
fn is_special(path: &Path) -> bool {
    outlet::standard(path).is_some()
        || fs::metadata(path).is_ok_and(|is| !is.is_file() && !is.is_dir())
}

/// A file, whatever path leads to it.
#[derive(PartialEq, Eq)]
enum Identity {
    Node(u64, u64),
    /// It is not there yet.
    Path(PathBuf),
}

/// Whether each output, by its option, has a file of its own.
///
/// # Errors
/// Two that have the same, in words.
pub(in crate::cli) fn distinct<'a>(
    outputs: impl IntoIterator<Item = (&'static str, Option<&'a Path>)>,
) -> Result<(), String> {
    let mut known: Vec<(&str, Identity)> = Vec::new();
    for (option, path) in outputs {
        let Some(path) = path.filter(|path| !is_special(path)) else { continue };
        let identity = match fs::metadata(path) {
            Ok(is) => Identity::Node(is.dev(), is.ino()),
            Err(_) => Identity::Path(resolved(path)),
        };
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
