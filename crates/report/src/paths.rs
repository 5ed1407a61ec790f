//! Paths of sources for readers elsewhere: relative to the top of the repository.
//!
//! The compiler writes a path relative to where it ran (the root of the package or workspace), or
//! an absolute one. Tools that show findings next to the code, such as a code host, need paths
//! relative to the top of the repository. That is the folder that contains `.git`, above the
//! working directory or the program, or `GITHUB_WORKSPACE`. Sources of dependencies keep the part
//! of their path that is the same on every machine. No file is opened for this.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use echown_fd::escape;

use super::sources;

/// The path of a source file relative to the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) path: String,
    /// Whether the file is in the repository and the path is relative to its top.
    pub(super) is_inside: bool,
}

/// Converts a path that the compiler wrote.
pub(super) fn shown(file: &str) -> Shown {
    static KNOWN: LazyLock<Mutex<HashMap<String, Shown>>> = LazyLock::new(Mutex::default);
    static PLACES: LazyLock<Places> = LazyLock::new(Places::of_this_process);
    if let Some(shown) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(file) {
        return shown.clone();
    }
    let mut shown = PLACES.show(file);
    shown.path = escape::text(&shown.path).into_owned();
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), shown.clone());
    shown
}

struct Places {
    /// The folders in which the compiler may have run.
    roots: Vec<PathBuf>,
    top: Option<PathBuf>,
    exists: fn(&Path) -> bool,
}

impl Places {
    fn of_this_process() -> Places {
        let roots = sources::roots();
        let directory = env::current_dir().unwrap_or_default();
        let workspace = env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
        let workspace = workspace.filter(|top| directory.starts_with(top));
        let above = directory.ancestors().chain(roots.iter().map(PathBuf::as_path));
        let with_git = above.filter(|place| place.join(".git").exists()).map(Path::to_path_buf);
        let top = workspace.or_else(|| with_git.into_iter().next());
        Places { roots, top, exists: |path| path.exists() }
    }

    fn show(&self, file: &str) -> Shown {
        let path = Path::new(file);
        // Code in no file: Python's `<string>` and `<stdin>`.
        if file.starts_with('<') {
            return Shown { path: file.to_owned(), is_inside: false };
        }
        let inside = |path: &Path| {
            let below = path.strip_prefix(self.top.as_deref()?).ok()?;
            Some(Shown { path: below.to_string_lossy().into_owned(), is_inside: true })
        };
        if path.is_absolute() {
            let of_dependency =
                of_dependency(file).map(|path| Shown { path: path.to_owned(), is_inside: false });
            let as_it_is = || Shown { path: file.to_owned(), is_inside: false };
            return of_dependency.or_else(|| inside(path)).unwrap_or_else(as_it_is);
        }
        let whole =
            self.roots.iter().map(|root| root.join(path)).find(|whole| (self.exists)(whole));
        // If the sources are not available, assume that the compiler ran at the top.
        let as_it_is = Shown { path: file.to_owned(), is_inside: true };
        whole.and_then(|whole| inside(&whole)).unwrap_or(as_it_is)
    }
}

/// A path in a registry's cache or in the standard library without its machine-specific part:
/// `serde-1.0.0/src/lib.rs`.
fn of_dependency(file: &str) -> Option<&str> {
    ["/registry/src/", "/git/checkouts/", "/rustc/"].iter().find_map(|place| {
        let (_, below) = file.split_once(place)?;
        // Removes the name of the registry, checkout or toolchain.
        below.split_once('/').map(|(_, path)| path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(top: Option<&str>) -> Places {
        let roots = vec![PathBuf::from("/home/a/repository/service"), PathBuf::from("/elsewhere")];
        let exists = |path: &Path| path.starts_with("/home/a/repository/service/src");
        Places { roots, top: top.map(PathBuf::from), exists }
    }

    #[test]
    fn a_path_counts_from_the_top_of_the_repository() {
        let places = places(Some("/home/a/repository"));
        for (file, path, is_inside) in [
            ("src/main.rs", "service/src/main.rs", true),
            ("gone/main.rs", "gone/main.rs", true),
            ("/home/a/repository/other/lib.rs", "other/lib.rs", true),
            ("/home/a/.cargo/registry/src/index-1/x-1.0/src/lib.rs", "x-1.0/src/lib.rs", false),
            ("/rustc/0123/library/std/src/net.rs", "library/std/src/net.rs", false),
            ("/opt/generated.rs", "/opt/generated.rs", false),
            ("<string>", "<string>", false),
        ] {
            assert_eq!(places.show(file), Shown { path: path.to_owned(), is_inside }, "{file}");
        }
    }

    #[test]
    fn without_a_repository_a_path_is_as_the_compiler_wrote_it() {
        assert_eq!(places(None).show("src/main.rs").path, "src/main.rs");
    }
}
