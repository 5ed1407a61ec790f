//! From the interpreter to the thread state of a task, and from there along its frames.

use super::code::Site;
use super::layout::Layout;
use super::locate::Interpreter;
use super::memory::{Memory, fill, half_at, word, word_at};

/// The number of interpreters of a process that are looked at.
const INTERPRETERS_MAX: usize = 256;

/// The number of thread states of an interpreter that are looked at.
const THREADS_MAX: usize = 8192;

/// The number of frames that are looked at. Frames of the interpreter itself are not returned.
const STEPS_MAX: usize = 128;

/// The size of a page, in bytes.
const PAGE: u64 = 4096;

/// The memory that is read with a frame, in bytes: its callers are usually near it.
const NEAR: u64 = 2048;

/// The size of a window, in bytes.
const WINDOW_MAX: usize = 2 * PAGE as usize;

/// The size of a part of the interpreter's own stack, in bytes.
const STACK_PART: u64 = 16 << 10;

/// The number of the first owner of a frame that is no Python function: the interpreter itself.
const OWNER_INTERPRETER: u8 = 3;

/// The size of the largest part of a structure that is read, in bytes.
const PART_MAX: usize = 2048;

/// The address of the state of the thread with this id.
pub(super) fn find_thread(
    interpreter: &Interpreter,
    native_thread_id: u64,
    memory: &mut dyn Memory,
) -> Option<u64> {
    let layout = &*interpreter.layout;
    let mut idle = None;
    let mut state = word(memory, interpreter.runtime.checked_add(layout.interpreters_head)?)?;
    for _ in 0..INTERPRETERS_MAX {
        let Some(head) = state.checked_add(layout.threads_head).filter(|_| state != 0) else {
            break;
        };
        let mut thread = word(memory, head).unwrap_or(0);
        for _ in 0..THREADS_MAX {
            let Some(seen) = Thread::read(thread, layout, memory) else { break };
            if seen.native_thread_id == native_thread_id {
                // A thread has a state in each interpreter that it has run; one of them has frames.
                match seen.current_frame {
                    0 => idle = Some(thread),
                    _ => return Some(thread),
                }
            }
            thread = seen.next;
        }
        let next = state.checked_add(layout.interpreter_next)?;
        state = word(memory, next).unwrap_or(0);
    }
    idle
}

/// What a thread state says.
pub(super) struct Thread {
    /// The kernel's id of the thread.
    pub native_thread_id: u64,
    /// The field of the current frame; 0 outside of Python code.
    pub current_frame: u64,
    next: u64,
}

impl Thread {
    /// Reads a thread state.
    pub(super) fn read(address: u64, layout: &Layout, memory: &mut dyn Memory) -> Option<Thread> {
        let mut buffer = [0; PART_MAX];
        let bytes = buffer.get_mut(..layout.thread_size())?;
        fill(memory, address, bytes)?;
        Some(Thread {
            native_thread_id: word_at(bytes, layout.native_thread_id)?,
            current_frame: word_at(bytes, layout.current_frame)?,
            next: word_at(bytes, layout.thread_next)?,
        })
    }
}

/// The places of a thread's Python functions, innermost first, at most `frames_max`.
pub(super) fn sites(
    thread: &Thread,
    layout: &Layout,
    frames_max: usize,
    windows: &mut Windows,
    memory: &mut dyn Memory,
) -> Vec<Site> {
    let mut sites = Vec::with_capacity(frames_max);
    windows.forget();
    let mut address = match layout.frame_of_cframe {
        None => thread.current_frame,
        Some(offset) if thread.current_frame != 0 => {
            word(memory, thread.current_frame.wrapping_add(offset)).unwrap_or(0)
        }
        Some(_) => 0,
    };
    // Each address is compared with one of an earlier step, at powers of two: a cycle ends there.
    let mut mark = 0;
    for step in 1..=STEPS_MAX {
        if address == 0 || address == mark || sites.len() >= frames_max {
            break;
        }
        if step.is_power_of_two() {
            mark = address;
        }
        let Some(frame) = windows.get(address, layout.frame_size(), memory) else { break };
        let Some((site, is_function, previous)) = parse(address, frame, layout) else { break };
        if is_function {
            sites.push(site);
        }
        address = previous;
    }
    sites
}

fn parse(address: u64, frame: &[u8], layout: &Layout) -> Option<(Site, bool, u64)> {
    let site = Site {
        frame: address,
        // The lowest bits of a reference from the stack are flags.
        code: word_at(frame, layout.frame_code)? & !7,
        instruction: word_at(frame, layout.frame_instruction)?,
        copy: match layout.thread_code {
            Some((index, _)) => half_at(frame, index)?,
            None => 0,
        },
    };
    let owner = *frame.get(layout.frame_owner)?;
    let is_function = owner < OWNER_INTERPRETER && site.code != 0;
    Some((site, is_function, word_at(frame, layout.frame_previous)?))
}

/// Copies of memory that several frames share: the interpreter's own stack, whose callers are below,
/// and the stack of the thread, where callers are above. Frames of generators are elsewhere.
#[derive(Debug, Default)]
pub(super) struct Windows {
    below: Window,
    above: Window,
}

impl Windows {
    fn forget(&mut self) {
        self.below.length = 0;
        self.above.length = 0;
    }

    /// The bytes at an address, which are read if no window contains them.
    fn get(&mut self, address: u64, size: usize, memory: &mut dyn Memory) -> Option<&[u8]> {
        let end = address.checked_add(size as u64)?;
        if self.below.contains(address, end) {
            return self.below.part(address, size);
        }
        if self.above.contains(address, end) {
            return self.above.part(address, size);
        }
        // The next page may not be mapped; that of the frame is.
        if self.below.length == 0 || self.below.start.wrapping_sub(address) < STACK_PART {
            let wide = address.saturating_sub(NEAR).max(1);
            let narrow = wide.max(address & !(PAGE - 1));
            if self.below.read(wide, end, memory).is_none() {
                self.below.read(narrow, end, memory)?;
            }
            return self.below.part(address, size);
        }
        if self.above.read(address, end.saturating_add(NEAR), memory).is_none() {
            self.above.read(address, end, memory)?;
        }
        self.above.part(address, size)
    }
}

/// A copy of a part of the memory.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    length: usize,
    bytes: Vec<u8>,
}

impl Window {
    fn contains(&self, start: u64, end: u64) -> bool {
        start >= self.start && end <= self.start.saturating_add(self.length as u64)
    }

    fn part(&self, address: u64, size: usize) -> Option<&[u8]> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get(offset..offset.checked_add(size)?)
    }

    fn read(&mut self, start: u64, end: u64, memory: &mut dyn Memory) -> Option<()> {
        self.length = 0;
        let length = usize::try_from(end.checked_sub(start)?).ok()?;
        if length > WINDOW_MAX {
            return None;
        }
        self.bytes.resize(WINDOW_MAX, 0);
        fill(memory, start, &mut self.bytes[..length])?;
        (self.start, self.length) = (start, length);
        Some(())
    }
}
