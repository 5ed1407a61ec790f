//! Tables of call frames: one step from a function to its caller.
//!
//! framehop does the step. Before it reads the table for an address for the first time, the entry is
//! checked here: whether there is one, for otherwise framehop guesses without saying so, and whether it
//! can be evaluated in bounded time, for an expression of a table may contain a loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use gimli::{
    BaseAddresses, CallFrameInstruction, CfaRule, CieOrFde, DebugFrame, EhFrame, EhFrameHdr,
    EndianSlice, FrameDescriptionEntry, LittleEndian, Operation, RegisterRule, UnwindContext,
    UnwindExpression, UnwindSection, X86_64,
};

use super::elf::{Elf, Section};

/// The maximum number of functions of a table without an index.
const FUNCTIONS_MAX: usize = 2_000_000;

/// The maximum number of instructions of one function's entry. The longest of compiled code has some
/// thousands.
const INSTRUCTIONS_MAX: usize = 100_000;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Fde<'a> = FrameDescriptionEntry<Bytes<'a>>;

/// How the table finds an entry.
enum Index {
    /// By the sorted list in `.eh_frame_hdr`.
    Header(Arc<[u8]>),
    /// By a sorted list of start, end and offset of each entry, made here.
    Made(Vec<(u64, u64, usize)>),
}

/// Which section it is: their formats differ a little.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    EhFrame,
    DebugFrame,
}

/// One table of a file.
pub(crate) struct Table {
    kind: Kind,
    index: Index,
    section: Arc<[u8]>,
    bases: BaseAddresses,
    unwinder: UnwinderX86_64<Arc<[u8]>>,
    cache: CacheX86_64,
    context: UnwindContext<usize>,
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

/// The tables of a file.
pub(crate) fn tables(elf: &Elf) -> Vec<Table> {
    let mut tables = Vec::new();
    if let Some(eh_frame) = elf.eh_frame.as_ref().filter(|it| !it.data.is_empty()) {
        tables.extend(Table::new(elf, Kind::EhFrame, eh_frame));
    }
    if let Some(debug_frame) = elf.debug_frame.as_ref().filter(|it| !it.data.is_empty()) {
        tables.extend(Table::new(elf, Kind::DebugFrame, debug_frame));
    }
    tables
}

impl Table {
    fn new(elf: &Elf, kind: Kind, section: &Section) -> Option<Table> {
        let header = elf.eh_frame_hdr.as_ref().filter(|it| !it.data.is_empty());
        let header = header.filter(|_| kind == Kind::EhFrame);
        let mut bases = BaseAddresses::default().set_text(elf.text).set_got(elf.got);
        if kind == Kind::EhFrame {
            bases = bases.set_eh_frame(section.address);
        }
        if let Some(header) = header {
            bases = bases.set_eh_frame_hdr(header.address);
        }
        let has_list = header.is_some_and(|it| has_list(&it.data, &bases));
        let index = match header {
            Some(header) if has_list => Index::Header(Arc::clone(&header.data)),
            _ => Index::Made(match kind {
                Kind::EhFrame => made_index(&eh_frame(&section.data), &bases),
                Kind::DebugFrame => made_index(&debug_frame(&section.data), &bases),
            }),
        };
        let start = elf.segments.iter().map(|segment| segment.address).min()?;
        let end = elf.segments.iter().map(|it| it.address + it.size).max()?;
        let range = |address| address..address;
        let data = || Some(Arc::clone(&section.data));
        let sections = ExplicitModuleSectionInfo {
            base_svma: start,
            text_svma: Some(range(elf.text)),
            got_svma: Some(range(elf.got)),
            eh_frame_svma: (kind == Kind::EhFrame).then(|| range(section.address)),
            eh_frame: (kind == Kind::EhFrame).then(data).flatten(),
            debug_frame: (kind == Kind::DebugFrame).then(data).flatten(),
            eh_frame_hdr_svma: header.filter(|_| has_list).map(|it| range(it.address)),
            eh_frame_hdr: header.filter(|_| has_list).map(|it| Arc::clone(&it.data)),
            ..ExplicitModuleSectionInfo::default()
        };
        let mut unwinder = UnwinderX86_64::new();
        // At the stated addresses, not at those of a process, so that all processes share the cache.
        unwinder.add_module(Module::new(String::new(), start..end, start, sections));
        Some(Table {
            kind,
            index,
            section: Arc::clone(&section.data),
            bases,
            unwinder,
            cache: CacheX86_64::new(),
            context: UnwindContext::new(),
        })
    }

    /// What it has about a stated address.
    pub(crate) fn entry(&mut self, address: u64) -> Option<Entry> {
        let section = Arc::clone(&self.section);
        match self.kind {
            Kind::EhFrame => self.entry_in(&eh_frame(&section), address),
            Kind::DebugFrame => self.entry_in(&debug_frame(&section), address),
        }
    }

    fn entry_in<'a, S: UnwindSection<Bytes<'a>>>(
        &mut self,
        section: &S,
        address: u64,
    ) -> Option<Entry> {
        let offset = self.offset(address)?;
        let fde = section.fde_from_offset(&self.bases, offset.into(), S::cie_from_offset).ok()?;
        if !fde.contains(address) || !is_bounded(section, &fde, &self.bases) {
            return None;
        }
        if fde.cie().is_signal_trampoline() {
            return Some(Entry::Signal);
        }
        let row = fde.unwind_info_for_address(section, &self.bases, &mut self.context, address);
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

    /// The offset of the entry that may describe an address.
    fn offset(&self, address: u64) -> Option<usize> {
        match &self.index {
            Index::Header(header) => {
                let header = EhFrameHdr::new(header, LittleEndian).parse(&self.bases, 8).ok()?;
                let table = header.table()?;
                let pointer = table.lookup(address, &self.bases).ok()?;
                Some(table.pointer_to_offset(pointer).ok()?.0)
            }
            Index::Made(entries) => {
                let after = entries.partition_point(|(start, ..)| *start <= address);
                let (_, end, offset) = entries.get(after.checked_sub(1)?)?;
                (address < *end).then_some(*offset)
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
        let mut read = |address| read(address).ok_or(());
        // Overflows of hostile offsets panic in builds with overflow checks.
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.unwinder.unwind_frame(frame, registers, &mut self.cache, &mut read)
        }));
        match result {
            Ok(Ok(Some(_))) => Step::Caller,
            Ok(Ok(None)) => Step::End,
            Ok(Err(_)) | Err(_) => Step::Failed,
        }
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

fn has_list(header: &[u8], bases: &BaseAddresses) -> bool {
    let header = EhFrameHdr::new(header, LittleEndian).parse(bases, 8);
    header.is_ok_and(|header| header.table().is_some())
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
