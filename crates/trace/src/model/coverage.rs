//! Coverage: what the model saw of the program, and which processes lowered it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::Gap;
use crate::finding::Process;

/// How much of the program the model saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The number of times that a table was compared with `/proc/PID/fd`.
    pub checks: u64,
    /// The comparisons that found a difference.
    pub mismatches: Occurrences,
    /// Numbers that differed.
    pub wrong_numbers: u64,
    /// What cannot be followed.
    pub gaps: BTreeMap<Gap, Occurrences>,
    /// Occurrences that are missing from the findings because there were too many different ones.
    pub dropped: u64,
}

/// How often something lowered the coverage, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: u64,
    /// The first processes in which it did, at most [`Occurrences::PROCESSES_MAX`].
    pub processes: Vec<Arc<Process>>,
}

impl Occurrences {
    /// The maximum number of processes that are kept.
    pub const PROCESSES_MAX: usize = 8;

    /// Counts one. `process` is `None` if it is unknown.
    pub(super) fn add(&mut self, process: Option<&Arc<Process>>) {
        self.count += 1;
        let Some(process) = process else { return };
        // A process can change its name.
        let is_known = |it: &Arc<Process>| it.pid == process.pid && it.program == process.program;
        if self.processes.len() < Occurrences::PROCESSES_MAX && !self.processes.iter().any(is_known)
        {
            self.processes.push(Arc::clone(process));
        }
    }
}
