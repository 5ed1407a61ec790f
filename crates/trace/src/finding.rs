//! Findings as plain data: what a program did wrong with a descriptor, where, and what happened before.
//!
//! The model makes findings while it applies events; the judge adds those that only the end shows and
//! sorts them. Texts of the traced program (paths, names) are not escaped here.

use std::sync::Arc;

use crate::event::{Details, Tid};
use crate::stack::StackId;

/// The maximum number of steps of a number's history.
pub const HISTORY_MAX: usize = 8;

/// A process, as it was at the time of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The process id.
    pub pid: i32,
    /// Path of the program that it runs.
    pub program: Arc<str>,
    /// Its name: that of its first thread.
    pub name: Arc<str>,
}

/// A thread, as it was at the time of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    /// The kernel's id of the thread.
    pub tid: Tid,
    /// Its name.
    pub name: Arc<str>,
    /// Its process.
    pub process: Arc<Process>,
}

/// How a number came to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The position of the event among all events. The descriptors of one call have equal ones.
    pub sequence: u64,
    /// Nanoseconds since the start of the trace.
    pub time_ns: u64,
    /// The call: `openat`, `pipe2`; [`Opening::UNKNOWN`] if it was not seen.
    pub call: &'static str,
    /// The number that it returned.
    pub number: i32,
    /// The link in `/proc/PID/fd`. Empty where it was not read.
    pub link: String,
    /// The thread that made the call.
    pub thread: Arc<Thread>,
    /// Where.
    pub stack: StackId,
    /// The open file: descriptors with equal ones share it (`dup`, `fork`).
    pub file: u64,
    /// Whether it was created with close-on-exec.
    pub was_cloexec: bool,
}

impl Opening {
    /// The call of a descriptor whose creation was not seen: the first program inherited it, or the
    /// tracer missed the call.
    pub const UNKNOWN: &'static str = "";
}

/// A call that closed a number, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The position of the event among all events.
    pub sequence: u64,
    /// Nanoseconds since the start of the trace.
    pub time_ns: u64,
    /// The call: `close`, `close_range`, `dup2`.
    pub call: &'static str,
    /// The thread that made the call.
    pub thread: Arc<Thread>,
    /// Where.
    pub stack: StackId,
}

/// A call that used a number that was not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds since the start of the trace.
    pub time_ns: u64,
    /// The call: `read`, `accept4`.
    pub call: &'static str,
    /// The thread that made the call.
    pub thread: Arc<Thread>,
    /// Where.
    pub stack: StackId,
}

/// One step of a number's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Nanoseconds since the start of the trace.
    pub time_ns: u64,
    /// What happened.
    pub what: StepKind,
    /// The call, such as `openat`; empty if there was none.
    pub call: &'static str,
    /// The thread that made the call.
    pub thread: Arc<Thread>,
    /// Where.
    pub stack: StackId,
}

/// What happened to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// A call created a descriptor with this number.
    Opened,
    /// It was closed.
    Closed,
    /// `dup2` closed it and put another descriptor on its number.
    Replaced,
    /// A call set its close-on-exec flag.
    CloexecSet,
    /// A call cleared its close-on-exec flag.
    CloexecCleared,
    /// The process runs another program, which inherited it.
    Executed,
    /// It was closed, but was not open: EBADF.
    CloseFailed,
    /// It was used, but was not open: EBADF.
    UseFailed,
    /// The look at `/proc` found it open, but no call was seen.
    FoundOpen,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A number was closed a second time by the process that closed it, without being opened in between.
    DoubleClose,
    /// A number was used after the process closed it.
    UseAfterClose,
    /// A program inherited a descriptor that it neither uses nor is notified of.
    ExecLeak,
    /// A descriptor was open at the end, and its creator left several of them or forgot it.
    Leak(LeakReason),
    /// A call got EBADF, which proves no mistake: the number was never open, or it was closed before
    /// a fork or by a loop over all numbers, or the call is one that checks for open numbers.
    NotOpen,
    /// `dup2` closed a descriptor of the process without saying so.
    Overwritten,
    /// A descriptor was open at the end of its process, which may be on purpose.
    OpenAtExit,
}

/// Why an open descriptor is a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeakReason {
    /// One place of the process created several that were open at the end.
    Several,
    /// It stayed open although the others from its place were closed soon.
    OutlivesOthers,
    /// The peer closed the connection and the process did not.
    CloseWait,
}

/// Why a descriptor that a program inherited may have been passed on purpose, or does little harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The process that opened it runs the program itself, without a fork.
    SameProcess,
    /// Both programs have the same name, so that one author knows both.
    SameProgram,
    /// The program was given another descriptor of the same open file.
    GivenFile,
    /// It is a profile of the process that the user asked for.
    Profile,
    /// Its number occurs in the arguments or the environment of the program.
    NumberOccurs,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// A mistake for certain. The run fails by default.
    Error,
    /// Probably a mistake. The run fails if the user asks for it.
    Warning,
    /// Something to know. The run never fails for it.
    Note,
}

/// One finding. Equal ones of several descriptors and processes are merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// How serious it is.
    pub severity: Severity,
    /// Whether the quarantine proved it: the number was not in use again.
    pub is_certain: bool,
    /// The process. For [`Kind::ExecLeak`], the one that leaked the descriptor.
    pub process: Arc<Process>,
    /// The number.
    pub number: i32,
    /// How the descriptor was opened; `None` if the number was never open.
    pub opening: Option<Arc<Opening>>,
    /// The calls that closed it, in order. Of a double close: both. Of the close of a reused number:
    /// the close of the descriptor before, the close of this one by the same thread or place, and the
    /// second close.
    pub closes: Vec<Closing>,
    /// Of a close of a reused number: how the descriptor before was opened.
    pub reused_from: Option<Arc<Opening>>,
    /// The failed use.
    pub usage: Option<Usage>,
    /// Of [`Kind::Overwritten`]: the descriptor that took the number.
    pub replaced_by: Option<Arc<Opening>>,
    /// Of [`Kind::ExecLeak`]: the processes that inherited the descriptor, at most
    /// [`Finding::HEIRS_MAX`].
    pub heirs: Vec<Arc<Process>>,
    /// Of [`Kind::ExecLeak`]: why it is only a note.
    pub doubt: Option<Doubt>,
    /// What the number's last steps were, oldest first, at most [`HISTORY_MAX`]. They include those of
    /// the finding.
    pub history: Vec<Step>,
    /// What the descriptor was at the end of the process.
    pub details: Option<Box<Details>>,
    /// The number of creations, closes or uses that this finding stands for.
    pub count: u64,
    /// The number of processes in which it occurred.
    pub processes: u64,
    /// When it occurred first, in nanoseconds since the start of the trace.
    pub first_ns: u64,
    /// When it occurred last.
    pub last_ns: u64,
}

impl Finding {
    /// The maximum number of inheriting processes that a finding lists.
    pub const HEIRS_MAX: usize = 3;
}
