//! `Line`: one line of a recording, which is also one event of the live stream. `docs/events.md`
//! describes the schema.
//!
//! A line is flat: every event uses some of the fields, and those that do not apply are absent. So a
//! reader of a newer recording ignores what it does not know, and a line needs no other line to be read.

use std::borrow::Cow;
use std::sync::Arc;

/// The version of the schema. It increases when a field changes its meaning or is removed; fields and
/// events can be added at any time.
pub const SCHEMA_VERSION: u32 = 1;

/// Generates `Kind` with its words.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $word:literal,)+) => {
        /// What a line says.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
        pub enum Kind {
            $($(#[doc = $doc])+ #[cfg_attr(feature = "json", serde(rename = $word))] $kind,)+
            /// An event of a newer schema.
            #[default]
            #[cfg_attr(feature = "json", serde(other))]
            Unknown,
        }

        impl Kind {
            /// The word in the field `event`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Kind::$kind => $word,)+
                    Kind::Unknown => "unknown",
                }
            }
        }
    };
}

kinds! {
    /// The first line: what was recorded, and when.
    Recording = "recording",
    /// A task became the first owner of a resource.
    Acquired = "acquired",
    /// A parent gave it to a child.
    Given = "given",
    /// A child transferred it to its parent.
    Transferred = "transferred",
    /// Its owner offered it.
    Offered = "offered",
    /// A task claimed the offer.
    Claimed = "claimed",
    /// Its owner parked it in a lot, on the account of the lot's task.
    Parked = "parked",
    /// A task unparked it.
    Unparked = "unparked",
    /// An unclaimed offer passed to the offerer's parent.
    Inherited = "inherited",
    /// It was split into halves.
    Split = "split",
    /// Its halves were rejoined.
    Rejoined = "rejoined",
    /// It was received from another process.
    Received = "received",
    /// It was sent to another process, which may take over.
    Shared = "shared",
    /// Another process took over.
    HandedOver = "handed_over",
    /// A give was undone because the child could not be started.
    Returned = "returned",
    /// Its owner gave it up without finalizing it.
    Disowned = "disowned",
    /// Its owner finalized it.
    Released = "released",
    /// Its handle was dropped, which finalized it.
    Dropped = "dropped",
    /// The end of its task finalized it.
    Finalized = "finalized",
    /// Its number was closed or reused outside the registry.
    Replaced = "replaced",
    /// It was shut down, because its owner was cancelled.
    Cancelled = "cancelled",
    /// A task began to run.
    TaskStarted = "task_started",
    /// A task was cancelled.
    TaskCancelled = "task_cancelled",
    /// A task ended.
    TaskEnded = "task_ended",
    /// A message of the program, such as one between state machines.
    Message = "message",
    /// A report: a task ended and still owned something.
    Leaked = "leaked",
    /// A report: a violation, a replaced descriptor, or a failed finalizer.
    Violation = "violation",
    /// A descriptor of a library, or of the parent process.
    Declared = "declared",
    /// A process began.
    ProcessStarted = "process_started",
    /// A process ended.
    ProcessEnded = "process_ended",
    /// Events that are missing at this point.
    Lost = "lost",
    /// The state at the beginning is complete; what follows happened later.
    Live = "live",
    /// The last line of a complete recording.
    End = "end",
}

impl Kind {
    /// Whether the line is a step of a resource.
    #[must_use]
    pub fn is_step(self) -> bool {
        use Kind::{
            Acquired, Cancelled, Claimed, Given, HandedOver, Inherited, Offered, Parked, Received,
            Rejoined, Replaced, Returned, Shared, Split, Transferred, Unparked,
        };
        self.is_final()
            || matches!(
                self,
                Acquired
                    | Given
                    | Transferred
                    | Offered
                    | Claimed
                    | Inherited
                    | Parked
                    | Unparked
                    | Split
                    | Rejoined
                    | Returned
                    | Received
                    | Shared
                    | HandedOver
                    | Replaced
                    | Cancelled
            )
    }

    /// Whether the step ends the resource: it is closed, or no longer owned.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Kind::Disowned | Kind::Released | Kind::Dropped | Kind::Finalized)
    }

    /// Whether the line is a report.
    #[must_use]
    pub fn is_finding(self) -> bool {
        matches!(self, Kind::Leaked | Kind::Violation)
    }
}

/// A task's id and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
pub struct TaskName {
    /// Never reused in a process.
    pub id: u64,
    /// Its name, with control characters escaped.
    pub name: Arc<str>,
}

/// Generates the fields with the attributes that all of them have.
macro_rules! line {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty,)+) => {
        /// One line. Fields that do not apply are `None`.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
        pub struct Line {
            /// What the line says.
            pub event: Kind,
            /// Nanoseconds on the monotonic clock of the recording.
            #[cfg_attr(feature = "json", serde(default))]
            pub time_ns: u64,
            $(
                $(#[doc = $doc])+
                #[cfg_attr(feature = "json", serde(default, skip_serializing_if = "Option::is_none"))]
                pub $field: Option<$type>,
            )+
        }
    };
}

line! {
    /// The process.
    process: u32,
    /// The kernel's id of the thread.
    thread: u32,
    /// Whether this line repeats the state before the recording began.
    replayed: bool,
    /// `recording`: the version of the schema.
    schema_version: u32,
    /// `recording`: milliseconds since 1970 at `time_ns`.
    time_unix_ms: u64,
    /// The program.
    program: String,
    /// `recording`: `registry` or `tracer`.
    source: Cow<'static, str>,
    /// The resource; never reused in a process.
    resource: u64,
    /// Its kind: `tcp stream`, `file`, or the name of a type.
    kind: Cow<'static, str>,
    /// Its descriptor number. `declared`: the number.
    number: i32,
    /// The descriptor table that the number belongs to.
    table: u32,
    /// Which resource with this number in this table it is, of those that the recording has seen; the
    /// first is 1.
    generation: u64,
    /// The open file description; the same for duplicates.
    description: u64,
    /// For a half: the resource that was split.
    half_of: u64,
    /// For a half: `read` or `write`.
    half: Cow<'static, str>,
    /// The owner before the step.
    from: TaskName,
    /// The owner after the step.
    to: TaskName,
    /// The local address, on `acquired`.
    local: String,
    /// The peer's address, on `acquired`. The peer chose it.
    peer: String,
    /// The path, on `acquired`.
    path: String,
    /// The task that the line is about.
    task: TaskName,
    /// `task_started`: the parent.
    parent: TaskName,
    /// `task_started`: the name of its thread.
    thread_name: Arc<str>,
    /// `task_ended`: `returned`, `panicked` or `cancelled`.
    outcome: Cow<'static, str>,
    /// The system call or the function.
    call: Cow<'static, str>,
    /// Where it was called: `file:line:column`.
    site: String,
    /// The stack, innermost frame first.
    stack: Vec<String>,
    /// A report's code: `E01`.
    code: Cow<'static, str>,
    /// `violation`: `violation`, `fd-replaced` or `finalizer`.
    verdict: Cow<'static, str>,
    /// A report in one line.
    message: String,
    /// A report as the terminal shows it, without colours. `message`: the message.
    text: String,
    /// A report's resources.
    resources: Vec<u64>,
    /// `violation`: the owner.
    owner: TaskName,
    /// `declared`: the library.
    name: String,
    /// `declared`: why it is open. `end`: `finished` or `limit`.
    reason: Cow<'static, str>,
    /// `parked`, `unparked`: how many such steps in turn the line stands for, if it repeats the past.
    times: u64,
    /// `lost`: how many events are missing here.
    count: u64,
    /// `end`: how many events are missing in all.
    lost: u64,
    /// `process_started`: the parent process.
    parent_process: u32,
    /// `process_started`: the table that its table is a copy of.
    table_copied_from: u32,
    /// `process_ended`: the exit status.
    status: i32,
}

impl Line {
    /// A line with only its kind and its time.
    #[must_use]
    pub fn new(event: Kind, time_ns: u64) -> Line {
        Line { event, time_ns, ..Line::default() }
    }

    /// The line as JSON, without a line end.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn to_json(&self) -> String {
        match serde_json::to_string(self) {
            Ok(json) => json,
            Err(error) => unreachable!("plain data always serializes: {error}"),
        }
    }
}
