//! Tables of call frames: one step from a function to its caller.
//!
//! framehop does the step. Before it reads the table for an address for the first time, the entry is
//! checked here: whether there is one, for otherwise framehop guesses without saying so, and whether it
//! can be evaluated in bounded time, for an expression of a table may contain a loop.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use gimli::{
    BaseAddresses, CallFrameInstruction, CfaRule, CieOrFde, DebugFrame, EhFrame, EndianSlice,
    FrameDescriptionEntry, LittleEndian, Operation, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, X86_64,
};

use super::elf::{Elf, Section, Source};
use super::entries::{Copied, Entries};

/// The maximum number of functions of a table without an index.
const FUNCTIONS_MAX: usize = 2_000_000;

/// The maximum number of instructions of one function's entry. The longest of compiled code has some
/// thousands.
const INSTRUCTIONS_MAX: usize = 100_000;

/// The maximum number of entries of a file that are kept.
const PARTS_MAX: usize = 1 << 14;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Fde<'a> = FrameDescriptionEntry<Bytes<'a>>;

/// Which section it is: their formats differ a little.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    EhFrame,
    DebugFrame,
}

/// One table of a file.
pub(crate) struct Table {
    kind: Kind,
    content: Content,
    /// What the bases and the module of each section are made of.
    layout: Layout,
    cache: CacheX86_64,
    context: UnwindContext<usize>,
}

/// What is known of the table.
enum Content {
    /// All of it, with a sorted list of start, end and offset of each entry.
    Whole { piece: Piece, index: Vec<(u64, u64, usize)> },
    /// The entries that were needed so far, by start, with end and offset.
    Parts { entries: Entries, known: BTreeMap<u64, (u64, usize, Piece)> },
}

/// A section, whole or with one entry, and its unwinder.
struct Piece {
    data: Arc<[u8]>,
    bases: BaseAddresses,
    unwinder: UnwinderX86_64<Arc<[u8]>>,
}

/// The addresses that a file states.
#[derive(Clone, Copy)]
struct Layout {
    start: u64,
    end: u64,
    text: u64,
    got: u64,
}

/// What a table has about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The caller's frame is found without the frame pointer.
    ByStack,
    /// The caller's frame is found with the frame pointer.
    ByPointer,
    /// The function has aligned its stack: where the caller's frame is stands at this distance from the
    /// frame pointer, and the caller's frame pointer where it points to.
    Realigned {
        /// The distance in bytes.
        offset: i64,
    },
    /// A signal handler returns here: the interrupted function's registers are on the stack.
    Signal,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The registers are those of the caller.
    Caller,
    /// The registers are those of a function that a signal interrupted.
    Interrupted,
    /// There is no caller: the thread began here.
    End,
    /// Something could not be read.
    Failed,
}

/// The tables of a file, which are in the source.
pub(crate) fn tables(elf: &Elf, source: &Arc<dyn Source>) -> Vec<Table> {
    let mut tables = Vec::new();
    if let Some(eh_frame) = elf.eh_frame {
        let list = elf.eh_frame_hdr;
        let entries = list.and_then(|list| Entries::new(Arc::clone(source), list, eh_frame));
        tables.extend(match entries {
            Some(entries) => Table::of_parts(elf, entries),
            None => source
                .read(eh_frame.offset, eh_frame.size as usize)
                .and_then(|data| Table::whole(elf, Kind::EhFrame, eh_frame.address, data.into())),
        });
    }
    if let Some(Section { address, data }) = &elf.debug_frame {
        tables.extend(Table::whole(elf, Kind::DebugFrame, *address, Arc::clone(data)));
    }
    tables
}

impl Table {
    fn whole(elf: &Elf, kind: Kind, address: u64, data: Arc<[u8]>) -> Option<Table> {
        let layout = Layout::new(elf)?;
        let piece = layout.piece(kind, address, data);
        let index = match kind {
            Kind::EhFrame => made_index(&eh_frame(&piece.data), &piece.bases),
            Kind::DebugFrame => made_index(&debug_frame(&piece.data), &piece.bases),
        };
        Some(Table::new(kind, Content::Whole { piece, index }, layout))
    }

    fn of_parts(elf: &Elf, entries: Entries) -> Option<Table> {
        let content = Content::Parts { entries, known: BTreeMap::new() };
        Some(Table::new(Kind::EhFrame, content, Layout::new(elf)?))
    }

    fn new(kind: Kind, content: Content, layout: Layout) -> Table {
        let (cache, context) = (CacheX86_64::new(), UnwindContext::new());
        Table { kind, content, layout, cache, context }
    }

    /// How many bytes of the file it keeps from the start.
    pub(crate) fn size(&self) -> usize {
        match &self.content {
            Content::Whole { piece, .. } => piece.data.len(),
            Content::Parts { .. } => 0,
        }
    }

    /// What it has about a stated address.
    pub(crate) fn entry(&mut self, address: u64) -> Option<Entry> {
        let (piece, offset) = self.content.find(address, self.layout)?;
        let context = &mut self.context;
        match self.kind {
            Kind::EhFrame => entry_in(&eh_frame(&piece.data), piece, offset, address, context),
            Kind::DebugFrame => {
                entry_in(&debug_frame(&piece.data), piece, offset, address, context)
            }
        }
    }

    /// Goes to the caller of the function at a stated address, for which [`entry`](Table::entry) has
    /// found something. For all but the innermost frame it is a return address.
    pub(crate) fn step(
        &mut self,
        address: u64,
        is_innermost: bool,
        registers: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Option<u64>,
    ) -> Step {
        let frame = match (is_innermost, FrameAddress::from_return_address(address)) {
            (false, Some(frame)) => frame,
            _ => FrameAddress::from_instruction_pointer(address),
        };
        let begin = address.wrapping_sub(u64::from(!is_innermost));
        let Some((piece, _)) = self.content.find(begin, self.layout) else { return Step::Failed };
        let mut read = |address| read(address).ok_or(());
        // Overflows of hostile offsets panic in builds with overflow checks.
        let result = catch_unwind(AssertUnwindSafe(|| {
            piece.unwinder.unwind_frame(frame, registers, &mut self.cache, &mut read)
        }));
        match result {
            Ok(Ok(Some(_))) => Step::Caller,
            Ok(Ok(None)) => Step::End,
            Ok(Err(_)) | Err(_) => Step::Failed,
        }
    }
}

/// What a section has about a stated address, in the entry at an offset.
fn entry_in<'a, S: UnwindSection<Bytes<'a>>>(
    section: &S,
    piece: &Piece,
    offset: usize,
    address: u64,
    context: &mut UnwindContext<usize>,
) -> Option<Entry> {
    let fde = section.fde_from_offset(&piece.bases, offset.into(), S::cie_from_offset).ok()?;
    if !fde.contains(address) || !is_bounded(section, &fde, &piece.bases) {
        return None;
    }
    if fde.cie().is_signal_trampoline() {
        return Some(Entry::Signal);
    }
    let row = fde.unwind_info_for_address(section, &piece.bases, context, address);
    let row = row.ok()?;
    let is_at_cfa = match row.register(X86_64::RA) {
        None | Some(RegisterRule::Undefined | RegisterRule::Offset(_)) => true,
        Some(_) => false,
    };
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, .. } => match *register {
            X86_64::RSP if is_at_cfa => Some(Entry::ByStack),
            X86_64::RSP | X86_64::RBP => Some(Entry::ByPointer),
            // The values of other registers are unknown.
            _ => None,
        },
        CfaRule::Expression(expression) => by_expression(section, expression, &fde),
    }
}

impl Content {
    /// The section with the entry that may describe an address, and the entry's offset.
    fn find(&mut self, address: u64, layout: Layout) -> Option<(&Piece, usize)> {
        match self {
            Content::Whole { piece, index } => {
                let after = index.partition_point(|(start, ..)| *start <= address);
                let (_, end, offset) = index.get(after.checked_sub(1)?)?;
                (address < *end).then_some((&*piece, *offset))
            }
            Content::Parts { entries, known } => {
                let is_known = |known: &BTreeMap<u64, (u64, usize, Piece)>| {
                    known.range(..=address).next_back().is_some_and(|(_, (end, ..))| address < *end)
                };
                if !is_known(known) {
                    if known.len() >= PARTS_MAX {
                        known.clear();
                    }
                    let Copied { data, address: base, offset } = entries.find(address)?;
                    let piece = layout.piece(Kind::EhFrame, base, data.into());
                    let section = eh_frame(&piece.data);
                    let cie = EhFrame::cie_from_offset;
                    let fde = section.fde_from_offset(&piece.bases, offset.into(), cie).ok()?;
                    let start = fde.initial_address();
                    let end = start.checked_add(fde.len())?;
                    if !(start..end).contains(&address) {
                        return None;
                    }
                    known.insert(start, (end, offset, piece));
                }
                let (_, (end, offset, piece)) = known.range(..=address).next_back()?;
                // Only in a damaged table, whose entries overlap, another one is last.
                (address < *end).then_some((piece, *offset))
            }
        }
    }
}

impl Layout {
    fn new(elf: &Elf) -> Option<Layout> {
        let start = elf.segments.iter().map(|segment| segment.address).min()?;
        let end = elf.segments.iter().map(|it| it.address + it.size).max()?;
        Some(Layout { start, end, text: elf.text, got: elf.got })
    }

    /// A section at an address.
    fn piece(&self, kind: Kind, address: u64, data: Arc<[u8]>) -> Piece {
        let mut bases = BaseAddresses::default().set_text(self.text).set_got(self.got);
        if kind == Kind::EhFrame {
            bases = bases.set_eh_frame(address);
        }
        let range = |address| address..address;
        let copy = || Some(Arc::clone(&data));
        let sections = ExplicitModuleSectionInfo {
            base_svma: self.start,
            text_svma: Some(range(self.text)),
            got_svma: Some(range(self.got)),
            eh_frame_svma: (kind == Kind::EhFrame).then(|| range(address)),
            eh_frame: (kind == Kind::EhFrame).then(copy).flatten(),
            debug_frame: (kind == Kind::DebugFrame).then(copy).flatten(),
            ..ExplicitModuleSectionInfo::default()
        };
        let mut unwinder = UnwinderX86_64::new();
        // At the stated addresses, not at those of a process, so that all processes share the cache.
        let module = Module::new(String::new(), self.start..self.end, self.start, sections);
        unwinder.add_module(module);
        Piece { data, bases, unwinder }
    }
}

fn eh_frame(data: &[u8]) -> EhFrame<Bytes<'_>> {
    let mut section = EhFrame::new(data, LittleEndian);
    section.set_address_size(8);
    section
}

fn debug_frame(data: &[u8]) -> DebugFrame<Bytes<'_>> {
    let mut section = DebugFrame::new(data, LittleEndian);
    section.set_address_size(8);
    section
}

/// Start, end and offset of all entries, sorted. An entry that cannot be read ends the list.
fn made_index<'a, S: UnwindSection<Bytes<'a>>>(
    section: &S,
    bases: &BaseAddresses,
) -> Vec<(u64, u64, usize)> {
    let mut index = Vec::new();
    let mut entries = section.entries(bases);
    let mut last = None;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(entry) = entry else { continue };
        let fde = entry.parse(|section, bases, offset| match &last {
            Some((known, cie)) if *known == offset => Ok(Clone::clone(cie)),
            _ => {
                let cie = S::cie_from_offset(section, bases, offset)?;
                last = Some((offset, cie.clone()));
                Ok(cie)
            }
        });
        let Ok(fde) = fde else { break };
        let start = fde.initial_address();
        index.push((start, start.saturating_add(fde.len()), fde.offset()));
        if index.len() >= FUNCTIONS_MAX {
            break;
        }
    }
    index.sort_unstable();
    index
}

/// Whether the entry's evaluation ends soon: it is not too long, and no expression jumps.
fn is_bounded<'a, S: UnwindSection<Bytes<'a>>>(
    section: &S,
    fde: &Fde<'a>,
    bases: &BaseAddresses,
) -> bool {
    let mut left = INSTRUCTIONS_MAX;
    let parts = [fde.cie().instructions(section, bases), fde.instructions(section, bases)];
    for mut instructions in parts {
        loop {
            let instruction = match instructions.next() {
                Ok(Some(instruction)) if left > 0 => instruction,
                Ok(None) => break,
                _ => return false,
            };
            left -= 1;
            let expression = match instruction {
                CallFrameInstruction::DefCfaExpression { expression }
                | CallFrameInstruction::Expression { expression, .. }
                | CallFrameInstruction::ValExpression { expression, .. } => expression,
                _ => continue,
            };
            if !is_straight(section, &expression, fde) {
                return false;
            }
        }
    }
    true
}

/// How the frame is found if its address is an expression.
fn by_expression<'a, S: UnwindSection<Bytes<'a>>>(
    section: &S,
    expression: &UnwindExpression<usize>,
    fde: &Fde<'a>,
) -> Option<Entry> {
    let expression = expression.get(section).ok()?;
    let mut operations = expression.operations(fde.cie().encoding());
    let first = operations.next().ok()?;
    let second = operations.next().ok()?;
    match (first, second) {
        (
            Some(Operation::RegisterOffset { register: X86_64::RBP, offset, .. }),
            Some(Operation::Deref { .. }),
        ) if operations.next() == Ok(None) => Some(Entry::Realigned { offset }),
        // In the procedure linkage table: a sum of registers and numbers.
        _ => Some(Entry::ByPointer),
    }
}

/// Whether the expression has no jumps, and so no loops.
fn is_straight<'a, S: UnwindSection<Bytes<'a>>>(
    section: &S,
    expression: &UnwindExpression<usize>,
    fde: &Fde<'a>,
) -> bool {
    let Ok(expression) = expression.get(section) else { return false };
    let mut operations = expression.operations(fde.cie().encoding());
    loop {
        match operations.next() {
            Ok(Some(Operation::Bra { .. } | Operation::Skip { .. })) | Err(_) => return false,
            Ok(Some(_)) => {}
            Ok(None) => return true,
        }
    }
}
