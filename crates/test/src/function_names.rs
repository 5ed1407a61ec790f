//! Names of functions, from the symbol table alone.
//!
//! A test that leaves a descriptor of a lazy static open is clean, so the check for it must be fast:
//! the symbol table of a test binary is read in about a millisecond, its debug information in
//! hundreds. Functions that are inlined have no entry, but the initialisers of statics are not
//! inlined.

use std::cell::RefCell;
use std::collections::HashMap;

use echown_fd::trap::{self, Stack};
use echown_report::StackFrame;

use super::process_wide::process_wide;

/// The maximum number of threads between a thread and the one that a static started.
const ANCESTORS_MAX: usize = 8;

/// Tells which descriptors belong to the process. Reads each symbol table at most a few times.
#[derive(Default)]
pub(super) struct ProcessWide {
    names: RefCell<HashMap<usize, Option<String>>>,
}

impl ProcessWide {
    /// Why a descriptor that this call opened belongs to the process; `None` if it does not. What a
    /// thread of a pool opens belongs to the process if the pool does.
    pub(super) fn reason(&self, opened: &Stack) -> Option<String> {
        if let Some((construct, why)) = self.construct(&opened.addresses) {
            return Some(format!("opened under {construct}: {why}"));
        }
        let mut spawned = trap::spawned(opened.thread);
        for _ in 0..ANCESTORS_MAX {
            let stack = spawned?;
            if let Some((construct, _)) = self.construct(&stack.addresses) {
                return Some(format!(
                    "opened by a thread that was started under {construct} and lives as long as the \
                     process"
                ));
            }
            spawned = trap::spawned(stack.thread);
        }
        None
    }

    /// What initialises something for the process in this stack, and the reason to excuse it.
    fn construct(&self, stack: &[usize]) -> Option<(String, &'static str)> {
        let mut names = self.names.borrow_mut();
        let unknown = stack.iter().copied().filter(|address| !names.contains_key(address));
        let unknown: Vec<usize> = unknown.collect();
        if !unknown.is_empty() {
            let found = here::names(&unknown);
            names.extend(unknown.into_iter().zip(found));
        }
        let functions = stack.iter().filter_map(|address| names[address].clone());
        let frame = |function| StackFrame { function, ..StackFrame::default() };
        let frames: Vec<StackFrame> = functions.map(frame).collect();
        let found = process_wide(&frames)?;
        let user = found.used_by.map(|frame| format!(" in `{}`", frame.function));
        let user = user.unwrap_or_default();
        Some((format!("`{}`{user}", found.construct), found.reason))
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod here {
    use std::fs::{self, File};
    use std::path::Path;

    use object::read::elf::ElfFile64;
    use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};

    use super::super::symbols::mapping;

    /// The demangled names of the functions at these return addresses.
    pub(super) fn names(addresses: &[usize]) -> Vec<Option<String>> {
        let mut names = vec![None; addresses.len()];
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mappings: Vec<_> = maps.lines().filter_map(mapping).collect();
        let mut files: Vec<&str> = mappings.iter().map(|(_, _, path)| *path).collect();
        files.dedup();
        for path in files {
            let mut inside = Vec::new();
            for (memory, offset, _) in mappings.iter().filter(|(_, _, other)| *other == path) {
                for (index, address) in addresses.iter().enumerate() {
                    // A return address can belong to the next function, so one byte is subtracted.
                    if memory.contains(&(address - 1)) {
                        inside.push((offset + (address - 1 - memory.start) as u64, index));
                    }
                }
            }
            if !inside.is_empty() {
                find(Path::new(path), inside, &mut names);
            }
        }
        names
    }

    /// Finds the functions at these offsets in a file.
    fn find(path: &Path, inside: Vec<(u64, usize)>, names: &mut [Option<String>]) -> Option<()> {
        let cache = ReadCache::new(File::open(path).ok()?);
        let file = ElfFile64::<object::Endianness, _>::parse(&cache).ok()?;
        let linked = |offset: u64| {
            let mut segments = file.segments();
            segments.find_map(|segment| {
                let (begin, size) = segment.file_range();
                let is_inside = (begin..begin + size).contains(&offset);
                is_inside.then(|| offset - begin + segment.address())
            })
        };
        let mut wanted: Vec<(u64, usize)> = inside
            .into_iter()
            .filter_map(|(offset, index)| Some((linked(offset)?, index)))
            .collect();
        wanted.sort_unstable();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let (begin, end) = (symbol.address(), symbol.address() + symbol.size());
            let first = wanted.partition_point(|(address, _)| *address < begin);
            for (_, index) in wanted[first..].iter().take_while(|(address, _)| *address < end) {
                let name = symbol.name().ok().map(rustc_demangle::demangle);
                names[*index] = name.map(|name| format!("{name:#}"));
            }
        }
        Some(())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_address_in_this_test_has_its_name() {
            let here = an_address_in_this_test_has_its_name as fn() as usize;
            let [Some(name), None] = &names(&[here + 2, 1])[..] else { panic!("one name") };
            assert!(name.ends_with("an_address_in_this_test_has_its_name"), "{name}");
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod here {
    /// Openings are not recorded on this system, so there are no addresses.
    pub(super) fn names(addresses: &[usize]) -> Vec<Option<String>> {
        vec![None; addresses.len()]
    }
}
