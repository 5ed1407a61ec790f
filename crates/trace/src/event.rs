//! Events: what happened to descriptors and tasks, as plain data.
//!
//! The tracer makes them, in the order in which the kernel reports the calls. The model and the judge
//! read nothing else, so that a recorded list of events has the same findings as the live program.

use serde::{Deserialize, Serialize};

use crate::stack::StackId;
use crate::words::{self, Word};

/// The kernel's id of a task (a thread; the first thread of a process has the id of the process).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tid(pub i32);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the start of the trace.
    pub time_ns: u64,
    /// The task that made the call, or that the event is about.
    pub task: Tid,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The first task runs its program. Everything that it has open was inherited.
    Started {
        /// Path of the program.
        program: String,
        /// Its open descriptors.
        open: Vec<OpenFd>,
    },
    /// The task created another task (`fork`, `vfork`, `clone`, `clone3`).
    Created {
        /// The new task.
        child: Tid,
        /// Whether both are threads of one process (CLONE_THREAD).
        is_thread: bool,
        /// Whether both use one descriptor table (CLONE_FILES); otherwise the child has a copy.
        shares_files: bool,
    },
    /// The process runs another program. Its other threads are gone, descriptors with close-on-exec are
    /// closed, and its table is its own. The event's task is the process id from now on.
    Executed {
        /// The thread that made the call, whose id is gone if it was not the first thread.
        former: Tid,
        /// Path of the program.
        program: String,
        /// The descriptors that are open now.
        open: Vec<OpenFd>,
        /// Those of them that the arguments or the environment name ([`crate::mentions`]).
        mentioned: Vec<i32>,
        /// Those whose numbers occur there, and may be other numbers.
        #[serde(default)]
        hinted: Vec<i32>,
    },
    /// The name of the task's thread changed.
    Named {
        /// The new name, as the program chose it: not escaped.
        name: String,
    },
    /// A call created descriptors.
    Opened(Opened),
    /// A call closed a number, or tried to: `close`.
    Closed {
        /// The number.
        number: i32,
        /// The result: `None` for success, otherwise the error number (EBADF above all).
        error: Option<i32>,
        /// The number stays occupied until [`What::Freed`]: the quarantine holds it.
        is_quarantined: bool,
        /// Where.
        stack: StackId,
    },
    /// The quarantine gave up a number.
    Freed {
        /// The number.
        number: i32,
    },
    /// A call closed a range of numbers, or set their close-on-exec flag: `close_range`.
    ClosedRange {
        /// The first number.
        first: u32,
        /// The last number, included.
        last: u32,
        /// CLOSE_RANGE_CLOEXEC: nothing is closed, but the flag is set.
        sets_cloexec: bool,
        /// Where.
        stack: StackId,
    },
    /// A call changed the close-on-exec flag of a number.
    CloexecSet {
        /// The number.
        number: i32,
        /// The flag from now on.
        is_set: bool,
    },
    /// The task has a table of its own from now on (`unshare`, `close_range` with CLOSE_RANGE_UNSHARE).
    FilesUnshared,
    /// A call used an open number. The tracer reports it only where the model wants to know
    /// (`Model::wants_use`).
    Used {
        /// The number.
        number: i32,
    },
    /// A call used a number that is not open.
    UsedClosed {
        /// The call.
        #[serde(deserialize_with = "words::call")]
        call: Word,
        /// The number.
        number: i32,
        /// Where.
        stack: StackId,
    },
    /// The task is about to end, and its descriptors are still open. Without a list its table is used by
    /// other tasks, too.
    Ending {
        /// All open descriptors of the table; empty if other tasks use it.
        open: Option<Vec<OpenFd>>,
        /// The kernel's exit status, as `waitpid` returns it.
        status: i32,
    },
    /// The task is gone.
    Ended,
    /// Not everything can be followed from now on.
    CoverageReduced(Gap),
}

/// Descriptors that one call created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The call: `openat`, `dup2`, `pipe2`, `recvmsg` ...
    #[serde(deserialize_with = "words::call")]
    pub call: Word,
    /// The new descriptors: two of `pipe` and `socketpair`, any number of `recvmsg`.
    pub fds: Vec<OpenFd>,
    /// For `dup` and its like: the number that was duplicated.
    pub duplicate_of: Option<i32>,
    /// The open number that the call used otherwise: the listener of `accept4`, the socket of `recvmsg`,
    /// the folder of `openat`.
    pub used: Option<i32>,
    /// Where.
    pub stack: StackId,
}

/// An open descriptor, as `/proc/PID/fd` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFd {
    /// The number.
    pub number: i32,
    /// The link in `/proc/PID/fd`: a path, `socket:[123]`, `pipe:[123]`, `anon_inode:[eventpoll]`. Not
    /// escaped. It is empty where it was not read.
    pub link: String,
    /// Whether it closes at an exec.
    pub is_cloexec: bool,
    /// At the end of a process: what it is in detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

/// What a descriptor is, as far as a look at it shows. Escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// A word of [`echown_fd::kind::ALL`].
    #[serde(deserialize_with = "words::kind")]
    pub kind: Word,
    /// The local address.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The path, if there is no address.
    pub path: Option<String>,
    /// Further facts, such as the state of a connection.
    pub facts: Vec<String>,
}

/// What cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Gap {
    /// The process uses io_uring, which opens and closes without system calls.
    IoUring,
    /// The process makes 32-bit system calls.
    Calls32,
    /// The process tries to trace, which the kernel refuses.
    NestedTracer,
    /// The process is supervised by another program with seccomp notifications.
    SeccompNotify,
    /// The process hides its memory and descriptors from this user (PR_SET_DUMPABLE).
    Hidden,
    /// The tracer missed events of a task.
    Missed,
}
