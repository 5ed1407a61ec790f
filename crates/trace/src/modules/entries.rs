//! Entries of `.eh_frame`, each copied out of the file when a stack needs it.
//!
//! The tables of large programs have many megabytes (12 MiB in rustc's largest library), of which the
//! stacks of a run need a few hundred entries. To read them whole takes longer than such a program takes
//! to start. So the sorted list in `.eh_frame_hdr` is searched in the file, and one entry with its
//! common part is copied.
//!
//! Limits: the list is of the kind that all linkers make (version 1, relative to the section, 4 bytes a
//! number), and an entry has at most 1 MiB; other tables are read whole.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::elf::{Part, Source};

/// The maximum size of one entry.
const ENTRY_MAX: usize = 1 << 20;

/// How much of the list is read at a time.
const BLOCK: usize = 4096;

/// The maximum number of common parts that are kept.
const COMMON_MAX: usize = 4096;

/// How much of an entry is read first: most are shorter.
const USUAL: usize = 128;

/// The size of the list's head: version, three encodings, address of the section, number of entries.
const HEAD: usize = 12;

/// Version 1; address of the section relative to the place, in 4 bytes; their number in 4 bytes;
/// addresses relative to the list, in 4 bytes.
const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// The entries of a file.
pub(super) struct Entries {
    source: Arc<dyn Source>,
    list: Part,
    section: Part,
    count: u64,
    /// Parts of the list that were read, by their number.
    blocks: FxHashMap<u64, Box<[u8]>>,
    /// Common parts, by offset in the section.
    common: FxHashMap<u64, Rc<[u8]>>,
}

/// A small section with one entry and its common part.
pub(super) struct Copied {
    /// The bytes of the section.
    pub(super) data: Vec<u8>,
    /// Its address, so that addresses relative to the entry stay correct.
    pub(super) address: u64,
    /// Where the entry is in it.
    pub(super) offset: usize,
}

impl Entries {
    /// Nothing if the list is of another kind.
    pub(super) fn new(source: Arc<dyn Source>, list: Part, section: Part) -> Option<Entries> {
        let mut head = [0; HEAD];
        let filled = source.fill(list.offset, &mut head);
        if filled < HEAD || head[..4] != ENCODINGS {
            return None;
        }
        let count = u64::from(number(&head, 8)?);
        (count > 0 && HEAD as u64 + count * 8 <= list.size).then(|| Entries {
            source,
            list,
            section,
            count,
            blocks: FxHashMap::default(),
            common: FxHashMap::default(),
        })
    }

    /// The entry that may describe an address: the last one that begins at or before it.
    pub(super) fn find(&mut self, address: u64) -> Option<Copied> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.listed(middle)?.0 <= address { low = middle + 1 } else { high = middle }
        }
        let (_, entry) = self.listed(low.checked_sub(1)?)?;
        self.copy(entry.checked_sub(self.section.address)?)
    }

    /// The start of a function and the address of its entry.
    fn listed(&mut self, index: u64) -> Option<(u64, u64)> {
        let offset = HEAD as u64 + index * 8;
        // No item lies across two blocks, because the blocks are counted from the first item.
        let block = (index * 8) / BLOCK as u64;
        let start = HEAD as u64 + block * BLOCK as u64;
        let (source, list) = (&self.source, self.list);
        let bytes = self.blocks.entry(block).or_insert_with(|| {
            let size = (list.size - start).min(BLOCK as u64) as usize;
            let mut bytes = vec![0; size];
            let filled = source.fill(list.offset + start, &mut bytes);
            bytes.truncate(filled);
            bytes.into()
        });
        let at = (offset - start) as usize;
        let relative = |at| Some(i64::from(number(bytes, at)?.cast_signed()));
        let address = |at| list.address.checked_add_signed(relative(at)?);
        Some((address(at)?, address(at + 4)?))
    }

    fn copy(&mut self, offset: u64) -> Option<Copied> {
        let entry = self.read(offset)?;
        // The distance from this number to the common part.
        let distance = u64::from(number(&entry, 4)?);
        let common = self.common(offset.checked_add(4)?.checked_sub(distance)?)?;
        let mut data = Vec::with_capacity(common.len() + entry.len() + 4);
        data.extend_from_slice(&common);
        data.extend_from_slice(&entry);
        let distance = u32::try_from(common.len() + 4).ok()?;
        data[common.len() + 4..][..4].copy_from_slice(&distance.to_le_bytes());
        // The end of the section.
        data.extend_from_slice(&[0; 4]);
        let address = self.section.address.checked_add(offset)?;
        let address = address.checked_sub(common.len() as u64)?;
        Some(Copied { data, address, offset: common.len() })
    }

    fn common(&mut self, offset: u64) -> Option<Rc<[u8]>> {
        if let Some(known) = self.common.get(&offset) {
            return Some(Rc::clone(known));
        }
        let common: Rc<[u8]> = self.read(offset)?.into();
        if number(&common, 4)? != 0 {
            return None;
        }
        if self.common.len() >= COMMON_MAX {
            self.common.clear();
        }
        self.common.insert(offset, Rc::clone(&common));
        Some(common)
    }

    /// The bytes of an entry or a common part, with its length.
    fn read(&self, offset: u64) -> Option<Vec<u8>> {
        let left = self.section.size.checked_sub(offset)?;
        let left = usize::try_from(left).unwrap_or(ENTRY_MAX).min(ENTRY_MAX);
        let start = self.section.offset.checked_add(offset)?;
        let mut bytes = vec![0; USUAL.min(left)];
        let mut filled = self.source.fill(start, &mut bytes);
        let length = number(bytes.get(..filled)?, 0)? as usize;
        // 0 is the end of the table; what is longer than the limit may be of another format.
        let size = length.checked_add(4).filter(|size| length > 4 && *size <= left)?;
        bytes.resize(size, 0);
        if size > filled {
            filled += self.source.fill(start + filled as u64, &mut bytes[filled..]);
        }
        (filled >= size).then_some(bytes)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
