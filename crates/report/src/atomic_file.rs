//! A document that is replaced as a whole: tested before the work, written at its end.
//!
//! The new document is written to a temporary file in the same folder, which is then renamed. So a
//! reader always finds a complete document, the old one or the new one, even if this process is
//! killed. Until then, the old one is unchanged.
//!
//! # Limits
//!
//! The folder must accept a new file: a document that could only be overwritten in place is
//! rejected. The owner of the old file and its other names (hard links) are not preserved; its mode
//! is.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The maximum number of symbolic links that are followed; the kernel's limit.
const LINKS_MAX: usize = 40;

/// The error message for a device or a stream.
pub const NOT_REGULAR: &str = "a whole document needs a regular file";

/// The destination of a document.
#[derive(Clone, Debug)]
pub struct AtomicFile {
    path: PathBuf,
}

impl AtomicFile {
    /// The document at `path`. A symbolic link to a file stays a symbolic link.
    pub fn at(path: &Path) -> AtomicFile {
        AtomicFile { path: resolved(path) }
    }

    /// The path of the document, with all symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the document can be replaced. The check leaves no file behind.
    ///
    /// # Errors
    /// The path is not a regular file, or its folder does not accept a new file.
    pub fn attempt(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                return Err(io::Error::other(NOT_REGULAR));
            }
            Ok(_) | Err(_) => {}
        }
        let temporary = self.temporary();
        OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        fs::remove_file(&temporary)
    }

    /// Calls `write` with the path of a temporary file in the same folder, then renames that file
    /// to the document's path. Returns the result of `write`.
    ///
    /// # Errors
    /// The error of `write` or of a system call; the old document stays.
    pub fn replace<T>(&self, write: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let temporary = self.temporary();
        let replaced = write(&temporary).and_then(|written| {
            if let Ok(old) = fs::metadata(&self.path) {
                // A document with the default mode is better than no document.
                let _ = fs::set_permissions(&temporary, old.permissions());
            }
            fs::rename(&temporary, &self.path)?;
            Ok(written)
        });
        if replaced.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        replaced
    }

    /// The temporary file: in the same folder, so that a rename is possible, with this process's id
    /// in its name.
    fn temporary(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        PathBuf::from(name)
    }
}

/// The path with all symbolic links resolved, even if the last one points to a missing file.
pub fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Ok(whole) = fs::canonicalize(&path) {
            return whole;
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let folder = fs::canonicalize(&folder).unwrap_or(folder);
        match (fs::read_link(&path), path.file_name()) {
            (Ok(target), _) => path = folder.join(target),
            (Err(_), Some(name)) => return folder.join(name),
            (Err(_), None) => return path,
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("echown-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_document_keeps_its_mode_its_link_and_its_old_text_until_the_end() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = folder("atomic");
        let (real, link) = (folder.join("real"), folder.join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("real", &link).unwrap();
        let file = AtomicFile::at(&link);
        file.attempt().unwrap();
        let failed = file.replace::<()>(|temporary| {
            fs::write(temporary, "half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&real).unwrap(), "old");
        file.replace(|temporary| fs::write(temporary, "new")).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no temporary file is left");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn attempt_fails_where_replace_would_fail() {
        let folder = folder("attempt");
        assert!(AtomicFile::at(&folder).attempt().is_err(), "a folder");
        assert!(AtomicFile::at(&folder.join("no/such")).attempt().is_err(), "no folder");
        assert!(AtomicFile::at(Path::new("/dev/null")).attempt().is_err(), "a device");
        AtomicFile::at(&folder.join("new")).attempt().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_dangling_link_is_followed() {
        let folder = folder("dangling");
        std::os::unix::fs::symlink("later", folder.join("link")).unwrap();
        let whole = fs::canonicalize(&folder).unwrap();
        assert_eq!(resolved(&folder.join("link")), whole.join("later"));
        assert_eq!(resolved(&folder.join("./new")), whole.join("new"));
        fs::remove_dir_all(folder).unwrap();
    }
}
