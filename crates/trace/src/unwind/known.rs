//! Recent stacks, so that an equal one is recognized without unwinding it.
//!
//! An unwinding depends on the registers, the code and the words that it read. If the innermost frame and
//! the stack pointer are those of a recent stack, and each word that decided about a frame is unchanged,
//! the stack is the same. Words that were only saved frame pointers count if a later step used them.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::Registers;
use super::memory::{Memory, Read};
use crate::stack::StackId;

/// The number of stacks that are kept.
const KEPT: usize = 1024;

/// The maximum number of words of a kept stack: two for each frame.
const WORDS_MAX: usize = 128;

/// The maximum distance of a word from the stack pointer.
const DISTANCE_MAX: u64 = 16 << 10;

/// One word that the unwinding read.
#[derive(Clone, Copy, Debug)]
struct Word {
    address: u64,
    value: u64,
    decides: bool,
}

/// The words of the stack that is being unwound.
#[derive(Default)]
pub(super) struct Trail {
    words: Vec<Word>,
    /// Where the frame pointer of the current frame was saved; `None`: it is still the register's.
    pointer: Option<usize>,
    depends_on_register: bool,
    is_lost: bool,
}

impl Trail {
    pub(super) fn clear(&mut self) {
        self.words.clear();
        (self.pointer, self.depends_on_register, self.is_lost) = (None, false, false);
    }

    /// How many words were read so far.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn push(&mut self, address: u64, value: Option<u64>) {
        match value {
            Some(value) => self.words.push(Word { address, value, decides: false }),
            None => self.is_lost = true,
        }
    }

    /// The last word decides, whatever follows.
    pub(super) fn last_decides(&mut self) {
        if let Some(word) = self.words.last_mut() {
            word.decides = true;
        }
    }

    /// Forgets the words from `length` on: a guess was wrong.
    pub(super) fn cut(&mut self, length: usize) {
        self.words.truncate(length);
    }

    /// The frame pointer decides about the next step.
    pub(super) fn uses_pointer(&mut self) {
        match self.pointer {
            Some(index) => self.words[index].decides = true,
            None => self.depends_on_register = true,
        }
    }

    /// A step ends that began at `start`: the last word that it read is the return address, and one
    /// before it is the saved frame pointer.
    pub(super) fn end_step(&mut self, start: usize) {
        let Some(last) = self.words.len().checked_sub(1).filter(|last| *last >= start) else {
            return;
        };
        self.words[last].decides = true;
        if last > start {
            self.pointer = Some(last - 1);
        }
    }
}

struct Stack {
    space: u64,
    ip: u64,
    sp: u64,
    bp: Option<u64>,
    /// Distances from the stack pointer, and values.
    words: Box<[(u32, u64)]>,
    /// How many bytes from the stack pointer on the words need.
    length: usize,
    id: StackId,
}

/// The recent stacks.
pub(super) struct KnownStacks {
    stacks: Vec<Option<Stack>>,
}

impl KnownStacks {
    pub(super) fn new() -> KnownStacks {
        KnownStacks { stacks: std::iter::repeat_with(|| None).take(KEPT).collect() }
    }

    /// The number of the stack if it equals a recent one. It makes one read of memory. Without a frame
    /// pointer, only stacks that do not depend on it are found.
    pub(super) fn find(
        &self,
        space: u64,
        (ip, sp): (u64, u64),
        bp: Option<u64>,
        memory: &mut Memory,
        read: &mut Read<'_>,
    ) -> Option<StackId> {
        let stack = self.stacks[slot(space, ip, sp)].as_ref()?;
        let is_candidate = stack.space == space
            && (stack.ip, stack.sp) == (ip, sp)
            && stack.bp.is_none_or(|needed| bp == Some(needed));
        if !is_candidate {
            return None;
        }
        let bytes = memory.near(stack.length, read);
        let is_equal = stack.words.iter().all(|(distance, value)| {
            let word = bytes.get(*distance as usize..).and_then(<[u8]>::first_chunk::<8>);
            word.is_some_and(|word| u64::from_le_bytes(*word) == *value)
        });
        is_equal.then_some(stack.id)
    }

    /// Keeps a stack, in place of another one.
    pub(super) fn keep(&mut self, space: u64, registers: &Registers, trail: &Trail, id: StackId) {
        let deciding = trail.words.iter().filter(|word| word.decides);
        let distance = |address: u64| {
            let distance = address.checked_sub(registers.sp).filter(|it| *it <= DISTANCE_MAX);
            distance.map(|distance| distance as u32)
        };
        let words = deciding.map(|word| Some((distance(word.address)?, word.value)));
        let words: Option<Box<[_]>> = words.collect();
        let Some(words) = words.filter(|it| !trail.is_lost && it.len() <= WORDS_MAX) else {
            return;
        };
        let length = words.iter().map(|(distance, _)| *distance as usize + 8).max();
        self.stacks[slot(space, registers.ip, registers.sp)] = Some(Stack {
            space,
            ip: registers.ip,
            sp: registers.sp,
            bp: trail.depends_on_register.then_some(registers.bp),
            words,
            length: length.unwrap_or(0),
            id,
        });
    }
}

fn slot(space: u64, ip: u64, sp: u64) -> usize {
    let mut hasher = FxHasher::default();
    (space, ip, sp).hash(&mut hasher);
    (hasher.finish() >> 32) as usize % KEPT
}
