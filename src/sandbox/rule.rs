//! Rules: which files and folders the process may still use, and for what.
//!
//! Rules are made from paths before anything is restricted. A path that does not exist needs no rule: what
//! is not there cannot be used, before or after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use echown_fd::escape;

use crate::report::Sources;
use crate::report::atomic_file::resolved;

/// Separate debug symbols, where distributions install them.
const DEBUG_SYMBOLS: &str = "/usr/lib/debug";

/// The C library's allocator reads it when threads compete, and otherwise assumes two processors.
const PROCESSORS: &str = "/sys/devices/system/cpu/online";

/// What is allowed with a file, or with everything in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Create files, and write to them.
    Write,
    /// [`Write`](Access::Write), rename and remove files.
    Replace,
    /// Remove files.
    Remove,
    /// Read files, and list folders.
    Read,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(super) access: Access,
    pub(super) path: PathBuf,
    /// The name of several files that belong together, for the log.
    pub(super) group: Option<&'static str>,
}

impl Rule {
    /// An output file: its folder, in which it may be created again after a rotation. A device is not
    /// rotated, and its folder is `/dev`, so the rule is for the device alone.
    pub(crate) fn output(path: &Path, access: Access) -> Rule {
        let path = resolved(path);
        if is_device(&path) {
            return Rule { access: Access::Write, path, group: None };
        }
        Rule { access, path: folder(&path), group: None }
    }

    /// A Unix socket's file, which is removed at exit.
    pub(crate) fn removal(path: &Path) -> Rule {
        Rule { access: Access::Remove, path: folder(&resolved(path)), group: None }
    }

    pub(super) fn reads(path: impl Into<PathBuf>) -> Rule {
        Rule { access: Access::Read, path: path.into(), group: None }
    }

    /// What the program reads about itself: the limits of its control groups, the symbols for backtraces,
    /// and its own sources, which annotated reports show.
    pub(crate) fn own_files() -> Vec<Rule> {
        let of = |group, paths: Vec<PathBuf>| {
            paths.into_iter().map(move |path| Rule { group, ..Rule::reads(path) })
        };
        let mut rules: Vec<Rule> = of(None, echown_limits::control_groups()).collect();
        rules.extend(of(None, vec![PathBuf::from(PROCESSORS)]));
        rules.extend(of(Some("the program and its libraries"), program_files()));
        rules.extend(of(None, vec![PathBuf::from(DEBUG_SYMBOLS)]));
        rules.extend(of(Some("its sources"), source_folders()));
        rules
    }

    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// What the log calls it.
    pub(super) fn name(&self) -> String {
        self.group.map_or_else(|| escape::path(&self.path).into_owned(), str::to_owned)
    }
}

/// The folder of a resolved path.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path)
        .is_ok_and(|file| file.file_type().is_char_device() || file.file_type().is_block_device())
}

/// The files that are mapped into this process: it can read them in memory anyway, and a backtrace opens
/// them for their symbols. Next to the program there may be a file with its symbols.
fn program_files() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files = mapped_files(&maps);
    if let Ok(program) = std::env::current_exe() {
        let mut symbols = program.clone().into_os_string();
        symbols.push(".debug");
        files.insert(symbols.into());
        files.insert(program);
    }
    files.into_iter().collect()
}

/// The files in the text of `/proc/self/maps`.
fn mapped_files(maps: &str) -> BTreeSet<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| path);
    let paths = paths.filter(|path| !path.ends_with(" (deleted)"));
    paths.map(|path| Path::new("/").join(path)).collect()
}

/// The folders with the sources that this program was built from, where they still are.
fn source_folders() -> Vec<PathBuf> {
    match Sources::root_of(file!()) {
        Some(root) => vec![root.join("src"), root.join("crates")],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_may_be_created_again_in_its_folder_and_a_device_stays_alone() {
        let temp = fs::canonicalize(std::env::temp_dir()).unwrap();
        let rule = Rule::output(&temp.join("new.log"), Access::Write);
        assert_eq!((rule.access, rule.path), (Access::Write, temp));
        let device = Rule::output(Path::new("/dev/null"), Access::Replace);
        assert_eq!((device.access, device.path), (Access::Write, PathBuf::from("/dev/null")));
        let here = Rule::output(Path::new("new.log"), Access::Replace);
        assert_eq!(here.path, std::env::current_dir().unwrap());
        assert_eq!(Rule::removal(Path::new("/run/socket")).access, Access::Remove);
    }

    #[test]
    fn an_output_that_is_a_link_stays_writable_where_it_leads() {
        let folder = std::env::temp_dir().join(format!("echown-{}-rule", std::process::id()));
        fs::create_dir_all(folder.join("logs")).unwrap();
        std::os::unix::fs::symlink("logs/today", folder.join("current")).unwrap();
        let rule = Rule::output(&folder.join("current"), Access::Write);
        assert_eq!(rule.path, fs::canonicalize(folder.join("logs")).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn mapped_files_are_found_and_memory_and_deleted_files_are_not() {
        let maps = "55d0-55d1 r--p 00000000 fe:00 12 /usr/bin/a program\n\
                    55d1-55d2 r-xp 00001000 fe:00 12 /usr/bin/a program\n\
                    55d2-55d3 r-xp 00001000 fe:00 12 /usr/lib/old.so (deleted)\n\
                    7f00-7f01 rw-p 00000000 00:00 0 [heap]\n\
                    7f01-7f02 rw-p 00000000 00:00 0\n";
        assert_eq!(mapped_files(maps), BTreeSet::from(["/usr/bin/a program".into()]));
    }

    #[test]
    fn this_program_and_its_sources_are_among_its_own_files() {
        let rules = Rule::own_files();
        let has = |path: &Path| rules.iter().any(|rule| rule.path == path);
        assert!(has(&std::env::current_exe().unwrap()));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(has(&root.join("src")), "{rules:#?}");
        assert!(rules.iter().all(|rule| rule.access == Access::Read));
    }
}
