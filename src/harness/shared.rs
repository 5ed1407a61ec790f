//! A file that many processes write to, none of which knows of the others.
//!
//! Records are appended under the file's lock, each by one call. A document is read, changed and
//! replaced under the lock: the new one is written beside it and takes its name, so that who reads it,
//! at whatever moment and whoever was killed, reads a whole document (or an empty file, before there is
//! the first).
//!
//! The lock (`flock`) is on the file itself and goes with the process that has it; nothing is left
//! lying about. Who waited for it may have waited for a file that has been replaced meanwhile, and then
//! begins again with the one that has the name now.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

#[cfg(feature = "ci")]
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

/// Appends a record.
///
/// Standard output and standard error are written to as this process has them, round the runner's
/// capture, and not while another thread prints. Opened anew by its path a file would be written to from
/// a place of its own, and what others write would go over it; and a socket cannot be opened.
pub(super) fn append(path: &Path, record: &[u8]) -> io::Result<()> {
    match path.to_str() {
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => {
            return io::stderr().lock().write_all(record);
        }
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => {
            let mut output = io::stdout().lock();
            output.write_all(record)?;
            return output.flush();
        }
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.is_file() {
        file.lock()?;
    }
    file.write_all(record)
}

/// Changes a document as `change` does with its text. `None`: it stays as it is.
///
/// # Errors
/// What `change` says, or what the file says, in words without the file's name.
#[cfg(feature = "ci")]
pub(super) fn update(
    path: &Path,
    change: impl FnOnce(&str) -> Result<Option<String>, String>,
) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    // A link to a file stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut locked = lock(&path).map_err(words)?;
    let mut text = String::new();
    locked.read_to_string(&mut text).map_err(words)?;
    let Some(text) = change(&text)? else { return Ok(()) };
    let beside = beside(&path);
    let replaced = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path));
    if replaced.is_err() {
        let _ = fs::remove_file(&beside);
    }
    replaced.map_err(words)
}

/// The file that has the name, made if need be, and locked.
#[cfg(feature = "ci")]
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mine = file.metadata()?;
        if !mine.is_file() {
            return Err(io::Error::other("a whole document needs a regular file"));
        }
        file.lock()?;
        let named = fs::metadata(path).ok().map(|named| (named.dev(), named.ino()));
        if named == Some((mine.dev(), mine.ino())) {
            return Ok(file);
        }
    }
}

/// In the same folder, so that it can take the other's place. Only who has the lock writes one.
#[cfg(feature = "ci")]
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
