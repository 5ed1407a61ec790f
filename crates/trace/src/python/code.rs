//! Code objects: the function, the file and the lines of a place.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::layout::Layout;
use super::line_table::{Run, decode, line_of};
use super::memory::{Memory, fill, half_at, word_at};
use crate::stack::{Frame, ScriptFrame, Stacks};

/// The largest line table that is decoded, in bytes: that of a module with about 300,000 lines.
const LINE_TABLE_MAX: u64 = 4 << 20;

/// The number of characters of a function's name that are kept.
const FUNCTION_MAX: usize = 256;

/// The number of characters of a path that are kept: the kernel's limit of a path.
const FILE_MAX: usize = 4096;

/// The memory that the decoded code objects of a process may use, in bytes. Beyond it they are read again.
const CACHE_MAX: usize = 16 << 20;

/// The number of different places that are stored. A program can make names without end.
const PLACES_MAX: u32 = 1 << 20;

/// The offset of the flags behind the header, the same in all versions.
const FLAGS: usize = 24;

/// One code object.
#[derive(Debug)]
struct Code {
    /// What was read of the object behind its header. It contains a version number that no two code
    /// objects of a process share, so that another object at the same address is noticed.
    fields: Box<[u8]>,
    function: String,
    file: String,
    first_line: u32,
    runs: Box<[Run]>,
    /// The frames of the lines that were seen.
    frames: RefCell<FxHashMap<u32, Frame>>,
}

impl Code {
    /// Whether it has local variables of its own, unlike a module or a class (CO_OPTIMIZED).
    fn is_function(&self) -> bool {
        half_at(&self.fields, FLAGS).is_some_and(|flags| flags & 1 != 0)
    }

    fn size(&self) -> usize {
        size_of::<Code>()
            + self.fields.len()
            + self.function.len()
            + self.file.len()
            + self.runs.len() * size_of::<Run>()
    }
}

/// A code object on a stack and the instruction that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Address of the frame.
    pub frame: u64,
    /// Address of the code object.
    pub code: u64,
    /// Address of the instruction.
    pub instruction: u64,
    /// Free-threaded builds: which copy of the code runs.
    pub copy: u32,
}

/// The code objects of one process, by address. A copy of it serves a forked process.
#[derive(Clone, Debug, Default)]
pub(super) struct Codes {
    by_address: FxHashMap<u64, Rc<Code>>,
    size: usize,
}

/// A site and its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    site: Site,
    frame: Option<Frame>,
    /// Whether the code is that of a function, which lives as long as the function.
    is_function: bool,
}

/// What the codes of all processes share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The number of different places so far.
    places: u32,
    addresses: Vec<u64>,
    fields: Vec<u8>,
}

impl Codes {
    /// The frames of the sites, innermost first. What lies outwards of code that cannot be read is left
    /// out.
    ///
    /// `last` is the list of the task's last stop. To read a code object again, in order to see that it
    /// is the same, is the largest part of the cost. It is left out for functions where a frame and all
    /// its callers are where they were. The code of a module or a class is freed when it has run, and
    /// the next module can have its place, so it is always read.
    pub(super) fn resolve(
        &mut self,
        sites: &[Site],
        last: &mut Vec<Resolved>,
        layout: &Layout,
        memory: &mut dyn Memory,
        shared: &mut Shared,
        stacks: &mut Stacks,
    ) -> Vec<Frame> {
        let pairs = sites.iter().rev().zip(last.iter().rev());
        let same = pairs.take_while(|(site, last)| **site == last.site).count();
        let (fresh, tail) = (sites.len() - same, last.len() - same);
        let is_read = |index: &usize| *index < fresh || !last[tail + *index - fresh].is_function;
        let read: Vec<usize> = (0..sites.len()).filter(is_read).collect();
        let size = layout.code_size() - layout.header;
        let Shared { places, addresses, fields } = shared;
        addresses.clear();
        addresses
            .extend(read.iter().map(|index| sites[*index].code.wrapping_add(layout.header as u64)));
        fields.resize(size * read.len(), 0);
        let filled = memory.read_parts(addresses, size, fields) / size;
        if let Some(unreadable) = read.get(filled) {
            last.clear();
            return self.resolve(&sites[..*unreadable], last, layout, memory, shared, stacks);
        }
        let parts = || read.iter().copied().zip(fields.chunks_exact(size));
        let is_known = |(index, fields): (usize, &[u8])| {
            let known = self.by_address.get(&sites[index].code);
            index < fresh || known.is_some_and(|code| *code.fields == *fields)
        };
        if !parts().all(is_known) {
            last.clear();
            return self.resolve(sites, last, layout, memory, shared, stacks);
        }
        let mut resolved = Vec::with_capacity(sites.len());
        for (index, fields) in parts().take_while(|(index, _)| *index < fresh) {
            let site = sites[index];
            let code = self.code(site.code, fields, layout, memory);
            let is_function = code.as_ref().is_some_and(|code| code.is_function());
            let frame = code
                .and_then(|code| frame(&code, line(&code, &site, layout, memory), places, stacks));
            resolved.push(Resolved { site, frame, is_function });
        }
        last.splice(..tail, resolved);
        last.iter().filter_map(|resolved| resolved.frame).collect()
    }

    fn code(
        &mut self,
        address: u64,
        fields: &[u8],
        layout: &Layout,
        memory: &mut dyn Memory,
    ) -> Option<Rc<Code>> {
        let known = self.by_address.get(&address);
        if let Some(code) = known.filter(|code| *code.fields == *fields) {
            return Some(Rc::clone(code));
        }
        let code = Rc::new(load(fields, layout, memory)?);
        if self.size > CACHE_MAX {
            *self = Codes::default();
        }
        self.size += code.size();
        let former = self.by_address.insert(address, Rc::clone(&code));
        self.size -= former.map_or(0, |former| former.size());
        Some(code)
    }
}

fn load(fields: &[u8], layout: &Layout, memory: &mut dyn Memory) -> Option<Code> {
    let pointer = |offset: usize| word_at(fields, offset.checked_sub(layout.header)?);
    let first_line = half_at(fields, layout.code_first_line.checked_sub(layout.header)?)?;
    let function = text(memory, pointer(layout.code_function)?, layout, FUNCTION_MAX)?;
    let file = text(memory, pointer(layout.code_file)?, layout, FILE_MAX)?;
    let table = bytes(memory, pointer(layout.code_lines)?, layout);
    let runs = table.map_or_else(Vec::new, |table| decode(&table, first_line));
    Some(Code {
        fields: fields.into(),
        function,
        file,
        first_line,
        runs: runs.into(),
        frames: RefCell::default(),
    })
}

/// The line of a site; 0 when not known.
fn line(code: &Code, site: &Site, layout: &Layout, memory: &mut dyn Memory) -> u32 {
    let mut start = site.code.wrapping_add(layout.code_start as u64);
    if let Some((_, copies)) = layout.thread_code {
        start = copy_start(site, copies, memory).unwrap_or(start);
    }
    match site.instruction.checked_sub(start) {
        // A frame that is just being made is at the instruction before the first.
        None => code.first_line,
        Some(offset) => u32::try_from(offset / 2).map_or(0, |unit| line_of(&code.runs, unit)),
    }
}

/// The start of the copy of the code that the thread runs.
fn copy_start(site: &Site, copies: usize, memory: &mut dyn Memory) -> Option<u64> {
    let array = super::memory::word(memory, site.code.checked_add(copies as u64)?)?;
    let count = super::memory::word(memory, array)?;
    let index = u64::from(site.copy);
    if index >= count {
        return None;
    }
    super::memory::word(memory, array.checked_add(8 + index * 8)?)
}

fn frame(code: &Code, line: u32, places: &mut u32, stacks: &mut Stacks) -> Option<Frame> {
    if let Some(frame) = code.frames.borrow().get(&line) {
        return Some(*frame);
    }
    if *places >= PLACES_MAX {
        return None;
    }
    *places += 1;
    let frame = stacks.script(ScriptFrame {
        function: code.function.clone(),
        file: code.file.clone(),
        line,
    });
    code.frames.borrow_mut().insert(line, frame);
    Some(frame)
}

/// The content of a `bytes` object.
fn bytes(memory: &mut dyn Memory, address: u64, layout: &Layout) -> Option<Vec<u8>> {
    let size = super::memory::word(memory, address.checked_add(layout.bytes_size as u64)?)?;
    if size > LINE_TABLE_MAX {
        return None;
    }
    let mut content = vec![0; size as usize];
    fill(memory, address.checked_add(layout.bytes_start as u64)?, &mut content)?;
    Some(content)
}

/// The first characters of a `str` object.
fn text(
    memory: &mut dyn Memory,
    address: u64,
    layout: &Layout,
    characters_max: usize,
) -> Option<String> {
    // Most texts fit, so that one read is enough.
    let mut start = [0; 256];
    let filled = memory.read(address, &mut start).min(start.len());
    let start = &start[..filled];
    let length = word_at(start, layout.text_length)?;
    let state = half_at(start, layout.text_state)? >> layout.text_kind_bit;
    let (width, is_compact, is_ascii) = (state & 7, state & 8 != 0, state & 16 != 0);
    if !is_compact || !matches!(width, 1 | 2 | 4) || (is_ascii && width != 1) {
        return None;
    }
    let data = if is_ascii { layout.ascii_start } else { layout.unicode_start };
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(characters_max);
    let size = length * width as usize;
    if let Some(bytes) = start.get(data..data + size) {
        return Some(characters(bytes, width as usize));
    }
    let mut bytes = vec![0; size];
    fill(memory, address.checked_add(data as u64)?, &mut bytes)?;
    Some(characters(&bytes, width as usize))
}

/// Characters of 1 byte (Latin-1), 2 or 4 bytes, as text. What is no character, such as the stand-ins
/// of bytes that are no UTF-8, is replaced.
fn characters(bytes: &[u8], width: usize) -> String {
    bytes
        .chunks_exact(width)
        .map(|bytes| {
            let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
            char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
        })
        .collect()
}
