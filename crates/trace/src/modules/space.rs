//! The code of a process: which addresses belong to which file.

use std::ops::Range;

use super::maps::{MapsLine, executable};
use super::{FileNumber, Files};

/// The maximum size of a text of `/proc/PID/maps` that is read: 65,530 mappings, the kernel's default
/// limit, have 6 MiB.
const MAPS_MAX: u64 = 16 << 20;

/// A range of addresses with code.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// Its addresses.
    pub(crate) range: Range<u64>,
    /// What to add to an address, wrapping, for the offset in the file.
    pub(crate) shift: u64,
    /// The file; none for code that the process made.
    pub(crate) file: Option<FileNumber>,
}

/// The executable mappings of a process. It does not change: a process whose mappings change gets
/// another one. Processes that were forked share it.
#[derive(Debug)]
pub(crate) struct Space {
    /// Another one for each text of `/proc/PID/maps` that was read.
    pub(crate) id: u64,
    /// Sorted by address.
    mappings: Vec<Mapping>,
}

impl Space {
    /// Reads the mappings of a process. `previous` are those read earlier: its files are not looked up
    /// again.
    pub(crate) fn read(
        process: i32,
        id: u64,
        files: &mut Files,
        previous: Option<&Space>,
    ) -> Option<Space> {
        use std::io::Read;
        let maps = std::fs::File::open(format!("/proc/{process}/maps")).ok()?;
        let mut text = Vec::with_capacity(16 << 10);
        maps.take(MAPS_MAX).read_to_end(&mut text).ok()?;
        let mut mappings: Vec<Mapping> = Vec::new();
        for line in executable(&text) {
            let known = previous.and_then(|previous| previous.same(&line, files));
            let file = known.or_else(|| files.number(process, &line));
            mappings.push(Mapping {
                range: line.start..line.end,
                shift: line.offset.wrapping_sub(line.start),
                file,
            });
        }
        mappings.sort_unstable_by_key(|mapping| mapping.range.start);
        Some(Space { id, mappings })
    }

    /// The mapping of an address.
    pub(crate) fn find(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.range.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (address < mapping.range.end).then_some(mapping)
    }

    /// The file of a mapping that was there before.
    fn same(&self, line: &MapsLine<'_>, files: &Files) -> Option<FileNumber> {
        let mapping = self.find(line.start)?;
        let file = mapping.file?;
        let is_same =
            mapping.range.start == line.start && files.get(file).module.identity == line.identity;
        is_same.then_some(file)
    }
}
