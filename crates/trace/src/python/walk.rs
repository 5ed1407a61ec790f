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

/// The memory that is read with a frame, in bytes: its callers are usually below it.
const BELOW: u64 = 2048;

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
    memory: &mut dyn Memory,
) -> Vec<Site> {
    let mut sites = Vec::new();
    let mut address = match layout.frame_of_cframe {
        None => thread.current_frame,
        Some(offset) if thread.current_frame != 0 => {
            word(memory, thread.current_frame.wrapping_add(offset)).unwrap_or(0)
        }
        Some(_) => 0,
    };
    let mut window = Window::default();
    // Each address is compared with one of an earlier step, at powers of two: a cycle ends there.
    let mut mark = 0;
    for step in 1..=STEPS_MAX {
        if address == 0 || address == mark || sites.len() >= frames_max {
            break;
        }
        if step.is_power_of_two() {
            mark = address;
        }
        let Some(frame) = window.get(address, layout.frame_size(), memory) else { break };
        let Some((site, is_function, previous)) = parse(frame, layout) else { break };
        if is_function {
            sites.push(site);
        }
        address = previous;
    }
    sites
}

fn parse(frame: &[u8], layout: &Layout) -> Option<(Site, bool, u64)> {
    let site = Site {
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

/// A copy of a part of the memory that several frames share.
struct Window {
    start: u64,
    length: usize,
    bytes: [u8; (2 * PAGE) as usize],
}

impl Default for Window {
    fn default() -> Window {
        Window { start: 0, length: 0, bytes: [0; (2 * PAGE) as usize] }
    }
}

impl Window {
    /// The bytes at an address, which are read if the window does not contain them.
    fn get(&mut self, address: u64, size: usize, memory: &mut dyn Memory) -> Option<&[u8]> {
        let end = address.checked_add(size as u64)?;
        let is_inside =
            address >= self.start && end <= self.start.saturating_add(self.length as u64);
        if !is_inside {
            let wide = address.saturating_sub(BELOW).max(1);
            // The page below may not be mapped; that of the frame is.
            let narrow = wide.max(address & !(PAGE - 1));
            self.read(wide, end, memory).or_else(|| match wide == narrow {
                true => None,
                false => self.read(narrow, end, memory),
            })?;
        }
        let offset = (address - self.start) as usize;
        self.bytes.get(offset..offset + size)
    }

    fn read(&mut self, start: u64, end: u64, memory: &mut dyn Memory) -> Option<()> {
        let length = usize::try_from(end.checked_sub(start)?).ok()?;
        self.length = 0;
        fill(memory, start, self.bytes.get_mut(..length)?)?;
        (self.start, self.length) = (start, length);
        Some(())
    }
}
