//! Loops over many numbers, such as `closefrom` without `close_range`: their EBADF is no mistake.
//!
//! A loop is only known after some calls. Until then the failures of a task are kept, and they become
//! findings when the task does something else first.

use crate::finding::{Closing, Finding, Kind};
use crate::stack::StackId;

/// Calls in a row from which on a loop is a sweep.
const SWEEP_MIN: u32 = 8;

/// As [`SWEEP_MIN`], if one of the numbers was not closed by the process itself.
const SHORT_SWEEP_MIN: u32 = 3;

/// The largest distance of two numbers in a row: a loop may leave some open.
const STEP_MAX: i64 = 4;

/// The maximum number of failures and of closed numbers that a run keeps.
const KEPT_MAX: usize = 64;

/// Calls in a row of one task, from one place, on ascending or descending numbers.
#[derive(Clone, Debug)]
pub(super) struct Run {
    call: &'static str,
    stack: StackId,
    last: i32,
    /// Whether numbers ascend; `None` until the second call.
    ascends: Option<bool>,
    length: u32,
    /// Failures on numbers that the process did not close itself.
    weak: u32,
    failed: u32,
    /// The first failures.
    failures: Vec<Finding>,
    /// The first numbers that were closed, with the position of the event.
    closed: Vec<(i32, u64)>,
}

impl Run {
    pub(super) fn new(call: &'static str, stack: StackId, number: i32) -> Run {
        Run {
            call,
            stack,
            last: number,
            ascends: None,
            length: 1,
            weak: 0,
            failed: 0,
            failures: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Whether the call continues the run; then the run includes it.
    pub(super) fn continues(&mut self, call: &'static str, stack: StackId, number: i32) -> bool {
        let step = i64::from(number) - i64::from(self.last);
        let goes_on = step != 0
            && step.abs() <= STEP_MAX
            && self.ascends.is_none_or(|ascends| ascends == (step > 0));
        if call != self.call || stack != self.stack || !goes_on {
            return false;
        }
        self.ascends = Some(step > 0);
        self.last = number;
        self.length = self.length.saturating_add(1);
        true
    }

    /// The last call failed. `finding` is what it is if the run is no sweep.
    pub(super) fn fail(&mut self, finding: Finding) {
        self.failed = self.failed.saturating_add(1);
        if finding.kind == Kind::NotOpen {
            self.weak = self.weak.saturating_add(1);
        }
        if self.failures.len() < KEPT_MAX {
            self.failures.push(finding);
        }
        if self.is_unknowing() {
            self.failures.clear();
        }
    }

    /// The last call closed its number.
    pub(super) fn succeed(&mut self, number: i32, sequence: u64) {
        if self.closed.len() < KEPT_MAX {
            self.closed.push((number, sequence));
        }
    }

    /// Whether the calls so far are a loop over numbers of which the program does not know whether they
    /// are open.
    pub(super) fn is_sweep(&self) -> bool {
        if self.weak > 0 {
            return self.is_unknowing();
        }
        // A second pass over a list of descriptors, all closed by one place, is no sweep.
        self.failed > 0
            && self.length >= SWEEP_MIN
            && !(self.failed == self.length && self.is_second_pass())
    }

    /// Whether the loop met numbers that the process did not close, and is long enough.
    fn is_unknowing(&self) -> bool {
        self.weak > 0 && self.length >= SHORT_SWEEP_MIN
    }

    fn is_second_pass(&self) -> bool {
        let mut stacks =
            self.failures.iter().map(|finding| first_close(finding).map(|closing| closing.stack));
        let first = stacks.next().flatten();
        first.is_some_and(|stack| stack != StackId::NONE) && stacks.all(|stack| stack == first)
    }

    /// The failures and the closed numbers, for the end of the run.
    pub(super) fn into_parts(self) -> (Vec<Finding>, Vec<(i32, u64)>) {
        (self.failures, self.closed)
    }

    pub(super) fn failures(&self) -> &[Finding] {
        &self.failures
    }
}

fn first_close(finding: &Finding) -> Option<&Closing> {
    match finding.kind {
        Kind::DoubleClose => finding.closes.iter().rev().nth(1),
        _ => finding.closes.last(),
    }
}
