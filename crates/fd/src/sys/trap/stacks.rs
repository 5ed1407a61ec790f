//! Recorded calls: a trace with its stack while the handler runs, and its short form in the table,
//! where equal stacks and threads are stored once.

use crate::escape;

use super::opened_kind::{KindCode, OpenedKind};

/// The maximum number of frames per stack. A test's frames are within it; the outer ones belong to
/// the harness.
pub(super) const FRAMES_MAX: usize = 32;

/// The memory for stacks, in addresses: about 40,000 different stacks. Further ones are recorded
/// without their frames.
const WORDS_MAX: usize = 1 << 20;

/// The words in front of the addresses of a stack.
const HEADER: usize = 2;

/// The length of the index of stacks, a power of two.
const STACKS_MAX: usize = 1 << 16;

/// The length of the index of threads, a power of two.
const THREADS_MAX: usize = 1 << 12;

/// The record of one call.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    call: i64,
    thread: u32,
    kind: OpenedKind,
    length: usize,
    name: [u8; 16],
    addresses: [usize; FRAMES_MAX],
}

impl Trace {
    pub(super) fn new(call: i64, thread: u32, name: [u8; 16]) -> Trace {
        let kind = OpenedKind::Known(KindCode::UNKNOWN);
        Trace { call, thread, kind, length: 0, name, addresses: [0; FRAMES_MAX] }
    }

    /// Adds the next outer frame. Returns false if the stack is full.
    pub(super) fn push(&mut self, address: usize) -> bool {
        if let Some(place) = self.addresses.get_mut(self.length) {
            *place = address;
            self.length += 1;
        }
        self.length < FRAMES_MAX
    }

    pub(super) fn call(&self) -> i64 {
        self.call
    }

    /// The kind of what the call opens.
    pub(super) fn kind(&self) -> OpenedKind {
        self.kind
    }

    pub(super) fn set_kind(&mut self, kind: OpenedKind) {
        self.kind = kind;
    }

    pub(super) fn thread(&self) -> u32 {
        self.thread
    }

    pub(super) fn thread_name(&self) -> String {
        let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(self.name.len());
        escape::bytes(&self.name[..end]).into_owned()
    }

    pub(super) fn addresses(&self) -> &[usize] {
        &self.addresses[..self.length]
    }
}

/// A recorded call in the table. Zero in all fields means none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// The system call's number, plus one.
    call: u16,
    /// The position in [`Stacks::threads`], plus one; 0 if there is no memory left.
    thread: u16,
    /// The position in [`Stacks::words`], plus one; 0 if there is no memory left.
    stack: u32,
}

impl Call {
    pub(super) const NONE: Call = Call { call: 0, thread: 0, stack: 0 };

    pub(super) fn is_some(self) -> bool {
        self.call != 0
    }

    /// Whether both calls were made by the same thread at the same place.
    pub(super) fn is_alike(self, other: Call) -> bool {
        self == other && self.stack != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Thread {
    id: u32,
    name: [u8; 16],
}

/// The stored stacks and threads. Valid if all bytes are zero.
pub(super) struct Stacks {
    /// Positions in `words`, plus one, by hash.
    index: [u32; STACKS_MAX],
    /// For each stack, its length, the number of its openings, and then its addresses.
    words: [usize; WORDS_MAX],
    used: usize,
    /// By hash.
    threads: [Thread; THREADS_MAX],
}

impl Stacks {
    pub(super) fn store(&mut self, trace: &Trace) -> Call {
        Call {
            call: u16::try_from(trace.call).map_or(0, |call| call.saturating_add(1)),
            thread: self.store_thread(Thread { id: trace.thread, name: trace.name }),
            stack: self.store_stack(trace.addresses()),
        }
    }

    /// The trace of a stored call.
    pub(super) fn trace(&self, call: Call) -> Option<Trace> {
        if !call.is_some() {
            return None;
        }
        let thread = usize::from(call.thread).checked_sub(1).map(|at| self.threads[at]);
        let thread = thread.unwrap_or(Thread { id: 0, name: [0; 16] });
        let mut trace = Trace::new(i64::from(call.call) - 1, thread.id, thread.name);
        if let Some(at) = (call.stack as usize).checked_sub(1) {
            let addresses = self.addresses(at);
            trace.addresses[..addresses.len()].copy_from_slice(addresses);
            trace.length = addresses.len();
        }
        Some(trace)
    }

    /// Counts an opening by a stored call.
    pub(super) fn count_opening(&mut self, call: Call) {
        if let Some(at) = (call.stack as usize).checked_sub(1) {
            self.words[at + 1] += 1;
        }
    }

    /// The number of openings under a stack so far.
    pub(super) fn openings(&self, addresses: &[usize]) -> usize {
        let stored = self.entries(addresses).map(|entry| self.index[entry] as usize);
        let mut stored = stored.map_while(|position| position.checked_sub(1));
        let found = stored.find(|&at| self.addresses(at) == addresses);
        found.map_or(0, |at| self.words[at + 1])
    }

    fn addresses(&self, at: usize) -> &[usize] {
        &self.words[at + HEADER..at + HEADER + self.words[at]]
    }

    /// The entries of the index in which a stack can be, in order.
    fn entries(&self, addresses: &[usize]) -> impl Iterator<Item = usize> {
        let words = addresses.iter().map(|&address| address as u64);
        let begin = hash(words) as usize % STACKS_MAX;
        (0..STACKS_MAX).map(move |probe| (begin + probe) % STACKS_MAX)
    }

    fn store_stack(&mut self, addresses: &[usize]) -> u32 {
        for entry in self.entries(addresses) {
            if let Some(at) = (self.index[entry] as usize).checked_sub(1) {
                if self.addresses(at) == addresses {
                    return self.index[entry];
                }
                continue;
            }
            let (at, length) = (self.used, HEADER + addresses.len());
            let Some(free) = self.words.get_mut(at..at + length) else { return 0 };
            (free[0], free[1]) = (addresses.len(), 0);
            free[HEADER..].copy_from_slice(addresses);
            self.used += length;
            self.index[entry] = (at + 1) as u32;
            return self.index[entry];
        }
        0
    }

    fn store_thread(&mut self, thread: Thread) -> u16 {
        let name = u128::from_ne_bytes(thread.name);
        let words = [u64::from(thread.id), name as u64, (name >> 64) as u64];
        let begin = hash(words.into_iter()) as usize % THREADS_MAX;
        for probe in 0..THREADS_MAX {
            let entry = (begin + probe) % THREADS_MAX;
            if self.threads[entry].id == 0 {
                self.threads[entry] = thread;
            }
            if self.threads[entry] == thread {
                return (entry + 1) as u16;
            }
        }
        0
    }
}

/// FNV-1a over words, with the upper bits folded into the lower ones.
fn hash(words: impl Iterator<Item = u64>) -> u64 {
    let all = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
    });
    all ^ (all >> 32)
}
