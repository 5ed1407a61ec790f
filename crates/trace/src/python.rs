//! The Python frames of a task: function, file and line, out of the memory of a stopped process.
//!
//! The frames are those of CPython 3.11 to 3.15: `_PyRuntime` leads to the interpreters, their lists of
//! thread states lead to the task, by the kernel's id of the thread, and a thread state leads to the
//! frames. Nothing runs in the process. A program in which no interpreter is found costs one look at
//! its executable and a few at its mappings.
//!
//! Limits: later versions, and versions before 3.11, have no frames. Frames that a compiler such as
//! Numba or Cython made are no Python frames. A line is the one of the instruction that made the call.
//!
//! Everything that is read is untrusted: lengths, counts and cycles are limited, and a defect costs
//! frames.

use rustc_hash::FxHashMap;

use crate::stack::{Frame, Stacks};
use code::{Codes, Resolved, Shared};
use locate::{Images, Interpreter, Located};
pub use memory::Memory;
use walk::{Thread, Windows};

mod code;
mod image;
mod layout;
mod line_table;
mod locate;
mod memory;
#[cfg(test)]
mod tests;
mod walk;

/// The largest number of Python frames of a stack.
pub const FRAMES_MAX: usize = 32;

/// The stop at which a program that is no Python is looked at again, because it may have loaded a
/// library; then after twice as many, and so on. [`PythonReader::opened`] makes it earlier.
const SECOND_LOOK: u32 = 64;

/// The number of stops at which a thread without Python frames is not looked for: at most.
const REST_MAX: u32 = 64;

/// The number of tasks of a process that are remembered.
const TASKS_MAX: usize = 8192;

/// Reads the Python frames of the tasks of all traced processes.
///
/// All frames of a reader belong to one [`Stacks`].
#[derive(Debug, Default)]
pub struct PythonReader {
    processes: FxHashMap<i32, Process>,
    images: Images,
    shared: Shared,
    windows: Windows,
}

/// What is known about one process.
#[derive(Clone, Debug, Default)]
struct Process {
    search: Search,
    tasks: FxHashMap<i32, Task>,
    codes: Codes,
}

/// How far the search for an interpreter is.
#[derive(Clone, Debug)]
enum Search {
    /// Not found so far: the number of stops since the start of the program, and at which to look.
    Open {
        stops: u32,
        next: u32,
    },
    Found(Interpreter),
    Unsupported,
}

impl Default for Search {
    fn default() -> Search {
        Search::Open { stops: 0, next: 0 }
    }
}

/// What is known about one task.
#[derive(Clone, Debug)]
struct Task {
    /// The thread state; 0 while none is known.
    thread: u64,
    /// The id in the thread state: in another PID namespace, and after a fork, it is another one.
    native_id: u64,
    /// The number of stops at which the state is not looked for, and at how many the last time.
    rest: u32,
    next_rest: u32,
    /// The frames of the last stop.
    last: Vec<Resolved>,
}

impl PythonReader {
    /// No processes.
    #[must_use]
    pub fn new() -> PythonReader {
        PythonReader::default()
    }

    /// The Python frames of a stopped task, innermost first, at most [`FRAMES_MAX`]; empty where there
    /// are none. `process` is the id of its process.
    pub fn frames(
        &mut self,
        process: i32,
        task: i32,
        memory: &mut dyn Memory,
        stacks: &mut Stacks,
    ) -> Vec<Frame> {
        let known = self.processes.entry(process).or_default();
        let Some(interpreter) = known.interpreter(process, &mut self.images, memory) else {
            return Vec::new();
        };
        let Some(thread) = known.thread(process, task, &interpreter, memory) else {
            return Vec::new();
        };
        let layout = &*interpreter.layout;
        let sites = walk::sites(&thread, layout, FRAMES_MAX, &mut self.windows, memory);
        let Process { tasks, codes, .. } = known;
        let Some(task) = tasks.get_mut(&task) else { return Vec::new() };
        codes.resolve(&sites, &mut task.last, layout, memory, &mut self.shared, stacks)
    }

    /// The process runs another program.
    pub fn executed(&mut self, process: i32) {
        self.processes.remove(&process);
    }

    /// A task of the process `parent` has created the process `child`, by `fork` or `vfork`: until the
    /// child's interpreter knows, its thread state has the id of that task.
    pub fn forked(&mut self, parent: i32, task: i32, child: i32) {
        let Some(known) = self.processes.get(&parent) else { return };
        let mut copy = known.clone();
        let former = copy.tasks.remove(&task);
        copy.tasks.clear();
        copy.tasks.insert(child, former.unwrap_or_else(|| Task::new(task)));
        self.processes.insert(child, copy);
    }

    /// The process has opened a file: if it is a library of Python, the interpreter is there soon.
    pub fn opened(&mut self, process: i32, path: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !locate::is_python(name) {
            return;
        }
        if let Some(Process { search: Search::Open { stops, next }, .. }) =
            self.processes.get_mut(&process)
        {
            // The library is mapped by some of the next calls.
            (*stops, *next) = (1, 1);
        }
    }

    /// The process is gone.
    pub fn ended(&mut self, process: i32) {
        self.processes.remove(&process);
    }
}

impl Process {
    fn interpreter(
        &mut self,
        process: i32,
        images: &mut Images,
        memory: &mut dyn Memory,
    ) -> Option<Interpreter> {
        let Search::Open { stops, next } = &mut self.search else {
            return match &self.search {
                Search::Found(interpreter) => Some(interpreter.clone()),
                _ => None,
            };
        };
        *stops = stops.saturating_add(1);
        if *stops <= *next {
            return None;
        }
        match images.locate(process, memory) {
            Located::Found(interpreter) => {
                self.search = Search::Found(interpreter.clone());
                return Some(interpreter);
            }
            Located::Unsupported => self.search = Search::Unsupported,
            // The linker loads the library within the first stops.
            Located::Missing { is_expected: true } if *stops < SECOND_LOOK => *next = *stops,
            Located::Missing { .. } => *next = stops.saturating_mul(2).max(SECOND_LOOK),
        }
        None
    }

    /// The state of a task's thread, if it runs Python functions.
    fn thread(
        &mut self,
        process: i32,
        task: i32,
        interpreter: &Interpreter,
        memory: &mut dyn Memory,
    ) -> Option<Thread> {
        if self.tasks.len() >= TASKS_MAX && !self.tasks.contains_key(&task) {
            self.tasks.clear();
        }
        let known = self.tasks.entry(task).or_insert_with(|| Task::new(task));
        let layout = &*interpreter.layout;
        let own = task as u64;
        let read = |address, memory: &mut dyn Memory| {
            Thread::read(address, layout, memory).filter(|thread| thread.current_frame != 0)
        };
        if known.thread != 0
            && let Some(thread) = read(known.thread, memory)
            && (thread.native_thread_id == known.native_id || thread.native_thread_id == own)
        {
            known.native_id = thread.native_thread_id;
            return Some(thread);
        }
        if known.rest > 0 {
            known.rest -= 1;
            return None;
        }
        let ids = [known.native_id, own];
        let found = ids.into_iter().chain(inner_id(process, task)).find_map(|id| {
            let address = walk::find_thread(interpreter, id, memory)?;
            read(address, memory).map(|thread| (address, thread))
        });
        match found {
            Some((address, thread)) => {
                *known = Task::new(task);
                (known.thread, known.native_id) = (address, thread.native_thread_id);
                Some(thread)
            }
            None => {
                known.rest = known.next_rest;
                known.next_rest = (known.next_rest * 2).clamp(1, REST_MAX);
                None
            }
        }
    }
}

impl Task {
    fn new(id: i32) -> Task {
        Task { thread: 0, native_id: id as u64, rest: 0, next_rest: 0, last: Vec::new() }
    }
}

/// The id of a task in its own PID namespace, if that is another one.
fn inner_id(process: i32, task: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/task/{task}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let inner = ids.split_ascii_whitespace().next_back()?.parse().ok()?;
    (inner != task as u64).then_some(inner)
}
