//! The files with code of the traced processes: their identities, tables of call frames and cached
//! facts about addresses.
//!
//! A file is known by device, inode and time of modification, and is read when the first stack has a
//! frame in it. All processes share what is known about a file, wherever it is mapped.
//!
//! Limits: a file's tables have at most 64 MiB each, what is read of all files whole 1 GiB. A file that
//! cannot be read or exceeds a limit has no tables: stacks through it are guessed, and [`Files::notes`]
//! names it. At most 128 files stay open for the names of functions. For their tables at most 256 do, or a
//! quarter of what this process may open; those of further files, and of files on devices that the
//! command may want to unmount, are read whole.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::process::{Resource, getrlimit};

use self::elf::{Elf, Loaded, Part, Source};
use self::maps::MapsLine;
use self::tables::{Entry, Table};
use crate::stack::{Module, ModuleId, Stacks};

pub(crate) mod elf;
mod entries;
mod maps;
pub(crate) mod space;
pub(crate) mod tables;

/// The maximum size of the tables of all files.
const TABLES_MAX: usize = 1 << 30;

/// The maximum number of addresses of a file about which facts are kept.
const FACTS_MAX: usize = 1 << 16;

/// Folders whose files are replaced rarely, so that they are not looked up for each process.
const SYSTEM_FOLDERS: [&[u8]; 3] = [b"/usr/", b"/lib", b"/opt/"];

/// How long a file of the system is taken for the same without a look at it.
const RECENT: Duration = Duration::from_secs(5);

/// The size of the function at a program's entry, in which it calls the first function that returns.
const START_SIZE: u64 = 64;

/// The maximum number of files that are kept open.
const KEPT_MAX: usize = 128;

/// The maximum number of files that stay open for their tables.
const OPEN_MAX: usize = 256;

/// What this process holds: the root, its working directory and its program.
const HELD_PATHS: [&str; 3] = ["/", ".", "/proc/self/exe"];

/// The maximum number of notes.
const NOTES_MAX: usize = 32;

/// The number of a file in [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileNumber(u32);

/// All files.
pub(crate) struct Files {
    files: Vec<CodeFile>,
    numbers: FxHashMap<((u64, u64), i64), FileNumber>,
    /// When the files of the system were looked up last.
    recent: FxHashMap<(u64, u64), (Instant, FileNumber)>,
    /// Files outside of the system's folders, which may be deleted before the report: `go run` deletes
    /// its program. See [`Files::take_kept`].
    kept: Vec<(FileNumber, Arc<File>)>,
    kept_count: usize,
    /// How many more files may stay open for their tables.
    open_left: usize,
    /// The devices of which this process holds files in any case. A file of another one that stays open
    /// would keep the command from unmounting it.
    held_devices: Vec<u64>,
    size: usize,
    notes: Vec<String>,
}

/// A file with code.
pub(crate) struct CodeFile {
    /// Its identity and path.
    pub(crate) module: Module,
    id: Option<ModuleId>,
    state: State,
    /// By offset in the file.
    facts: FxHashMap<u64, Facts>,
    /// Whether a call precedes an offset in the file.
    pub(crate) calls: FxHashMap<u64, bool>,
}

enum State {
    /// No stack has a frame in it so far.
    New,
    Read(Box<Code>),
    Unreadable,
}

/// What unwinding needs of a file.
struct Code {
    elf: Elf,
    tables: Vec<Table>,
}

/// What is known about an offset in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The address that the file states for it.
    pub(crate) address: u64,
    /// The table that describes it, and how.
    pub(crate) entry: Option<(u8, Entry)>,
    /// Whether it is in the first function of the program or the dynamic linker, which has no caller.
    pub(crate) is_start: bool,
    /// Whether its code keeps frame pointers, as far as its compiler is known.
    pub(crate) has_pointers: bool,
}

impl Default for Files {
    fn default() -> Files {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Files {
            files: Vec::new(),
            numbers: FxHashMap::default(),
            recent: FxHashMap::default(),
            kept: Vec::new(),
            kept_count: 0,
            open_left: OPEN_MAX.min(limit / 4),
            held_devices: HELD_PATHS.iter().filter_map(|path| device(path)).collect(),
            size: 0,
            notes: Vec::new(),
        }
    }
}

impl Files {
    /// The number of the file of a mapping; none for code without a file.
    fn number(&mut self, process: i32, line: &MapsLine<'_>) -> Option<FileNumber> {
        if line.identity == (0, 0) {
            return None;
        }
        let is_system = is_of_system(line.path);
        if is_system && let Some((checked, number)) = self.recent.get(&line.identity) {
            let is_same = self.get(*number).module.path.as_bytes() == line.path;
            if is_same && checked.elapsed() < RECENT {
                return Some(*number);
            }
        }
        let number = self.number_by_stat(process, line)?;
        if is_system {
            self.recent.insert(line.identity, (Instant::now(), number));
        }
        Some(number)
    }

    fn number_by_stat(&mut self, process: i32, line: &MapsLine<'_>) -> Option<FileNumber> {
        let candidates = paths(process, line);
        let stat = candidates.iter().find_map(|path| {
            let stat = rustix::fs::stat(path).ok()?;
            is_file(&stat, line.identity).then_some(stat)
        });
        let modified_ns = stat.map_or(0, |stat| modified_ns(&stat));
        let key = (line.identity, modified_ns);
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        let number = FileNumber(u32::try_from(self.files.len()).ok()?);
        let path = String::from_utf8_lossy(line.path).into_owned();
        self.files.push(CodeFile {
            module: Module { identity: line.identity, modified_ns, path },
            id: None,
            state: State::New,
            facts: FxHashMap::default(),
            calls: FxHashMap::default(),
        });
        self.numbers.insert(key, number);
        Some(number)
    }

    pub(crate) fn get(&self, number: FileNumber) -> &CodeFile {
        &self.files[number.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, number: FileNumber) -> &mut CodeFile {
        &mut self.files[number.0 as usize]
    }

    /// The number of a file in the stored stacks.
    pub(crate) fn id(&mut self, number: FileNumber, stacks: &mut Stacks) -> ModuleId {
        let file = self.get_mut(number);
        *file.id.get_or_insert_with(|| stacks.module(file.module.clone()))
    }

    /// What is known about an offset in a file. The file is read when it is the first one; `process`
    /// has mapped it at `start`.
    pub(crate) fn facts(
        &mut self,
        number: FileNumber,
        offset: u64,
        process: i32,
        range: &std::ops::Range<u64>,
    ) -> Option<Facts> {
        if let Some(facts) = self.get(number).facts.get(&offset) {
            return Some(*facts);
        }
        if matches!(self.get(number).state, State::New) {
            self.load(number, process, range);
        }
        let file = self.get_mut(number);
        let State::Read(code) = &mut file.state else { return None };
        let address = code.elf.address(offset)?;
        let mut tables = (0u8..).zip(&mut code.tables);
        let entry = tables.find_map(|(table, it)| Some((table, it.entry(address)?)));
        let from_start = address.checked_sub(code.elf.entry);
        let facts = Facts {
            address,
            entry,
            is_start: entry.is_none() && from_start.is_some_and(|it| it < START_SIZE),
            has_pointers: code.elf.is_go,
        };
        if file.facts.len() >= FACTS_MAX {
            file.facts.clear();
        }
        file.facts.insert(offset, facts);
        Some(facts)
    }

    /// A table of a file.
    pub(crate) fn table(&mut self, number: FileNumber, table: u8) -> Option<&mut Table> {
        match &mut self.get_mut(number).state {
            State::Read(code) => code.tables.get_mut(usize::from(table)),
            State::New | State::Unreadable => None,
        }
    }

    /// The files that were read since the last call and are to be kept open for their names.
    pub(crate) fn take_kept(&mut self) -> Vec<(FileNumber, Arc<File>)> {
        std::mem::take(&mut self.kept)
    }

    /// Which files could not be read, and why. Escaped.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn load(&mut self, number: FileNumber, process: i32, range: &std::ops::Range<u64>) {
        let module = &self.get(number).module;
        let is_system = is_of_system(module.path.as_bytes());
        let result = match open(process, module, range) {
            Some(file) => self.read(number, Arc::new(file), is_system),
            None => Err(String::from("it could not be opened, or another file is there now")),
        };
        let state = match result {
            Ok(code) => State::Read(Box::new(code)),
            Err(reason) => {
                if self.notes.len() < NOTES_MAX {
                    let path = echown_fd::escape::bytes(self.get(number).module.path.as_bytes());
                    self.notes.push(format!("failed to read {path} for stacks: {reason}"));
                }
                State::Unreadable
            }
        };
        self.get_mut(number).state = state;
    }

    fn read(
        &mut self,
        number: FileNumber,
        file: Arc<File>,
        is_system: bool,
    ) -> Result<Code, String> {
        let mut elf = Elf::read(&*file).map_err(|error| error.to_string())?;
        if !is_system && self.kept_count < KEPT_MAX {
            self.kept_count += 1;
            self.kept.push((number, Arc::clone(&file)));
        }
        let is_held = |it: Stat| self.held_devices.contains(&it.st_dev);
        let may_stay = self.open_left > 0 && rustix::fs::fstat(&file).is_ok_and(is_held);
        let source: Arc<dyn Source> = if may_stay {
            self.open_left -= 1;
            file
        } else {
            let parts: Vec<Part> = elf.eh_frame.into_iter().chain(elf.eh_frame_hdr).collect();
            self.size += parts.iter().map(|part| part.size as usize).sum::<usize>();
            Arc::new(Loaded::new(&*file, &parts).ok_or("its table of call frames is damaged")?)
        };
        let tables = tables::tables(&elf, &source);
        elf.debug_frame = None;
        self.size += tables.iter().map(Table::size).sum::<usize>();
        if self.size > TABLES_MAX {
            return Err(String::from("the tables of all programs exceed 1 GiB"));
        }
        Ok(Code { elf, tables })
    }
}

fn is_of_system(path: &[u8]) -> bool {
    SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// Where a mapped file may be found: by the mapping itself, which needs a privilege, and by its path as
/// the process sees it.
fn paths(process: i32, line: &MapsLine<'_>) -> [PathBuf; 2] {
    [
        in_root(process, line.path),
        PathBuf::from(format!("/proc/{process}/map_files/{:x}-{:x}", line.start, line.end)),
    ]
}

fn in_root(process: i32, path: &[u8]) -> PathBuf {
    let mut full = PathBuf::from(format!("/proc/{process}/root"));
    let path = path.strip_prefix(b"/").unwrap_or(path);
    full.push(std::ffi::OsStr::from_bytes(path));
    full
}

/// Opens the file that a process has mapped, and no other: the path may be a symbolic link, a pipe or
/// another file by now.
fn open(process: i32, module: &Module, range: &std::ops::Range<u64>) -> Option<File> {
    let mapped = format!("/proc/{process}/map_files/{:x}-{:x}", range.start, range.end);
    let by_path = in_root(process, module.path.as_bytes());
    let program = format!("/proc/{process}/exe");
    let paths = [Path::new(&mapped), &by_path, Path::new(&program)];
    paths.into_iter().find_map(|path| open_if(path, module))
}

/// Opens a file if it is the one that is meant.
pub(crate) fn open_if(path: &Path, module: &Module) -> Option<File> {
    // Without NONBLOCK, the open of a pipe waits for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_same = is_file(&stat, module.identity)
        && (module.modified_ns == 0 || module.modified_ns == modified_ns(&stat));
    is_same.then(|| File::from(file))
}

/// Whether it is the regular file of an identity. The device is not compared: for overlay and btrfs,
/// `/proc/PID/maps` and `stat` show different ones.
fn is_file(stat: &Stat, identity: (u64, u64)) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_ino == identity.1
}

fn device(path: &str) -> Option<u64> {
    Some(rustix::fs::stat(path).ok()?.st_dev)
}

fn modified_ns(stat: &Stat) -> i64 {
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64)
}

#[cfg(test)]
mod tests;
