//! The trap: records where descriptors are opened and closed in this process, by any code.
//!
//! A seccomp filter traps the calls that make and close descriptors. The signal's handler makes the
//! call again with a magic sixth argument that the filter lets through, and records the number, the
//! thread and the stack. It sees the calls of any library and of inline assembly, on all threads,
//! for some microseconds per call. The reader of a record symbolizes it later.
//!
//! # Programs that are started meanwhile
//!
//! A filter outlives `exec` and a handler does not: SIGSYS would kill a program started under such
//! a filter at its first `open`. So the filter traps only calls that come *from the text of this
//! process as it is mapped now*: of its binary and its libraries. A started program has its text
//! elsewhere, because addresses are randomised, and runs as if there were no filter. (The
//! probability that libraries get the old addresses is less than one in ten thousand.) Between fork
//! and exec the handler still exists. A forked child goes on recording in its copy of the table; in
//! a child that shares its parent's memory, calls are forwarded. At `execve`, what the program
//! inherits by accident is added to a log that all processes share; see `exec.rs`. Where addresses
//! are not random, or the binary has a fixed address, nothing is trapped, and the reason is
//! returned.
//!
//! Two calls are not made in the handler: `clone` and `clone3`, which may return on another stack.
//! The calling code makes them again; see `clone.rs`. They are trapped for pidfds, and to record
//! where a thread was spawned. `sendmsg` is trapped to record where a number was sent; its stack is
//! walked only if the message has numbers.
//!
//! Two more calls are trapped only for the sake of the handler. A forced signal that is blocked, or
//! that has no handler, kills the process. So a call that blocks all signals (every `posix_spawn`
//! does, for a moment) blocks all but SIGSYS, a handler of another signal blocks all but SIGSYS
//! while it runs, and a call that resets SIGSYS reports success without doing it.
//!
//! # Limits
//!
//! - Linux on x86-64. Threads that were started before the trap are not recorded. Neither are
//!   descriptors from 32-bit calls and from reading a fanotify descriptor, nor numbers from 4096 on.
//! - What an io_uring opens is attributed to the last ring that was set up, because the kernel
//!   opens it. What a ring closes is not seen.
//! - The handler runs on the stack of the calling code and needs more than 4 KiB of it: the
//!   kernel's signal frame takes up to 3 KiB, the stack walk the rest. Code with less stack left,
//!   such as a signal handler on a small alternate stack, overflows it.
//! - A signal mask that a call installs temporarily (`sigsuspend`, `ppoll`, `pselect`,
//!   `epoll_pwait`) is not changed. If it contains SIGSYS, a signal handler that runs during the
//!   call and opens or closes a descriptor ends the process. The same applies to a handler with
//!   such a mask that a thread from before the trap has set since.
//! - A program that reads its own signal masks or actions never finds SIGSYS in them.
//! - The filter stays until the process ends, and so does NO_NEW_PRIVS: set-user-id programs do not
//!   work under it.
//! - A stack walk needs unwind tables. Rust and C++ have them, and C on x86-64 has them by default.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod calls;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod clone;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod exec;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod filter;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod findings;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod handler;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod history;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod lock;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod magic;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod messages;
mod misuse;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod opened_kind;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod paranoid;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod process;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod program;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod quarantine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod recorded_kind;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod rings;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod stacks;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod std_check;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sweep;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod table;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod threads;

use std::os::fd::RawFd;
use std::{error, fmt, io};

use super::open::Described;

/// How to proceed if the standard library is about to abort because its descriptor was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Prevent the abort where the check of the standard library is recognised, so that the process
    /// can report. Other code that asks whether a number is open gets the true answer.
    Strict,
    /// Prevent the abort always: every number that was closed is reported as open to F_GETFD. For
    /// optimised builds with debug assertions, where the check is part of other functions.
    IgnoreAbort,
}

/// What is recorded and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Calls that open, close and configure descriptors.
    Normal,
    /// Also calls that read, write and wait. Closed numbers stay occupied, so that their next use or
    /// close is certain to be found, and hits no other file.
    Paranoid,
}

/// Why calls cannot be recorded. Its text is half a sentence.
#[derive(Debug)]
pub struct TrapError {
    reason: &'static str,
    source: Option<io::Error>,
}

impl TrapError {
    fn new(reason: &'static str) -> TrapError {
        TrapError { reason, source: None }
    }

    /// With the error of the system call that failed last.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn of_last_call(reason: &'static str) -> TrapError {
        TrapError { reason, source: Some(io::Error::last_os_error()) }
    }
}

impl fmt::Display for TrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl error::Error for TrapError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// The record of one call.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The system call's name.
    pub call: &'static str,
    /// The kernel's id of the thread.
    pub thread: u32,
    /// Its name at that time; may be empty.
    pub thread_name: String,
    /// Return addresses, innermost frame first.
    pub addresses: Vec<usize>,
}

/// A descriptor number that was misused.
#[derive(Clone, Debug)]
pub struct MisusedFd {
    /// How it was misused.
    pub misuse: Misuse,
    /// The number.
    pub number: RawFd,
    /// A word of [`kind::ALL`](crate::kind::ALL): what was opened under the number last, if known.
    pub kind: Option<&'static str>,
    /// The last events of the number, oldest first, as far as they were recorded.
    pub history: Vec<FdEvent>,
    /// Whether the standard library would have aborted the process.
    pub is_abort_due: bool,
}

/// An event in the history of a number.
#[derive(Clone, Debug)]
pub struct FdEvent {
    /// What was done.
    pub kind: EventKind,
    /// The call that did it.
    pub stack: Stack,
}

/// A descriptor that a program inherited although its opening code did not pass it on purpose.
#[derive(Clone, Debug)]
pub struct ExecLeak {
    /// The number in the child process that executed the program.
    pub number: RawFd,
    /// The call that opened it without close-on-exec.
    pub opened: Stack,
    /// The program's path as it was given; its end is missing if it is long. Empty for an opening
    /// that [`record_openings`] asks for.
    pub program: String,
    /// The program's first argument, cut in the same way.
    pub argument: String,
    /// The descriptor's description. If it is no longer open in this process, only the kind and the
    /// path are known.
    pub described: Described,
    /// How often programs of this path were executed so.
    pub times: u32,
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod here {
    use std::os::fd::RawFd;

    use super::exec::{self, Crossing};
    use super::findings::Finding;
    use super::history::Event;
    use super::stacks::Trace;
    use super::table::TABLE;
    use super::{
        ExecLeak, FdEvent, Level, MisusedFd, Mode, Stack, TrapError, calls, filter, handler,
        paranoid, rings, threads,
    };
    use crate::escape;

    /// Starts recording, until the process ends, on the threads that this thread starts. Its own calls
    /// are not recorded.
    ///
    /// # Errors
    /// Recording is not possible; nothing has changed.
    pub fn install(mode: Mode, level: Level) -> Result<(), TrapError> {
        let text = filter::text_of_this_process()?;
        handler::install(mode, level, |magic| filter::install(&text, magic, level))
    }

    /// Ends the quarantine of [`Level::Paranoid`]: nothing that it opened is open any more.
    pub fn end_quarantine() {
        paranoid::end();
    }

    /// The call that opened the current file of a number; for one that no recorded call opened, the
    /// call that set up the io_uring, if there is one.
    pub fn opened(number: RawFd) -> Option<Stack> {
        let of_ring = |trace| Stack { call: "an io_uring, set up", ..stack(trace) };
        let opened = TABLE.with(|table| table.opened(number)).flatten().map(stack);
        opened.or_else(|| rings::set_up().map(of_ring))
    }

    /// The call that closed a number that was open when recording began.
    pub fn closed(number: RawFd) -> Option<Stack> {
        TABLE.with(|table| table.closed_of_others(number)).flatten().map(stack)
    }

    /// The last call that closed a number, if it has not been opened again since.
    pub fn last_close(number: RawFd) -> Option<Stack> {
        TABLE.with(|table| table.last_close(number)).flatten().map(stack)
    }

    /// The last call that sent a number's current file to another process or thread.
    pub fn passed_on(number: RawFd) -> Option<Stack> {
        TABLE.with(|table| table.passed_on(number)).flatten().map(stack)
    }

    /// How often a number was opened so far.
    pub fn generation(number: RawFd) -> u32 {
        TABLE.with(|table| table.generation(number)).unwrap_or(0)
    }

    /// The number of openings under a stack so far, on any number.
    pub fn openings(addresses: &[usize]) -> usize {
        TABLE.with(|table| table.openings(addresses)).unwrap_or(0)
    }

    /// The last events of a number, oldest first.
    pub fn history(number: RawFd) -> Vec<FdEvent> {
        let history = TABLE.with(|table| table.history(number)).flatten();
        history.iter().flat_map(|history| history.events()).filter_map(event).collect()
    }

    /// The misused numbers so far.
    pub fn misused() -> Vec<MisusedFd> {
        let findings = TABLE.with(|table| table.findings());
        let misused = |finding: &Finding| MisusedFd {
            misuse: finding.misuse,
            number: finding.number,
            kind: finding.kind.word(),
            history: finding.events().iter().copied().filter_map(event).collect(),
            is_abort_due: finding.is_abort_due,
        };
        findings.iter().flat_map(|findings| findings.all()).map(misused).collect()
    }

    fn event(event: Event) -> Option<FdEvent> {
        let trace = TABLE.with(|table| table.trace(event.call)).flatten()?;
        Some(FdEvent { kind: event.kind, stack: stack(trace) })
    }

    /// The call that spawned a thread.
    pub fn spawned(thread: u32) -> Option<Stack> {
        threads::spawned(thread).map(stack)
    }

    /// Lists openings without close-on-exec among the [`exec_leaks`], too. To be called before
    /// [`install`].
    pub fn record_openings() {
        exec::record_openings();
    }

    /// The descriptors that crossed an `exec` so far, in ascending order of numbers.
    pub fn exec_leaks() -> Vec<ExecLeak> {
        let leak = |(crossing, times): (Crossing, u32)| ExecLeak {
            number: crossing.number,
            program: escape::bytes(crossing.program.bytes()).into_owned(),
            argument: escape::bytes(crossing.argument.bytes()).into_owned(),
            described: crossing.describe(),
            opened: stack(crossing.opened),
            times,
        };
        let mut leaks: Vec<ExecLeak> = exec::crossings().into_iter().map(leak).collect();
        leaks.sort_by_key(|leak| leak.number);
        leaks
    }

    fn stack(trace: Trace) -> Stack {
        Stack {
            call: calls::name(trace.call()),
            thread: trace.thread(),
            thread_name: trace.thread_name(),
            addresses: trace.addresses().to_vec(),
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[allow(missing_docs, reason = "the functions above have the documentation")]
mod here {
    use std::os::fd::RawFd;

    use super::{ExecLeak, FdEvent, Level, MisusedFd, Mode, Stack, TrapError};

    pub fn install(_: Mode, _: Level) -> Result<(), TrapError> {
        Err(TrapError::new("openings are recorded on Linux on x86-64 only"))
    }

    pub fn end_quarantine() {}

    pub fn opened(_: RawFd) -> Option<Stack> {
        None
    }

    pub fn closed(_: RawFd) -> Option<Stack> {
        None
    }

    pub fn openings(_: &[usize]) -> usize {
        0
    }

    pub fn generation(_: RawFd) -> u32 {
        0
    }

    pub fn last_close(_: RawFd) -> Option<Stack> {
        None
    }

    pub fn passed_on(_: RawFd) -> Option<Stack> {
        None
    }

    pub fn history(_: RawFd) -> Vec<FdEvent> {
        Vec::new()
    }

    pub fn misused() -> Vec<MisusedFd> {
        Vec::new()
    }

    pub fn spawned(_: u32) -> Option<Stack> {
        None
    }

    pub fn record_openings() {}

    pub fn exec_leaks() -> Vec<ExecLeak> {
        Vec::new()
    }
}

pub use here::{
    closed, end_quarantine, exec_leaks, generation, history, install, last_close, misused, opened,
    openings, passed_on, record_openings, spawned,
};
pub use misuse::{EventKind, Misuse};
