//! Calls that got EBADF: which of them are double closes and uses after close.
//!
//! A mistake is certain if the same process, running the same program, closed the number itself before:
//! then it closes twice what it opened once. The rest proves nothing: a number that was never open, one
//! that was closed before the fork that made the table, one that a sweep closed, a call that checks
//! whether a number is open, a redirection of a shell.

use std::sync::Arc;

use super::numbers::is_possible;
use super::past::{Closed, Past};
use super::programs::{is_probe, is_shell};
use super::record::Record;
use super::runs::Run;
use super::table::Table;
use super::{At, Model};
use crate::finding::{Closing, Finding, HISTORY_MAX, Kind, Severity, Step, StepKind, Usage};
use crate::stack::StackId;

/// Calls that create two descriptors for the shell itself, not for a redirection.
const PIPE_CALLS: [&str; 3] = ["pipe", "pipe2", "socketpair"];

/// A failed call.
struct Failed<'a> {
    at: &'a At,
    call: &'static str,
    number: i32,
    stack: StackId,
    is_close: bool,
}

impl Model {
    /// A close got EBADF, or the quarantine found it.
    pub(super) fn close_failed(&mut self, at: &At, number: i32, stack: StackId) {
        self.failed(&Failed { at, call: "close", number, stack, is_close: true });
    }

    /// Another call used a number that is not open.
    pub(super) fn used_closed(&mut self, at: &At, call: &'static str, number: i32, stack: StackId) {
        let is_open = self.tables.get(&at.table).is_some_and(|table| table.open(number).is_some());
        if !is_possible(number) || is_open {
            return;
        }
        self.failed(&Failed { at, call, number, stack, is_close: false });
    }

    /// The task closed an open number: this may be part of a sweep.
    pub(super) fn close_succeeded(&mut self, at: &At, number: i32, stack: StackId) {
        let sequence = self.sequence;
        let Some(mut run) = self.run_for(at, "close", number, stack, true) else { return };
        run.succeed(number, sequence);
        self.put_run(at, run, true);
    }

    fn failed(&mut self, failed: &Failed<'_>) {
        let Failed { at, call, number, stack, is_close } = *failed;
        let Some(mut run) = self.run_for(at, call, number, stack, is_close) else { return };
        let Some(table) = self.tables.get(&at.table) else { return };
        if let Some(finding) = judge_failed(failed, table, self.now_ns, self.sequence) {
            run.fail(finding);
        }
        let table = self.tables.get_mut(&at.table).filter(|_| is_close);
        if let Some(past) = table.and_then(|table| table.past_mut(number))
            && past.is_foreign_of(at.thread.tid)
        {
            // The opener has closed it now.
            past.foreign = None;
        }
        self.put_run(at, run, is_close);
    }

    /// The task's run if the call continues it; otherwise its run ends and a new one starts.
    fn run_for(
        &mut self,
        at: &At,
        call: &'static str,
        number: i32,
        stack: StackId,
        is_close: bool,
    ) -> Option<Box<Run>> {
        let task = self.tasks.get_mut(&at.task)?;
        let run = if is_close { &mut task.close_run } else { &mut task.use_run };
        let mut ended = run.take();
        if ended.as_mut().is_some_and(|run| run.continues(call, stack, number)) {
            return ended;
        }
        self.end_run(at, ended);
        Some(Box::new(Run::new(call, stack, number)))
    }

    fn put_run(&mut self, at: &At, run: Box<Run>, is_close: bool) {
        let Some(task) = self.tasks.get_mut(&at.task) else { return };
        *(if is_close { &mut task.close_run } else { &mut task.use_run }) = Some(run);
    }

    /// The task does something else: its runs become findings, or are recognised as sweeps.
    pub(super) fn end_runs(&mut self, at: &At) {
        let Some(task) = self.tasks.get_mut(&at.task) else { return };
        for run in [task.close_run.take(), task.use_run.take()] {
            self.end_run(at, run);
        }
    }

    fn end_run(&mut self, at: &At, run: Option<Box<Run>>) {
        let Some(run) = run else { return };
        let is_sweep = run.is_sweep();
        let (findings, closed) = run.into_parts();
        let mut table = self.tables.get_mut(&at.table);
        if is_sweep {
            for (number, sequence) in closed {
                let past = table.as_mut().and_then(|table| table.past_mut(number));
                if let Some(last) = past.and_then(|past| past.last.as_mut())
                    && last.closing.sequence == sequence
                {
                    last.by_sweep = true;
                }
            }
            return;
        }
        for finding in findings {
            let past = table.as_mut().and_then(|table| table.past_mut(finding.number));
            if let (Some(past), Some(step)) = (past, finding.history.last()) {
                past.push(step.clone());
            }
            self.record.add(finding);
        }
    }

    /// Adds the failures of runs that have not ended.
    pub(super) fn pending_failures(&self, record: &mut Record) {
        for task in self.tasks.values() {
            for run in [&task.close_run, &task.use_run].into_iter().flatten() {
                if !run.is_sweep() {
                    run.failures().iter().cloned().for_each(|finding| record.add(finding));
                }
            }
        }
    }
}

/// What a failed call is, unless it is part of a sweep. `None`: nothing to report.
fn judge_failed(
    failed: &Failed<'_>,
    table: &Table,
    time_ns: u64,
    sequence: u64,
) -> Option<Finding> {
    let Failed { at, call, number, stack, is_close } = *failed;
    let slot = table.slot(number);
    let past = slot.map(|slot| slot.past.as_ref());
    let (before, last) = past.map_or((None, None), |past| past.meant_by(at.thread.tid, stack));
    if is_shell(&at.thread.process.program) && !is_certain_in_shell(last, call, is_close) {
        return None;
    }
    let is_own = last.is_some_and(|last| last.closing.sequence > table.since && !last.by_sweep);
    let kind = match (is_own, is_close) {
        (true, true) => Kind::DoubleClose,
        (true, false) if !is_probe(call) => Kind::UseAfterClose,
        _ => Kind::NotOpen,
    };
    let severity = match kind {
        Kind::NotOpen if is_probe(call) => Severity::Note,
        Kind::NotOpen => Severity::Warning,
        _ => Severity::Error,
    };
    let mut closes = Vec::new();
    let mut reused_from = None;
    if let Some(last) = last {
        if let Some(before) = before.filter(|before| before.is_closed_again_by(last)) {
            reused_from = Some(Arc::clone(&before.opening));
            closes.push(before.closing.clone());
        }
        closes.push(last.closing.clone());
    }
    let thread = Arc::clone(&at.thread);
    let mut usage = None;
    if is_close {
        let thread = Arc::clone(&thread);
        closes.push(Closing { sequence, time_ns, call, thread, stack });
    } else {
        usage = Some(Usage { time_ns, call, thread: Arc::clone(&thread), stack });
    }
    let what = if is_close { StepKind::CloseFailed } else { StepKind::UseFailed };
    Some(Finding {
        kind,
        severity,
        is_certain: table.is_held(number) && kind != Kind::NotOpen,
        process: Arc::clone(&thread.process),
        number,
        opening: last.map(|last| Arc::clone(&last.opening)),
        closes,
        reused_from,
        usage,
        replaced_by: None,
        heirs: Vec::new(),
        doubt: None,
        history: history(past, Step { time_ns, what, call, thread, stack }),
        details: None,
        count: 1,
        processes: 1,
        first_ns: time_ns,
        last_ns: time_ns,
    })
}

/// In a shell, only a pipe that the shell made for itself is closed by its own code: all else may be a
/// redirection of the script.
fn is_certain_in_shell(last: Option<&Closed>, call: &str, is_close: bool) -> bool {
    let is_pipe = last.is_some_and(|last| PIPE_CALLS.contains(&last.opening.call));
    is_pipe && (is_close || !is_probe(call))
}

/// The last steps of a number and one more.
pub(super) fn history(past: Option<&Past>, step: Step) -> Vec<Step> {
    let steps = past.map_or(&[][..], |past| &past.steps);
    let skipped = (steps.len() + 1).saturating_sub(HISTORY_MAX);
    let mut history = steps[skipped..].to_vec();
    history.push(step);
    history
}
