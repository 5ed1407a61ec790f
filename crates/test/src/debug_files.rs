//! Debug information in files of its own: `split-debuginfo = "unpacked"` (`.dwo`) and `"packed"`
//! (`.dwp`), and the debug files of stripped binaries, which a build id or a debug link names.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use addr2line::SplitDwarfLoad;
use addr2line::gimli::{Dwarf, DwarfPackage, EndianSlice, RunTimeEndian, SectionId};
use object::read::elf::ElfFile64;
use object::{CompressionFormat, Object, ObjectSection, ReadCache};

/// Where distributions put debug files.
const DEBUG_FOLDER: &str = "/usr/lib/debug";

pub(super) type Slice = EndianSlice<'static, RunTimeEndian>;

pub(super) type Elf = ElfFile64<'static, object::Endianness, &'static ReadCache<File>>;

/// Opens a file. Its data stays in memory until the process ends.
pub(super) fn open(path: &Path) -> Option<Elf> {
    let cache: &'static ReadCache<File> =
        Box::leak(Box::new(ReadCache::new(File::open(path).ok()?)));
    ElfFile64::parse(cache).ok()
}

/// The DWARF sections of a file. A compressed section counts as missing.
pub(super) fn dwarf(file: &Elf) -> Option<Dwarf<Slice>> {
    Dwarf::load(|id| Ok::<Slice, ()>(section(file, id.name()))).ok()
}

/// Whether a file has uncompressed debug information.
pub(super) fn has_debug_info(file: &Elf) -> bool {
    !section(file, SectionId::DebugInfo.name()).is_empty()
}

/// The debug file of a binary that was stripped.
pub(super) fn of_stripped(path: &Path, file: &Elf) -> Option<Elf> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Ok(Some([first, rest @ ..])) = file.build_id() {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        candidates.push(format!("{DEBUG_FOLDER}/.build-id/{first:02x}/{rest}.debug").into());
    }
    let folder = path.parent()?;
    if let Ok(Some((name, _))) = file.gnu_debuglink() {
        let name = Path::new(OsStr::from_bytes(name));
        candidates.push(folder.join(name));
        candidates.push(folder.join(".debug").join(name));
        let below_root = folder.strip_prefix("/").unwrap_or(folder);
        candidates.push(Path::new(DEBUG_FOLDER).join(below_root).join(name));
    }
    let candidates = candidates.iter().filter(|candidate| *candidate != path);
    candidates.filter_map(|path| open(path)).find(has_debug_info)
}

/// The part of a program's debug information that the compiler put into a file of its own.
pub(super) fn split(load: &SplitDwarfLoad<Slice>, program: &Path) -> Option<Arc<Dwarf<Slice>>> {
    let text =
        |slice: &Option<Slice>| slice.map(|slice| PathBuf::from(OsStr::from_bytes(slice.slice())));
    let name = text(&load.path)?;
    let at = text(&load.comp_dir).unwrap_or_default().join(&name);
    // The files may have moved along with the program.
    let near = program.with_file_name(name.file_name()?);
    let dwo = [at, near].iter().find_map(|path| open(path)).and_then(|file| {
        let name = |id: SectionId| id.dwo_name().unwrap_or_default();
        let mut dwo = Dwarf::load(|id| Ok::<Slice, ()>(section(&file, name(id)))).ok()?;
        dwo.make_dwo(&load.parent);
        Some(dwo)
    });
    dwo.or_else(|| in_package(load, program)).map(Arc::new)
}

/// The same in `PROGRAM.dwp`, which contains all files.
fn in_package(load: &SplitDwarfLoad<Slice>, program: &Path) -> Option<Dwarf<Slice>> {
    let mut path = program.as_os_str().to_owned();
    path.push(".dwp");
    let file = open(Path::new(&path))?;
    let name = |id: SectionId| id.dwo_name().unwrap_or_default();
    let load_section =
        |id: SectionId| Ok::<Slice, addr2line::gimli::Error>(section(&file, name(id)));
    let empty = EndianSlice::new(&[], RunTimeEndian::Little);
    let package = DwarfPackage::load(load_section, empty).ok()?;
    package.find_cu(load.dwo_id, &load.parent).ok()?
}

/// A section; empty if there is none of this name, or if it is compressed.
fn section(file: &Elf, name: &str) -> Slice {
    let found = file.section_by_name(name).filter(|section| {
        let range = section.compressed_file_range();
        range.is_ok_and(|range| range.format == CompressionFormat::None)
    });
    let data = found.and_then(|section| section.data().ok()).unwrap_or_default();
    EndianSlice::new(data, RunTimeEndian::Little)
}
