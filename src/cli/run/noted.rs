//! Findings of the report as a recording has them.

use echown_report::{Code, RunFinding};

/// A finding for a recording.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    /// When, in nanoseconds since the start of the trace.
    pub(super) time_ns: u64,
    /// The process.
    pub(super) process: i32,
    /// The descriptor numbers.
    pub(super) numbers: Vec<i32>,
    /// Whether it is about a descriptor that was left open.
    pub(super) is_leak: bool,
    /// The code.
    pub(super) code: &'static str,
    /// The finding in one line.
    pub(super) message: String,
    /// The finding in full.
    pub(super) text: String,
}

impl Noted {
    /// A finding of the report.
    pub(super) fn of(finding: &RunFinding) -> Noted {
        Noted {
            // Without a history it is about what is open at the end.
            time_ns: finding.history.last().map_or(u64::MAX, |step| step.time_us * 1000),
            process: finding.process.pid,
            numbers: finding.descriptors.iter().map(|it| it.number).collect(),
            is_leak: matches!(finding.code, Code::Leak | Code::ExecLeak | Code::OpenAtExit),
            code: finding.code.as_str(),
            message: finding.headline(),
            text: finding.to_string(),
        }
    }
}
