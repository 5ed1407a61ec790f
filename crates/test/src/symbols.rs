//! The symbols and line tables of this process's binary and libraries.
//!
//! Mappings are read once. A file's symbols are read when an address in it is resolved for the
//! first time. `/proc/self/maps` and the program headers convert memory addresses to addresses in
//! the file.
//!
//! # Limits
//!
//! Compressed debug sections (`--compress-debug-sections`) are not read: the crates that decompress
//! them would be a third of all dependencies. Neither are the supplementary files of `dwz`. For
//! these, function names come from the symbol table, without lines.

use std::path::PathBuf;

/// A function and a source location in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Symbol {
    /// The demangled name without the hash.
    pub(super) function: Option<String>,
    /// Whether the name is from the symbol table: the location may be that of a function that is
    /// inlined into it.
    pub(super) is_outermost: bool,
    pub(super) file: Option<PathBuf>,
    /// Zero if unknown; the same applies to the column.
    pub(super) line: u32,
    pub(super) column: u32,
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(super) use linux::{Symbols, mapping};

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(super) use elsewhere::Symbols;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use std::cell::OnceCell;
    use std::fs;
    use std::ops::Range;
    use std::path::{Path, PathBuf};

    use addr2line::{LookupContinuation, LookupResult};
    use object::{Object, ObjectSegment, SymbolMap, SymbolMapName};

    use super::super::debug_files::{self, Slice};
    use super::Symbol;

    /// The symbols of all files with code in this process.
    pub(in super::super) struct Symbols {
        mappings: Vec<Mapping>,
        files: Vec<MappedFile>,
    }

    /// A memory range that maps a part of a file.
    struct Mapping {
        memory: Range<usize>,
        /// The offset of the part in the file.
        offset: u64,
        /// Index in `Symbols::files`.
        file: usize,
    }

    struct MappedFile {
        path: PathBuf,
        /// The inner value is `None` if the file cannot be read.
        debug_info: OnceCell<Option<DebugInfo>>,
    }

    struct DebugInfo {
        path: PathBuf,
        /// Offset in the file, size, and linked address of each segment.
        segments: Vec<(u64, u64, u64)>,
        context: Option<addr2line::Context<Slice>>,
        names: SymbolMap<SymbolMapName<'static>>,
    }

    impl Symbols {
        pub(in super::super) fn of_this_process() -> Symbols {
            let mut symbols = Symbols { mappings: Vec::new(), files: Vec::new() };
            let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
            for (memory, offset, path) in maps.lines().filter_map(mapping) {
                let path = PathBuf::from(path);
                let known = symbols.files.iter().position(|file| file.path == path);
                let file = known.unwrap_or(symbols.files.len());
                if known.is_none() {
                    symbols.files.push(MappedFile { path, debug_info: OnceCell::new() });
                }
                symbols.mappings.push(Mapping { memory, offset, file });
            }
            symbols
        }

        pub(in super::super) fn is_in_c_library(&self, address: usize) -> bool {
            let Some(mapping) = self.mapping(address) else { return false };
            let name = self.files[mapping.file].path.file_name();
            name.is_some_and(|name| name.to_string_lossy().starts_with("libc."))
        }

        /// The name of the library that contains an address; `None` for the program itself.
        pub(in super::super) fn library(&self, address: usize) -> Option<String> {
            let path = &self.files[self.mapping(address)?.file].path;
            if fs::read_link("/proc/self/exe").is_ok_and(|program| program == *path) {
                return None;
            }
            path.file_name().map(|name| name.to_string_lossy().into_owned())
        }

        /// The functions at an address, innermost first: several if calls were inlined.
        pub(in super::super) fn resolve(&self, address: usize) -> Vec<Symbol> {
            self.find(address).unwrap_or_default()
        }

        fn find(&self, address: usize) -> Option<Vec<Symbol>> {
            let mapping = self.mapping(address)?;
            let file = &self.files[mapping.file];
            let debug_info =
                file.debug_info.get_or_init(|| DebugInfo::read(&file.path)).as_ref()?;
            let offset = (address - mapping.memory.start) as u64 + mapping.offset;
            debug_info.find(offset)
        }

        fn mapping(&self, address: usize) -> Option<&Mapping> {
            self.mappings.iter().find(|mapping| mapping.memory.contains(&address))
        }
    }

    impl DebugInfo {
        /// Reads a file.
        fn read(path: &Path) -> Option<DebugInfo> {
            let file = debug_files::open(path)?;
            let segments = file.segments().map(|segment| {
                let (offset, size) = segment.file_range();
                (offset, size, segment.address())
            });
            let segments = segments.collect();
            let separate = match debug_files::has_debug_info(&file) {
                true => None,
                false => debug_files::of_stripped(path, &file),
            };
            let file = separate.unwrap_or(file);
            let dwarf = debug_files::dwarf(&file)?;
            Some(DebugInfo {
                path: path.to_owned(),
                segments,
                context: addr2line::Context::from_dwarf(dwarf).ok(),
                names: file.symbol_map(),
            })
        }

        /// The functions at an offset in the file.
        fn find(&self, offset: u64) -> Option<Vec<Symbol>> {
            let is_inside =
                |segment: &&(u64, u64, u64)| (segment.0..segment.0 + segment.1).contains(&offset);
            let (begin, _, linked_at) = self.segments.iter().find(is_inside)?;
            let address = offset - begin + linked_at;
            let mut symbols = self.frames(address);
            let symbols_here = symbols.get_or_insert_with(Vec::new);
            if symbols_here.is_empty() {
                symbols_here.push(Symbol::default());
            }
            // Only the outermost function is in the symbol table; the others are inlined into it.
            let outermost = symbols_here.last_mut().filter(|symbol| symbol.function.is_none());
            if let Some(outermost) = outermost {
                outermost.function = self.name(address);
                outermost.is_outermost = true;
            }
            symbols
        }

        /// The functions at an address, from the debug information.
        fn frames(&self, address: u64) -> Option<Vec<Symbol>> {
            let mut result = self.context.as_ref()?.find_frames(address);
            let mut frames = loop {
                result = match result {
                    LookupResult::Output(frames) => break frames.ok()?,
                    LookupResult::Load { load, continuation } => {
                        continuation.resume(debug_files::split(&load, &self.path))
                    }
                };
            };
            let mut symbols = Vec::new();
            while let Ok(Some(frame)) = frames.next() {
                let location = frame.location.as_ref();
                let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
                symbols.push(Symbol {
                    function: name.map(|name| demangled(&name)),
                    is_outermost: false,
                    file: location.and_then(|location| location.file).map(PathBuf::from),
                    line: location.and_then(|location| location.line).unwrap_or(0),
                    column: location.and_then(|location| location.column).unwrap_or(0),
                });
            }
            Some(symbols)
        }

        /// The name of the function at an address, from the symbol table.
        fn name(&self, address: u64) -> Option<String> {
            let names = self.names.symbols();
            let end = names.partition_point(|name| name.address() <= address);
            Some(demangled(names[..end].last()?.name()))
        }
    }

    fn demangled(name: &str) -> String {
        format!("{:#}", rustc_demangle::demangle(name))
    }

    /// Range, offset and path of a line of `/proc/self/maps`; `None` if it maps no file.
    pub(in super::super) fn mapping(line: &str) -> Option<(Range<usize>, u64, &str)> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
        let path = line.find('/').map(|begin| &line[begin..])?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(start)?..number(end)?, offset, path))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_address_in_this_test_is_resolved_to_it() {
            let here = an_address_in_this_test_is_resolved_to_it as fn() as usize;
            let symbols = Symbols::of_this_process().resolve(here);
            let symbol = symbols.last().expect("tests have debug information");
            let function = symbol.function.as_deref().unwrap_or_default();
            assert!(function.ends_with("an_address_in_this_test_is_resolved_to_it"), "{symbols:?}");
            assert!(symbol.file.as_ref().is_some_and(|file| file.ends_with("src/symbols.rs")));
            assert!(symbol.line > 0);
        }

        #[test]
        fn a_line_of_maps_shows_a_file_or_none() {
            let line = "7f00-7f10 r-xp 00026000 00:1f 2      /lib/a b/libc.so.6";
            assert_eq!(mapping(line), Some((0x7f00..0x7f10, 0x26000, "/lib/a b/libc.so.6")));
            assert_eq!(mapping("7f00-7f10 r-xp 00000000 00:00 0      [vdso]"), None);
            assert_eq!(mapping("7f00-7f10 rw-p 00000000 00:00 0"), None);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod elsewhere {
    use super::Symbol;

    /// The stub for systems on which openings are not recorded, so that there are no addresses.
    pub(in super::super) struct Symbols;

    impl Symbols {
        pub(in super::super) fn of_this_process() -> Symbols {
            Symbols
        }

        pub(in super::super) fn is_in_c_library(&self, _: usize) -> bool {
            false
        }

        pub(in super::super) fn library(&self, _: usize) -> Option<String> {
            None
        }

        pub(in super::super) fn resolve(&self, _: usize) -> Vec<Symbol> {
            Vec::new()
        }
    }
}
