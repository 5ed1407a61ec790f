//! Finds the Python interpreter of a process: in its executable, or in a library that it maps.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::image::Image;
use super::layout::{self, Layout};
use super::memory::{Memory, word};

/// The number of files whose content is remembered.
const FILES_MAX: usize = 4096;

/// The largest list of mappings that is read, in bytes: about 100,000 mappings.
const MAPS_MAX: usize = 8 << 20;

/// An interpreter in the memory of a process.
#[derive(Clone, Debug)]
pub(super) struct Interpreter {
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// Where the fields are.
    pub layout: Rc<Layout>,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub(super) enum Located {
    /// It is there.
    Found(Interpreter),
    /// The version is not supported.
    Unsupported,
    /// There is none yet. It is likely to come if the program needs a library of Python.
    Missing { is_expected: bool },
}

/// A file by device, inode, size and time of change.
type FileKey = (u64, u64, u64, i64, i64);

/// What is known about files.
#[derive(Debug, Default)]
pub(super) struct Images(FxHashMap<FileKey, Rc<Image>>);

/// A part of a file that a process has mapped.
struct Mapping<'text> {
    start: u64,
    end: u64,
    offset: u64,
    inode: u64,
    path: &'text str,
}

impl Images {
    /// Searches the executable, and then the mapped libraries.
    pub(super) fn locate(&mut self, process: i32, memory: &mut dyn Memory) -> Located {
        let Ok(file) = File::open(format!("/proc/{process}/exe")) else {
            return Located::Missing { is_expected: false };
        };
        let Some((image, inode)) = self.image(&file) else {
            return Located::Missing { is_expected: false };
        };
        let mut is_expected = image.needs_library;
        let maps = read_maps(process).unwrap_or_default();
        for mapping in maps.lines().filter_map(Mapping::parse) {
            let is_program = mapping.inode == inode;
            let image = if is_program {
                // A program that loads programs, such as `ld.so python3`, is rare but possible.
                is_expected |= file_name(mapping.path).starts_with("ld-");
                Some(Rc::clone(&image))
            } else if is_python(file_name(mapping.path)) {
                self.mapped(process, &mapping)
            } else {
                None
            };
            let Some(image) = image else { continue };
            is_expected |= image.needs_library;
            let bias = image.bias(mapping.start, mapping.offset);
            let (Some(bias), Some(runtime)) = (bias, image.runtime) else { continue };
            let runtime = runtime.wrapping_add(bias);
            let version = image.version.map(|version| version.wrapping_add(bias));
            return match layout_of(runtime, version, mapping.path, memory) {
                Some(layout) => Located::Found(Interpreter { runtime, layout: Rc::new(layout) }),
                None => Located::Unsupported,
            };
        }
        Located::Missing { is_expected }
    }

    /// The content of a mapped file.
    fn mapped(&mut self, process: i32, mapping: &Mapping<'_>) -> Option<Rc<Image>> {
        // The mapping itself needs a privilege; a path can lead elsewhere by now, which the inode shows.
        // What is read is compared with the memory of the process, too, by the version.
        let range = format!("/proc/{process}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        let path = format!("/proc/{process}/root{}", mapping.path);
        [range, path].iter().find_map(|path| {
            let file = open_regular(path)?;
            let (image, inode) = self.image(&file)?;
            (inode == mapping.inode).then_some(image)
        })
    }

    /// The content and the inode of an open file.
    fn image(&mut self, file: &File) -> Option<(Rc<Image>, u64)> {
        let facts = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let key = (facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec());
        if let Some(image) = self.0.get(&key) {
            return Some((Rc::clone(image), facts.ino()));
        }
        if self.0.len() >= FILES_MAX {
            self.0.clear();
        }
        let image = Rc::new(Image::read(file).unwrap_or_default());
        self.0.insert(key, Rc::clone(&image));
        Some((image, facts.ino()))
    }
}

/// Opens a regular file. A pipe or a device in its place is not waited for.
fn open_regular(path: &str) -> Option<File> {
    let is_file = fs::metadata(path).is_ok_and(|facts| facts.is_file());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    is_file.then(|| OpenOptions::new().read(true).custom_flags(flags).open(path).ok())?
}

/// The process's mappings as text. Their paths are what the process calls them.
fn read_maps(process: i32) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{process}/maps")).ok()?;
    file.take(MAPS_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

impl Mapping<'_> {
    /// Parses `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`; `None` if it has no path.
    fn parse(line: &str) -> Option<Mapping<'_>> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let mut fields = rest.splitn(5, ' ');
        let offset = fields.nth(1)?;
        let inode = fields.nth(1)?;
        let path = fields.next()?.trim_start();
        let number = |text| u64::from_str_radix(text, 16).ok();
        let inode = inode.parse().ok()?;
        let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
        path.starts_with('/').then_some(Mapping { start, end, offset, inode, path })
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a file of this name may contain the interpreter: `python3.11`, `libpython3.11.so.1.0`.
pub(super) fn is_python(name: &str) -> bool {
    name.starts_with("libpython3.") || name.starts_with("python3")
}

/// The layout that belongs to the version of the interpreter.
fn layout_of(
    runtime: u64,
    version: Option<u64>,
    path: &str,
    memory: &mut dyn Memory,
) -> Option<Layout> {
    if layout::states_layout(memory, runtime) {
        return layout::stated(memory, runtime);
    }
    let minor = match version.and_then(|address| word(memory, address)) {
        // `PY_VERSION_HEX`: a byte each for 3, 11, the patch level.
        Some(version) if version >> 24 == 3 => version >> 16 & 0xff,
        Some(_) => return None,
        None => minor_in_name(file_name(path))?,
    };
    match minor {
        11 => Some(layout::PYTHON_3_11),
        12 => Some(layout::PYTHON_3_12),
        _ => None,
    }
}

/// The number behind `python3.`.
fn minor_in_name(name: &str) -> Option<u64> {
    let (_, rest) = name.split_once("python3.")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_parsed_and_one_without_a_path_is_not() {
        let line = "7f00-7fff r-xp 00001000 fd:01 1234      /usr/lib/lib python3.so (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x7f00, 0x7fff, 0x1000));
        assert_eq!((mapping.inode, mapping.path), (1234, "/usr/lib/lib python3.so (deleted)"));
        for line in ["", "7f00-7fff rw-p 0 00:00 0", "7f00-7fff rw-p 0 00:00 0    [heap]", "x"] {
            assert!(Mapping::parse(line).is_none());
        }
    }

    #[test]
    fn the_version_is_read_from_the_name_of_a_library() {
        assert_eq!(minor_in_name("libpython3.12d.so.1.0"), Some(12));
        assert_eq!(minor_in_name("python3.11"), Some(11));
        assert_eq!(minor_in_name("python3"), None);
        assert_eq!(minor_in_name("python3."), None);
    }
}
