//! The tracer: runs a command under ptrace and a seccomp filter, and makes events of its stops.
//!
//! One thread waits for all tasks. A task stops when it is about to make one of the calls in the table
//! of [`calls`], is resumed at once where the result is known or can be looked up later,
//! and otherwise stops once more when the call has returned.
//!
//! Why a result can be looked up later: where one task uses a table, `open` returns the lowest free
//! number or fails. So whether it succeeded can be seen in `/proc/PID/fd` at the task's next stop, and
//! the second stop, which costs as much as the first, is not needed.
//!
//! # Limits
//! The kernel reports stops in no fixed order. A child may stop before the event of its creation: it
//! waits until that arrives. A call that closes a number which the model does not know is judged by its
//! result.

mod beginning;
mod entry;
mod exit;
mod life;
mod listing;
mod message;
mod quarantine;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::calls::{self, Call};
use crate::event::{Event, Gap, Opened, Tid, What};
use crate::filter;
use crate::model::Model;
use crate::placement::{self, Placement};
use crate::python::PythonReader;
use crate::stack::{Frame, StackId, Stacks};
use crate::sys::memory;
use crate::sys::ptrace::{self, Resume};
use crate::sys::quiet_stops::QuietStops;
use crate::sys::spawn::{self, Child, Program};
use crate::sys::timer::Timer;
use crate::unwind::{self, Unwinder};
use quarantine::{Eviction, Poison};
pub use start::{Command, StartError};

/// How often the observer is called at least.
const TICK: Duration = Duration::from_millis(200);

/// How the command is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Closed numbers stay occupied for a while.
    pub quarantine: bool,
    /// Every call that uses a descriptor is checked.
    pub check_uses: bool,
    /// io_uring fails with ENOSYS, so that nothing bypasses the tracer.
    pub no_io_uring: bool,
    /// Stacks are recorded.
    pub stacks: bool,
    /// The tracer and a busy thread run on one processor.
    pub placement: bool,
    /// SIGPIPE has its default effect in the command.
    pub resets_sigpipe: bool,
    /// Set from outside: all processes of the command are killed.
    pub stop: Arc<AtomicBool>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            quarantine: false,
            check_uses: false,
            no_io_uring: false,
            stacks: true,
            placement: true,
            resets_sigpipe: true,
            stop: Arc::default(),
        }
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Trace {
    /// The command's exit status, as `waitpid` returns it.
    pub status: i32,
    /// The tables and what was wrong.
    pub model: Model,
    /// The stacks that the model names.
    pub stacks: Stacks,
    /// Programs that should have run as another user, but did not, because the command could get no new
    /// privileges (`sudo`). At most eight. Not escaped.
    pub without_privileges: Vec<String>,
    /// Whether LeakSanitizer's check was turned off: it cannot run in a traced program.
    pub without_leak_check: bool,
    /// How many stacks could not be unwound to their end.
    pub cut_stacks: u64,
    /// Which files could not be read for unwinding, and why. Escaped.
    pub unwind_notes: Vec<String>,
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Tasks that are alive.
    pub tasks: usize,
    /// The command's exit status, once it has ended; other processes may still run.
    pub status: Option<i32>,
}

/// Sees a run as it happens.
pub trait Observer {
    /// The command's process runs its program.
    fn started(&mut self, process: Tid) {
        let _ = process;
    }

    /// After the model has applied an event.
    fn event(&mut self, event: &Event, model: &Model, stacks: &Stacks) {
        let _ = (event, model, stacks);
    }

    /// About five times a second, and when the command has ended.
    fn tick(&mut self, progress: Progress, model: &Model) {
        let _ = (progress, model);
    }
}

/// An observer that does nothing.
impl Observer for () {}

/// Runs the command to the end of all its processes.
///
/// # Errors
/// The command could not be started; nothing of it runs.
pub fn run(
    command: &Command,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Trace, StartError> {
    let calls = calls::of_mode(
        settings.check_uses || settings.quarantine,
        // In quarantine a write to a closed number raises SIGPIPE.
        settings.check_uses && !settings.quarantine,
    );
    let poison = settings.quarantine.then(Poison::make).transpose().map_err(|error| {
        StartError::Tracing(format!("failed to make the quarantine's pipe: {error}"))
    })?;
    let (poison, keep) = match poison {
        Some((poison, end)) => {
            let number = poison.number;
            (Some(poison), Some((end, number)))
        }
        None => (None, None),
    };
    let paths = command.paths()?;
    let disables_leak_check = start::has_leak_check(&paths);
    let program = Program {
        paths,
        arguments: command.list()?,
        environment: start::environment(disables_leak_check),
        keep,
        resets_sigpipe: settings.resets_sigpipe,
    };
    let filter = filter::program(&calls, settings.no_io_uring);
    let child = spawn::spawn(&program, &filter).map_err(start::explain)?;
    drop(program);
    let timer = Timer::start(TICK)
        .map_err(|error| StartError::Tracing(format!("failed to start a timer: {error}")))?;
    let mut tracer = Tracer {
        calls,
        settings,
        observer,
        begin: Instant::now(),
        root: child.process,
        has_started: false,
        status: None,
        tasks: FxHashMap::default(),
        early: FxHashMap::default(),
        early_at_last_tick: Vec::new(),
        interrupted: FxHashMap::default(),
        hidden: FxHashSet::default(),
        poison,
        model: Model::new(),
        stacks: Stacks::new(),
        unwinder: Unwinder::new(),
        python: PythonReader::new(),
        placement: Placement::new(settings.placement),
        timer,
        last_tick: Instant::now(),
        is_stopping: false,
        no_new_privileges: child.no_new_privileges,
        without_privileges: Vec::new(),
        frames: Vec::new(),
    };
    tracer.tasks.insert(child.process, Task::new(child.process));
    // It only costs time if it fails.
    let _quiet = QuietStops::start();
    tracer.follow();
    tracer.end(child, disables_leak_check)
}

/// The state of one task.
#[derive(Debug)]
struct Task {
    /// The id of its process.
    process: i32,
    /// The call that is under way, if its result is needed.
    call: Option<InCall>,
    /// A call whose result is looked up at the next stop.
    deferred: Option<Deferred>,
    /// A number of the quarantine that this task is made to close.
    eviction: Option<Eviction>,
    /// The number that its last call of the table closes, if that was a close whose result is known.
    closing: Option<i32>,
    /// Whether the gap of 32-bit calls was reported.
    is_of_32_bits: bool,
}

impl Task {
    fn new(process: i32) -> Task {
        Task {
            process,
            call: None,
            deferred: None,
            eviction: None,
            closing: None,
            is_of_32_bits: false,
        }
    }
}

/// A call whose exit is awaited.
#[derive(Clone, Copy, Debug)]
struct InCall {
    /// Index into the calls.
    index: usize,
    arguments: [u64; 6],
    stack: StackId,
    /// The quarantine replaced the close of this number.
    holds: Option<i32>,
}

/// A call in which a thread ended, because another one ended the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Interrupted {
    /// It may have created descriptors that no event reports.
    Creation,
    /// It may not have closed this number, although an event reports it.
    Close(i32),
}

/// A call that returns the lowest free numbers, or fails.
#[derive(Clone, Copy, Debug)]
struct Deferred {
    call: Call,
    numbers: [Option<i32>; 2],
    is_cloexec: bool,
    duplicate_of: Option<i32>,
    used: Option<i32>,
    stack: StackId,
}

struct Tracer<'a> {
    calls: Vec<Call>,
    settings: &'a Settings,
    observer: &'a mut dyn Observer,
    begin: Instant,
    root: i32,
    has_started: bool,
    status: Option<i32>,
    tasks: FxHashMap<i32, Task>,
    /// Stops of children whose creation was not yet reported.
    early: FxHashMap<i32, i32>,
    early_at_last_tick: Vec<i32>,
    /// Calls of threads that ended inside them, by process: their effect is unknown.
    interrupted: FxHashMap<i32, FxHashSet<Interrupted>>,
    /// Processes that hide their memory and descriptors from this user.
    hidden: FxHashSet<i32>,
    poison: Option<Poison>,
    model: Model,
    stacks: Stacks,
    unwinder: Unwinder,
    python: PythonReader,
    placement: Placement,
    timer: Timer,
    last_tick: Instant,
    is_stopping: bool,
    no_new_privileges: bool,
    without_privileges: Vec<String>,
    frames: Vec<Frame>,
}

impl Tracer<'_> {
    /// Follows all tasks until none is left.
    fn follow(&mut self) {
        loop {
            match ptrace::wait() {
                Ok((task, status)) => self.changed(task, status),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.tick(),
                // No task is left.
                Err(_) => break,
            }
        }
        self.placement.undo();
    }

    fn end(mut self, child: Child, without_leak_check: bool) -> Result<Trace, StartError> {
        if !self.has_started
            && let Some(failed) = child.failure()
        {
            return Err(start::explain(failed));
        }
        self.report_progress();
        Ok(Trace {
            status: self.status.unwrap_or(0),
            model: self.model,
            stacks: self.stacks,
            without_privileges: self.without_privileges,
            without_leak_check,
            cut_stacks: self.unwinder.failures(),
            unwind_notes: self.unwinder.notes().to_vec(),
        })
    }

    /// The timer ran out: the placement may be over, the user may wait for a sign or want an end.
    fn tick(&mut self) {
        let now = Instant::now();
        if self.placement.is_active() {
            self.placement.expire(now);
            if !self.placement.is_active() {
                let _ = self.timer.set(TICK);
            }
        }
        // ord: Relaxed: the flag alone is read, at the next tick at the latest.
        if self.settings.stop.load(Ordering::Relaxed) && !self.is_stopping {
            self.is_stopping = true;
            for process in self.tasks.values().map(|task| task.process) {
                if let Some(pid) = rustix::process::Pid::from_raw(process) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        if now - self.last_tick >= TICK {
            self.last_tick = now;
            self.adopt_orphans();
            self.report_progress();
        }
    }

    /// Resumes children that have waited for the event of their creation for a whole tick: their parent
    /// was killed before it.
    fn adopt_orphans(&mut self) {
        let waiting: Vec<(i32, i32)> = self.early.iter().map(|(task, it)| (*task, *it)).collect();
        for (task, status) in waiting {
            if !self.early_at_last_tick.contains(&task) {
                continue;
            }
            self.early.remove(&task);
            self.tasks.insert(task, Task::new(listing::process_of(task).unwrap_or(task)));
            self.gap(task, Gap::Missed);
            self.changed(task, status);
        }
        self.early_at_last_tick = self.early.keys().copied().collect();
    }

    fn report_progress(&mut self) {
        let progress = Progress {
            elapsed: self.begin.elapsed(),
            tasks: self.tasks.len(),
            status: self.status,
        };
        self.observer.tick(progress, &self.model);
    }

    /// A task has stopped or ended.
    fn changed(&mut self, task: i32, status: i32) {
        if libc::WIFSTOPPED(status) {
            if !self.tasks.contains_key(&task) {
                if status >> 16 == libc::PTRACE_EVENT_EXIT {
                    // It was killed together with its parent, whose event never comes.
                    let _ = ptrace::resume(task, Resume::Run, 0);
                } else {
                    self.early.insert(task, status);
                }
                return;
            }
            let (how, signal) = self.stopped(task, status);
            let is_awaited = self.tasks.get(&task).is_some_and(|it| it.call.is_some());
            let how = if how == Resume::Run && is_awaited { Resume::ToExit } else { how };
            // It fails if the task was killed in the meantime; its end is reported next.
            let _ = ptrace::resume(task, how, signal);
            return;
        }
        self.early.remove(&task);
        if task == self.root {
            self.status = Some(status);
        }
        // The kernel does not report the coming end of every thread that is killed.
        self.note_interrupted(task);
        if let Some(gone) = self.tasks.remove(&task) {
            self.emit(task, What::Ended);
            if task == gone.process {
                self.unwinder.ended(task);
                self.python.ended(task);
                self.interrupted.remove(&task);
                self.hidden.remove(&task);
            }
        }
        if task == self.root && !self.tasks.is_empty() {
            self.report_progress();
        }
    }

    /// Handles a stop. Returns how to resume, and the signal to deliver.
    fn stopped(&mut self, task: i32, status: i32) -> (Resume, i32) {
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            libc::PTRACE_EVENT_SECCOMP => {
                self.call_begins(task);
                (Resume::Run, 0)
            }
            0 if signal == libc::SIGTRAP | 0x80 => {
                self.call_ended(task);
                (Resume::Run, 0)
            }
            0 => (Resume::Run, self.signalled(task, signal)),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.created(task);
                (Resume::Run, 0)
            }
            libc::PTRACE_EVENT_EXEC => {
                self.executed(task);
                (Resume::Run, 0)
            }
            libc::PTRACE_EVENT_EXIT => {
                self.ending(task);
                (Resume::Run, 0)
            }
            libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => (Resume::Listen, 0),
            _ => (Resume::Run, 0),
        }
    }

    /// Reports new descriptors of a task.
    fn emit_opened(&mut self, task: i32, opened: Opened) {
        let process = self.tasks.get(&task).map_or(task, |it| it.process);
        for fd in &opened.fds {
            // A program may load an interpreter as a library.
            self.python.opened(process, &fd.link);
        }
        self.emit(task, What::Opened(opened));
    }

    /// Tells model and observer.
    fn emit(&mut self, task: i32, what: What) {
        let time_ns = u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let event = Event { time_ns, task: Tid(task), what };
        self.model.apply(&event);
        self.observer.event(&event, &self.model, &self.stacks);
    }

    fn gap(&mut self, task: i32, gap: Gap) {
        self.emit(task, What::CoverageReduced(gap));
    }

    /// The stack of a stopped task: the functions of a Python program, or else the code.
    fn stack(&mut self, task: i32, ip: u64, sp: u64) -> StackId {
        if !self.settings.stacks {
            return StackId::NONE;
        }
        let process = self.tasks.get(&task).map_or(task, |it| it.process);
        let mut read = |address: u64, to: &mut [u8]| memory::read(task, address, to);
        self.frames.clear();
        self.frames.extend(self.python.frames(process, task, &mut read, &mut self.stacks));
        if !self.frames.is_empty() {
            return self.stacks.intern(&self.frames);
        }
        if let Some(id) = self.unwinder.recent(process, ip, sp, &mut read) {
            return id;
        }
        let bp = ptrace::registers(task).map_or(0, |registers| registers.bp());
        let at = unwind::Registers { ip, sp, bp };
        self.unwinder.unwind(process, at, &mut read, &mut self.stacks)
    }

    /// Puts the tracer and a task that stops often on one processor.
    fn place(&mut self, task: i32) {
        if self.placement.stopped(task, Instant::now()) {
            let _ = self.timer.set(placement::IDLE);
        }
    }
}
