//! Run reports: the findings of `echown run` about the descriptors of another program.
//!
//! All texts in them are escaped: paths, names of threads and programs come from the traced program.

mod coverage;
#[cfg(feature = "annotated")]
mod rendered;
mod select;
mod text;

use super::Code;
use super::test_report::{Descriptor, Place};
pub use coverage::{Coverage, CoverageGap, GapKind};

/// All findings of one run of a command, with all processes that it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct RunReport {
    /// See [`SCHEMA_VERSION`](crate::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The command as the user named it.
    pub command: String,
    /// Its arguments, if the user asked to record them.
    pub arguments: Option<Vec<String>>,
    /// How the command ended.
    pub status: RunStatus,
    /// The findings, most severe first.
    pub findings: Vec<RunFinding>,
    /// What was left out of `findings`.
    pub omitted: Omitted,
    /// Further information: reasons of suppressions, processes that still run.
    pub notes: Vec<String>,
    /// What was followed, and what was not.
    pub coverage: Coverage,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "snake_case"))]
pub enum RunStatus {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl Default for RunStatus {
    fn default() -> RunStatus {
        RunStatus::Exited(0)
    }
}

/// How many findings are not in a report, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Omitted {
    /// Notes that the user did not ask for.
    pub notes: u64,
    /// Findings that a suppression matches.
    pub suppressed: u64,
    /// Findings of the baseline.
    pub known: u64,
}

/// One finding: one cause, and all descriptors and processes with the same places.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct RunFinding {
    /// The kind of the finding.
    pub code: Code,
    /// How severe it is.
    pub severity: Severity,
    /// What the process did, in one line that continues its name: `closed fd 7 a second time`.
    pub message: String,
    /// The process.
    pub process: RunProcess,
    /// The affected descriptors, as they were at the finding; at most [`DESCRIPTORS_MAX`].
    ///
    /// [`DESCRIPTORS_MAX`]: RunFinding::DESCRIPTORS_MAX
    pub descriptors: Vec<Descriptor>,
    /// What was done to the first descriptor and where, in chronological order. Its threads are
    /// written as `4213 NAME`, with the process if it is another one.
    pub places: Vec<Place>,
    /// The index in `places` of the line that matters most.
    pub main_place: usize,
    /// What happened, in a few sentences, where the places alone do not say it; may be empty.
    pub story: Vec<String>,
    /// The last steps of the number in this process, oldest first.
    pub history: Vec<HistoryStep>,
    /// How many descriptors or calls it stands for.
    pub count: u64,
    /// In how many processes.
    pub processes: u64,
}

/// How severe a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "kebab-case"))]
pub enum Severity {
    /// It fails the run.
    #[default]
    Error,
    /// It is probably a fault, and does not fail the run.
    Warning,
    /// It is worth knowing, and often intended.
    Note,
}

impl Severity {
    /// The word at the beginning of a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct RunProcess {
    /// The process id.
    pub pid: i32,
    /// Path of its program, as far as known.
    pub program: String,
}

impl RunProcess {
    /// The program's file name, or all of it if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.program.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.program,
        }
    }
}

/// One step in the life of a descriptor number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct HistoryStep {
    /// Microseconds since the start of the run.
    pub time_us: u64,
    /// What was done: `opened by socket: tcp stream`, `closed`.
    pub what: String,
    /// The thread that did it: `4213 NAME`.
    pub thread: String,
    /// Where: `FILE:LINE`, or the function without debug information; `None` when not known.
    pub site: Option<String>,
}

impl RunFinding {
    /// The codes of these findings, most severe first. Most are also codes of tests.
    pub const CODES: &[Code] = &[
        Code::DoubleClose,
        Code::UseAfterClose,
        Code::ExecLeak,
        Code::Leak,
        Code::NotOpen,
        Code::OverwrittenFd,
        Code::OpenAtExit,
    ];

    /// The maximum number of described descriptors.
    pub const DESCRIPTORS_MAX: usize = 20;

    /// The place that matters most: where a leaked descriptor was opened, or the rule was broken.
    #[must_use]
    pub fn main_place(&self) -> Option<&Place> {
        self.places.get(self.main_place)
    }

    /// The advice at the end of a report.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self.code {
            Code::Leak => {
                "close it on every path, also after errors; if it is meant to live as long as the \
                 process, suppress it with a reason"
            }
            Code::DoubleClose => {
                "let one place own and close the descriptor; set the variable to -1 right after its \
                 close"
            }
            Code::UseAfterClose => {
                "find out which code still holds the number; close only after the last use, and set \
                 the variable to -1 after the close"
            }
            Code::OverwrittenFd => {
                "if this is not intended, let the kernel choose a free number (`dup`, F_DUPFD_CLOEXEC)"
            }
            Code::ExecLeak => {
                "open it with close-on-exec (`O_CLOEXEC`, `SOCK_CLOEXEC`, `pipe2`, `accept4`, \
                 F_DUPFD_CLOEXEC), or close it in the child before exec"
            }
            Code::NotOpen => {
                "look for a number that was never set (0, -1, a random value), or check the result \
                 of the call that should have opened it"
            }
            Code::OpenAtExit => "the kernel closes it at the end; nothing needs to change",
            other => other.explanation().help,
        }
    }
}
