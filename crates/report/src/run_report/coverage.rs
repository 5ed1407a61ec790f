//! Coverage: which part of a run was followed, and what may be missing.

use std::fmt;

use super::RunProcess;
use crate::Plural;

/// What was followed in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Coverage {
    /// Processes.
    pub processes: u64,
    /// Descriptors that were opened.
    pub descriptors: u64,
    /// How often the list of open descriptors was compared with the kernel's.
    pub checks: u64,
    /// In how many of these comparisons they differed.
    pub mismatches: u64,
    /// How often a finding was dropped because there were too many different ones.
    pub dropped: u64,
    /// What was not followed, each kind once.
    pub gaps: Vec<CoverageGap>,
}

/// Something that was not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct CoverageGap {
    /// What.
    pub kind: GapKind,
    /// The first processes in which it was found, at most [`CoverageGap::PROCESSES_MAX`]. None if they
    /// are unknown.
    pub processes: Vec<RunProcess>,
    /// How often it was found.
    pub count: u64,
}

impl CoverageGap {
    /// The maximum number of processes that are named.
    pub const PROCESSES_MAX: usize = 8;
}

/// Kinds of gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum GapKind {
    /// io_uring opens and closes descriptors without system calls.
    IoUring,
    /// 32-bit system calls.
    Calls32,
    /// A program that traces others, which fails below another tracer.
    NestedTracer,
    /// Another process handles its system calls (seccomp notifications).
    SeccompNotify,
    /// A process that hides from other users' tracers.
    Hidden,
    /// Events that were missed.
    Missed,
    /// A list of open descriptors that differs from the kernel's.
    Mismatch,
}

impl GapKind {
    /// What it means for the findings, in one line.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            GapKind::IoUring => {
                "io_uring opens and closes descriptors without system calls, which are not seen; \
                 `--no-io-uring` makes the program use ordinary calls"
            }
            GapKind::Calls32 => "32-bit system calls are not followed",
            GapKind::NestedTracer => {
                "a program tried to trace (as strace, gdb and sanitizers do), which fails under \
                 `echown run`"
            }
            GapKind::SeccompNotify => {
                "another program handles its system calls (seccomp notifications), and their results \
                 are not seen"
            }
            GapKind::Hidden => {
                "a process hides its memory and descriptors (PR_SET_DUMPABLE): its paths, stacks and \
                 received descriptors are unknown; run echown as root"
            }
            GapKind::Missed => "some events were missed; some descriptors may be unknown",
            GapKind::Mismatch => {
                "open descriptors differed from those in /proc/PID/fd, which counted from there on; \
                 findings about them may be wrong or missing"
            }
        }
    }
}

impl Coverage {
    /// Whether every call was followed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.mismatches == 0 && self.dropped == 0 && self.gaps.is_empty()
    }

    /// The warning for a document or an annotation: what was not followed. `None` if every call was.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        (!self.is_complete()).then(|| self.to_string())
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claim = match self.is_complete() {
            true => "every call was followed",
            false => "not every call was followed, so findings may be missing or wrong",
        };
        let descriptors = Plural(self.descriptors, "descriptor");
        let processes = match self.processes {
            1 => "1 process".to_owned(),
            number => format!("{number} processes"),
        };
        write!(f, "coverage: {claim} ({descriptors} in {processes}")?;
        let checks = Plural(self.checks, "comparison");
        match (self.checks, self.mismatches) {
            (0, _) => f.write_str(")")?,
            (1, 0) => write!(f, "; {checks} with /proc/PID/fd agrees)")?,
            (_, 0) => write!(f, "; {checks} with /proc/PID/fd agree)")?,
            (_, 1) => write!(f, "; 1 of {checks} with /proc/PID/fd differs)")?,
            (_, wrong) => write!(f, "; {wrong} of {checks} with /proc/PID/fd differ)")?,
        }
        for gap in &self.gaps {
            write!(f, "\n  {}", gap.kind.explanation())?;
            if gap.count > 1 {
                write!(f, " ({} times)", gap.count)?;
            }
            let named: Vec<String> = gap.processes.iter().map(ToString::to_string).collect();
            match named.len() {
                0 => {}
                CoverageGap::PROCESSES_MAX => {
                    write!(f, "\n    in {}, the first {}", named.join(", "), named.len())?;
                }
                _ => write!(f, "\n    in {}", named.join(", "))?,
            }
        }
        if self.dropped > 0 {
            let findings = Plural(self.dropped, "finding");
            write!(f, "\n  {findings} dropped, because there were too many different ones")?;
        }
        Ok(())
    }
}
