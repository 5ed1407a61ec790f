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

/// Links that are followed, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Why a device or a stream is refused.
pub const NOT_REGULAR: &str = "a whole document needs a regular file";

/// Where a document goes.
#[derive(Clone, Debug)]
pub struct AtomicFile {
    path: PathBuf,
}

impl AtomicFile {
    /// For a path; a link to a file stays one.
    pub fn at(path: &Path) -> AtomicFile {
        AtomicFile { path: resolved(path) }
    }

    /// Where it is, behind all links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tries whether it can be replaced. Nothing is left of that.
    ///
    /// # Errors
    /// It cannot: it is no regular file, or its folder takes no new one.
    pub fn attempt(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(is) if is.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(is) if !is.is_file() => {
                return Err(io::Error::other(NOT_REGULAR));
            }
            Ok(_) | Err(_) => {}
        }
        let beside = self.beside();
        OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        fs::remove_file(&beside)
    }

    /// Has `write` write the document to a file beside it, which then takes its name.
    ///
    /// # Errors
    /// What `write` says, or the system call; the old document stays.
    pub fn replace(&self, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let beside = self.beside();
        let replaced = write(&beside).and_then(|()| {
            if let Ok(old) = fs::metadata(&self.path) {
                // The mode of a new file is better than no document.
                let _ = fs::set_permissions(&beside, old.permissions());
            }
            fs::rename(&beside, &self.path)
        });
        if replaced.is_err() {
            let _ = fs::remove_file(&beside);
        }
        replaced
    }

    /// In the same folder, so that it can take the other's place; of this process alone.
    fn beside(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        PathBuf::from(name)
    }
}

/// A path without links, also where the last one leads to no file yet.
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
        let failed = file.replace(|beside| {
            fs::write(beside, "half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&real).unwrap(), "old");
        file.replace(|beside| fs::write(beside, "new")).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left beside it");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_replaced_is_known_before() {
        let folder = folder("attempt");
        assert!(AtomicFile::at(&folder).attempt().is_err(), "a folder");
        assert!(AtomicFile::at(&folder.join("no/such")).attempt().is_err(), "no folder");
        assert!(AtomicFile::at(Path::new("/dev/null")).attempt().is_err(), "a device");
        AtomicFile::at(&folder.join("new")).attempt().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_link_that_leads_nowhere_yet_is_followed() {
        let folder = folder("dangling");
        std::os::unix::fs::symlink("later", folder.join("link")).unwrap();
        let whole = fs::canonicalize(&folder).unwrap();
        assert_eq!(resolved(&folder.join("link")), whole.join("later"));
        assert_eq!(resolved(&folder.join("./new")), whole.join("new"));
        fs::remove_dir_all(folder).unwrap();
    }
}
