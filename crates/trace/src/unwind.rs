//! The unwinder: stacks of stopped tasks of other processes, from their registers and memory.
//!
//! Each function's caller is found with the table of call frames in its file, by framehop. Code without
//! a table (musl's, assembly, generated code) is guessed: with the frame pointer if it points to a frame,
//! otherwise by the next word on the stack that is a return address. Frames found so are marked, except
//! where the code's compiler keeps frame pointers.
//!
//! | module | content |
//! |---|---|
//! | `memory` | few large reads of the process's memory |
//! | `known` | recent stacks, recognized without unwinding |
//! | `guess` | steps without a table |
//!
//! Limits: 64 frames of a stack; 64 KiB next to the stack pointer and 64 parts of 1 KiB elsewhere.

use std::rc::Rc;

use framehop::x86_64::UnwindRegsX86_64;
use rustc_hash::{FxHashMap, FxHashSet};

use self::known::{KnownStacks, Trail};
use self::memory::{Memory, Read};
use crate::modules::Files;
use crate::modules::space::{Mapping, Space};
use crate::modules::tables::{Entry, Step};
use crate::perf_map;
use crate::stack::{Frame, StackId, Stacks};

mod guess;
mod known;
mod memory;

/// The maximum number of frames of a stack, innermost first.
pub const FRAMES_MAX: usize = 64;

/// The maximum number of addresses outside all mappings that are looked up without reading the
/// mappings again.
const SKIPPED_MAX: u32 = 1024;

/// Where the registers are in `struct ucontext`.
const CONTEXT_BP: u64 = 120;
const CONTEXT_SP: u64 = 160;
const CONTEXT_IP: u64 = 168;

/// No code is below it, because the kernel maps nothing there.
const LOWEST_ADDRESS: u64 = 1 << 16;

/// The maximum number of addresses of generated code that are named for one process.
const GENERATED_MAX: usize = 1 << 16;

/// The registers of a stopped task that its stack depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub bp: u64,
}

/// What is known about a process.
#[derive(Clone)]
struct Process {
    space: Rc<Space>,
    /// How many more unknown addresses do not cause another read of the mappings, and how many did not
    /// after the last one: damaged stacks have many.
    skips: u32,
    skipped: u32,
    /// Addresses of generated code on its stacks.
    generated: FxHashSet<u64>,
}

/// Unwinds stacks. One for each trace.
pub struct Unwinder {
    files: Files,
    processes: FxHashMap<i32, Process>,
    spaces: u64,
    memory: Memory,
    known: KnownStacks,
    trail: Trail,
    frames: Vec<Frame>,
    failures: u64,
}

impl Default for Unwinder {
    fn default() -> Unwinder {
        Unwinder::new()
    }
}

/// How the current frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It is the innermost one, or it was interrupted by a signal.
    Innermost,
    /// As the caller, by a table or a kept frame pointer.
    Caller,
    /// By a guess.
    Guess,
}

impl Unwinder {
    /// An unwinder without processes.
    #[must_use]
    pub fn new() -> Unwinder {
        Unwinder {
            files: Files::default(),
            processes: FxHashMap::default(),
            spaces: 0,
            memory: Memory::new(),
            known: KnownStacks::new(),
            trail: Trail::default(),
            frames: Vec::with_capacity(FRAMES_MAX),
            failures: 0,
        }
    }

    /// The stack of a stopped task if it equals a recent one that did not depend on the frame pointer,
    /// which costs an extra call to read. For the arguments see [`unwind`](Unwinder::unwind).
    pub fn recent(
        &mut self,
        process: i32,
        ip: u64,
        sp: u64,
        read: &mut dyn FnMut(u64, &mut [u8]) -> usize,
    ) -> Option<StackId> {
        let space = self.processes.get(&process)?.space.id;
        self.memory.begin(sp);
        self.known.find(space, (ip, sp), None, &mut self.memory, read)
    }

    /// The stack of a stopped task of a process. `process` is the id of the process, not of the thread.
    /// `read` copies memory of the process to the slice and returns how many bytes it could read.
    ///
    /// The result is [`StackId::NONE`] if nothing is known, not even the code of the innermost frame.
    pub fn unwind(
        &mut self,
        process: i32,
        registers: Registers,
        read: &mut dyn FnMut(u64, &mut [u8]) -> usize,
        stacks: &mut Stacks,
    ) -> StackId {
        self.memory.begin(registers.sp);
        let Some(space) = self.space(process) else {
            self.failures += 1;
            return StackId::NONE;
        };
        let place = (registers.ip, registers.sp);
        if let Some(id) =
            self.known.find(space.id, place, Some(registers.bp), &mut self.memory, read)
        {
            return id;
        }
        self.trail.clear();
        self.frames.clear();
        let is_complete = self.walk(process, space, registers, read, stacks);
        if !is_complete {
            self.failures += 1;
        }
        for (number, file) in self.files.take_kept() {
            let id = self.files.id(number, stacks);
            stacks.keep_file(id, file);
        }
        let id = stacks.intern(&self.frames);
        if let (true, Some(process)) = (is_complete, self.processes.get(&process)) {
            self.known.keep(process.space.id, &registers, &self.trail, id);
        }
        id
    }

    /// A process was forked, or shares the memory of its parent: its code is the parent's.
    pub fn forked(&mut self, parent: i32, child: i32) {
        if let Some(process) = self.processes.get(&parent) {
            let child_process = Process { generated: FxHashSet::default(), ..process.clone() };
            self.processes.insert(child, child_process);
        } else {
            // An earlier process may have had its number.
            self.processes.remove(&child);
        }
    }

    /// A process runs another program.
    pub fn executed(&mut self, process: i32) {
        self.processes.remove(&process);
    }

    /// A process is about to end: names the generated code on its stacks, from its perf map, which may
    /// vanish with it.
    pub fn ending(&mut self, process: i32, stacks: &mut Stacks) {
        let Some(known) = self.processes.get_mut(&process) else { return };
        let addresses: Vec<_> = known.generated.drain().collect();
        for (address, name) in perf_map::names(process, &addresses) {
            stacks.name_generated(process, address, name);
        }
    }

    /// A process ended.
    pub fn ended(&mut self, process: i32) {
        self.processes.remove(&process);
    }

    /// How many stacks could not be unwound to the start of their thread.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Which files could not be read for unwinding, and why. Escaped.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        self.files.notes()
    }

    fn space(&mut self, process: i32) -> Option<Rc<Space>> {
        if let Some(known) = self.processes.get(&process) {
            return Some(Rc::clone(&known.space));
        }
        self.spaces += 1;
        let space = Rc::new(Space::read(process, self.spaces, &mut self.files, None)?);
        let entry = Process {
            space: Rc::clone(&space),
            skips: 0,
            skipped: 0,
            generated: FxHashSet::default(),
        };
        self.processes.insert(process, entry);
        Some(space)
    }

    /// The mapping of an address. If it is in none, the process may have new ones.
    fn mapping(&mut self, process: i32, space: &mut Rc<Space>, address: u64) -> Option<Mapping> {
        if let Some(mapping) = space.find(address) {
            return Some(mapping.clone());
        }
        let known = self.processes.get_mut(&process)?;
        if known.skips > 0 {
            known.skips -= 1;
            return None;
        }
        self.spaces += 1;
        let next = Space::read(process, self.spaces, &mut self.files, Some(space))?;
        let found = next.find(address).cloned();
        match found {
            Some(_) => (known.skips, known.skipped) = (0, 0),
            None => {
                known.skipped = (known.skipped * 2 + 1).min(SKIPPED_MAX);
                known.skips = known.skipped;
            }
        }
        if found.is_some() {
            known.space = Rc::new(next);
            *space = Rc::clone(&known.space);
        }
        found
    }

    /// Fills `frames`; whether it reached the start of the thread or the maximum number of frames.
    fn walk(
        &mut self,
        process: i32,
        mut space: Rc<Space>,
        registers: Registers,
        read: &mut Read<'_>,
        stacks: &mut Stacks,
    ) -> bool {
        let mut now = UnwindRegsX86_64::new(registers.ip, registers.sp, registers.bp);
        let mut found = Found::Innermost;
        loop {
            // A return address is after the call, perhaps in the next function.
            let address = now.ip().wrapping_sub(u64::from(found != Found::Innermost));
            let Some(mapping) = self.mapping(process, &mut space, address) else { return false };
            self.push(process, &mapping, address, found, stacks);
            if self.frames.len() == FRAMES_MAX {
                return true;
            }
            let before = now;
            let start = self.trail.len();
            found = match self.step(process, &mapping, found, &mut now, read) {
                Step::End => return true,
                // What is on the stack of a new program instead: the number of its arguments.
                Step::Caller if now.ip() < LOWEST_ADDRESS => return true,
                Step::Caller if self.is_code(process, &mut space, now.ip()) => Found::Caller,
                // Its address is that of the next instruction, as the innermost one's is.
                Step::Interrupted => Found::Innermost,
                // Its table is wrong, or its stack is damaged.
                Step::Caller | Step::Failed => {
                    now = before;
                    self.trail.cut(start);
                    match self.guess(process, &mut space, found, &mut now, read) {
                        Some(guess) => guess,
                        None => return self.ends(process, &mapping, now),
                    }
                }
            };
            self.trail.end_step(start);
            // A signal handler may have another stack.
            if now.sp() <= before.sp() && found != Found::Innermost {
                return false;
            }
        }
    }

    /// A step with the table of the file; `Failed` if there is none.
    fn step(
        &mut self,
        process: i32,
        mapping: &Mapping,
        found: Found,
        now: &mut UnwindRegsX86_64,
        read: &mut Read<'_>,
    ) -> Step {
        let Some(number) = mapping.file else { return Step::Failed };
        let is_innermost = found == Found::Innermost;
        let address = now.ip().wrapping_sub(u64::from(!is_innermost));
        let offset = address.wrapping_add(mapping.shift);
        let facts = self.files.facts(number, offset, process, &mapping.range);
        if facts.is_some_and(|facts| facts.is_start) {
            return Step::End;
        }
        let Some((facts, (table, entry))) = facts.and_then(|it| Some((it, it.entry?))) else {
            return Step::Failed;
        };
        match entry {
            Entry::ByStack => {}
            Entry::ByPointer => self.trail.uses_pointer(),
            Entry::Signal => return self.interrupted(now, read),
            Entry::Realigned { offset } => {
                return self.realigned(offset, now, read).unwrap_or(Step::Failed);
            }
        }
        let Some(table) = self.files.table(number, table) else { return Step::Failed };
        let (memory, trail) = (&mut self.memory, &mut self.trail);
        let stated = facts.address.wrapping_add(u64::from(!is_innermost));
        table.step(stated, is_innermost, now, &mut |address| {
            let word = memory.word(address, read);
            trail.push(address, word);
            word
        })
    }

    /// Goes from the return of a signal handler to the function that was interrupted: the kernel has
    /// put its registers on the stack, as `struct ucontext` has them.
    fn interrupted(&mut self, now: &mut UnwindRegsX86_64, read: &mut Read<'_>) -> Step {
        let context = now.sp();
        let mut word = |offset| {
            let address = context.checked_add(offset)?;
            let word = self.memory.word(address, read);
            self.trail.push(address, word);
            if offset == CONTEXT_SP {
                self.trail.last_decides();
            }
            word
        };
        let (Some(sp), Some(bp), Some(ip)) = (word(CONTEXT_SP), word(CONTEXT_BP), word(CONTEXT_IP))
        else {
            return Step::Failed;
        };
        now.set_sp(sp);
        now.set_bp(bp);
        now.set_ip(ip);
        Step::Interrupted
    }

    /// Goes to the caller of a function that has aligned its stack, which framehop cannot, because it
    /// reads no memory for the address of a frame.
    fn realigned(
        &mut self,
        offset: i64,
        now: &mut UnwindRegsX86_64,
        read: &mut Read<'_>,
    ) -> Option<Step> {
        self.trail.uses_pointer();
        let mut word = |address| {
            let word = self.memory.word(address, read);
            self.trail.push(address, word);
            self.trail.last_decides();
            word
        };
        let caller = word(now.bp().checked_add_signed(offset)?)?;
        let pointer = word(now.bp())?;
        let ip = word(caller.checked_sub(8)?)?;
        now.set_sp(caller);
        now.set_bp(pointer);
        now.set_ip(ip);
        Some(Step::Caller)
    }

    fn push(
        &mut self,
        process: i32,
        mapping: &Mapping,
        address: u64,
        found: Found,
        stacks: &mut Stacks,
    ) {
        let frame = match mapping.file {
            Some(number) => Frame::File {
                module: self.files.id(number, stacks),
                offset: address.wrapping_add(mapping.shift),
                is_guessed: found == Found::Guess,
            },
            None => {
                if let Some(known) = self.processes.get_mut(&process)
                    && known.generated.len() < GENERATED_MAX
                {
                    known.generated.insert(address);
                }
                Frame::Generated { process, address }
            }
        };
        self.frames.push(frame);
    }

    /// Whether an address is in code.
    fn is_code(&mut self, process: i32, space: &mut Rc<Space>, address: u64) -> bool {
        self.mapping(process, space, address.wrapping_sub(1)).is_some()
    }

    /// Whether a stack without a further return address may end in a mapping: code without a table, whose
    /// first function has no caller.
    fn ends(&mut self, process: i32, mapping: &Mapping, now: UnwindRegsX86_64) -> bool {
        let Some(number) = mapping.file else { return false };
        let offset = now.ip().wrapping_sub(1).wrapping_add(mapping.shift);
        let facts = self.files.facts(number, offset, process, &mapping.range);
        facts.is_some_and(|facts| facts.entry.is_none())
    }
}

#[cfg(test)]
mod tests;
