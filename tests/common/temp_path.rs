//! Paths below the folder for temporary files, removed when the test ends.

use std::ffi::OsStr;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A path that no other test uses. Nothing exists there at first. A file, socket or folder that
/// exists there on drop is removed.
pub struct TempPath(PathBuf);

impl TempPath {
    pub fn new(name: &str) -> TempPath {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("echown-{}-{number}-{name}", std::process::id());
        TempPath(std::env::temp_dir().join(name))
    }

    /// Creates a folder at the path.
    pub fn folder(name: &str) -> TempPath {
        let path = TempPath::new(name);
        fs::create_dir(&path).expect("the folder for temporary files can be written to");
        path
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("the name is plain text")
    }
}

impl Deref for TempPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for TempPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<OsStr> for TempPath {
    fn as_ref(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        // Most tests remove the files that they make, and then nothing is left.
        let _ =
            if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
    }
}
