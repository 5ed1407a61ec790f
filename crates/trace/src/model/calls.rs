//! Calls on descriptors: open, close, duplicate, flags.

use std::sync::Arc;

use super::failed::history;
use super::numbers::is_possible;
use super::past::Closed;
use super::programs::is_shell;
use super::sites::site_of;
use super::table::{Descriptor, Origin, State, Table};
use super::{At, Model, TableId};
use crate::event::{Gap, OpenFd, Opened};
use crate::finding::{Closing, Finding, Kind, Opening, Severity, Step, StepKind};
use crate::stack::StackId;

/// EBADF on Linux.
const EBADF: i32 = 9;

/// Descriptors of a range from which on its numbers are a sweep: the program does not know which of
/// them are open.
const RANGE_SWEEP_MIN: u32 = 8;

/// Descriptors 0 to 2 are the process's input and outputs, which programs replace on purpose.
const LAST_STANDARD: i32 = 2;

impl At {
    pub(super) fn step(&self, what: StepKind, call: &'static str, stack: StackId) -> Step {
        Step { time_ns: self.time_ns, what, call, thread: Arc::clone(&self.thread), stack }
    }
}

impl Model {
    fn closing(&self, at: &At, call: &'static str, stack: StackId) -> Closing {
        Closing {
            sequence: self.sequence,
            time_ns: at.time_ns,
            call,
            thread: Arc::clone(&at.thread),
            stack,
        }
    }

    pub(super) fn opened(&mut self, at: &At, opened: &Opened) {
        self.end_runs(at);
        for number in [opened.duplicate_of, opened.used].into_iter().flatten() {
            self.touch(at.table, number);
        }
        let Some(table) = self.tables.get(&at.table) else { return };
        let source = opened.duplicate_of.and_then(|number| table.open(number));
        let source_file = source.map(|source| source.opening.file);
        for fd in &opened.fds {
            // `dup2` of a number to itself does nothing.
            if fd.number < 0 || opened.duplicate_of == Some(fd.number) {
                continue;
            }
            let opening = self.opening_of(at, opened.call, opened.stack, fd, source_file);
            if opened.duplicate_of.is_some() {
                self.replace(at, fd.number, &opening, opened.stack);
            }
            let descriptor = Descriptor {
                opening,
                is_cloexec: fd.is_cloexec,
                origin: Origin::Own,
                is_prepared: false,
                passing: None,
            };
            self.opened += 1;
            self.install(
                at,
                fd.number,
                descriptor,
                at.step(StepKind::Opened, opened.call, opened.stack),
            );
        }
    }

    /// Makes a number open. If it is open already, the model missed a close.
    pub(super) fn install(&mut self, at: &At, number: i32, descriptor: Descriptor, step: Step) {
        let Some(table) = self.tables.get_mut(&at.table) else { return };
        if let Some(missed) = table.take(number, false) {
            self.release(&missed);
            self.gap(at.task, Gap::Missed);
        }
        let Some(table) = self.tables.get_mut(&at.table) else { return };
        table.insert(number, descriptor);
        if let Some(past) = table.past_mut(number) {
            past.push(step);
        }
    }

    pub(super) fn opening_of(
        &mut self,
        at: &At,
        call: &'static str,
        stack: StackId,
        fd: &OpenFd,
        file: Option<u64>,
    ) -> Arc<Opening> {
        let file = file.unwrap_or_else(|| {
            self.next_file += 1;
            self.next_file
        });
        Arc::new(Opening {
            sequence: self.sequence,
            time_ns: at.time_ns,
            call,
            number: fd.number,
            link: fd.link.clone(),
            thread: Arc::clone(&at.thread),
            stack,
            file,
            was_cloexec: fd.is_cloexec,
        })
    }

    /// `dup2` closes what was open on its target.
    fn replace(&mut self, at: &At, number: i32, by: &Arc<Opening>, stack: StackId) {
        let closing = self.closing(at, by.call, stack);
        let step = at.step(StepKind::Replaced, by.call, stack);
        let Some(table) = self.tables.get_mut(&at.table) else { return };
        let Some(descriptor) = close_in(table, number, false, &closing, step.clone(), false) else {
            return;
        };
        // Before a program runs, a forked child arranges descriptors for it.
        let is_told = number > LAST_STANDARD
            && descriptor.origin == Origin::Own
            && !table.is_forked
            && descriptor.opening.file != by.file
            && !is_shell(&at.thread.process.program);
        let past = table.slot(number).map(|slot| slot.past.as_ref());
        let steps = past.map_or_else(|| history(None, step), |past| past.steps.clone());
        self.release(&descriptor);
        if is_told {
            self.record.add(Finding {
                kind: Kind::Overwritten,
                severity: Severity::Note,
                is_certain: false,
                process: Arc::clone(&at.thread.process),
                number,
                opening: Some(descriptor.opening),
                closes: vec![closing],
                reused_from: None,
                usage: None,
                replaced_by: Some(Arc::clone(by)),
                heirs: Vec::new(),
                doubt: None,
                history: steps,
                details: None,
                count: 1,
                processes: 1,
                first_ns: at.time_ns,
                last_ns: at.time_ns,
            });
        }
    }

    pub(super) fn closed(
        &mut self,
        at: &At,
        number: i32,
        error: Option<i32>,
        is_quarantined: bool,
        stack: StackId,
    ) {
        if !is_possible(number) {
            return;
        }
        let Some(table) = self.tables.get(&at.table) else { return };
        let state = table.slot(number).map(|slot| &slot.state);
        match (state, error) {
            (Some(State::Open(_)), Some(EBADF)) => {
                // The kernel says that it is closed: the model missed that.
                self.drop_silently(at.table, number);
                self.gap(at.task, Gap::Missed);
            }
            // Linux closes the number whatever else the error is (EINTR, EIO).
            (Some(State::Open(_)), _) => {
                self.touch(at.table, number);
                let closing = self.closing(at, "close", stack);
                let step = at.step(StepKind::Closed, "close", stack);
                self.close_succeeded(at, number, stack);
                self.close_and_release(at.table, number, is_quarantined, &closing, step, false);
            }
            (Some(State::Held), _) | (_, Some(_)) => self.close_failed(at, number, stack),
            (_, None) => self.gap(at.task, Gap::Missed),
        }
    }

    pub(super) fn closed_range(
        &mut self,
        at: &At,
        first: u32,
        last: u32,
        sets_cloexec: bool,
        stack: StackId,
    ) {
        self.end_runs(at);
        let Some(table) = self.tables.get(&at.table) else { return };
        let is_in_range =
            |number: &i32| u32::try_from(*number).is_ok_and(|n| (first..=last).contains(&n));
        let open: Vec<i32> = table.open_numbers().into_iter().filter(is_in_range).collect();
        if sets_cloexec {
            for number in open {
                self.cloexec_set(at, number, true);
            }
            return;
        }
        let held: Vec<i32> = table.held_numbers().filter(is_in_range).collect();
        let by_sweep = last.saturating_sub(first) >= RANGE_SWEEP_MIN;
        for number in open {
            self.touch(at.table, number);
            let closing = self.closing(at, "close_range", stack);
            let step = at.step(StepKind::Closed, "close_range", stack);
            self.close_and_release(at.table, number, false, &closing, step, by_sweep);
        }
        if let Some(table) = self.tables.get_mut(&at.table) {
            for number in held {
                table.free_held(number);
            }
        }
    }

    fn close_and_release(
        &mut self,
        table: TableId,
        number: i32,
        is_held: bool,
        closing: &Closing,
        step: Step,
        by_sweep: bool,
    ) {
        let Some(table) = self.tables.get_mut(&table) else { return };
        if let Some(descriptor) = close_in(table, number, is_held, closing, step, by_sweep) {
            self.release(&descriptor);
        }
    }

    /// A descriptor is gone without a call of its process.
    pub(super) fn drop_silently(&mut self, table: TableId, number: i32) {
        let Some(table) = self.tables.get_mut(&table) else { return };
        if let Some(descriptor) = table.take(number, false) {
            self.release(&descriptor);
        }
    }

    fn release(&mut self, descriptor: &Descriptor) {
        if let Some(passing) = descriptor.passing {
            self.passings.release(passing, &mut self.record);
        }
    }

    pub(super) fn cloexec_set(&mut self, at: &At, number: i32, is_set: bool) {
        self.touch(at.table, number);
        let Some(table) = self.tables.get_mut(&at.table) else { return };
        let Some(descriptor) = table.open_mut(number) else {
            self.gap(at.task, Gap::Missed);
            return;
        };
        descriptor.is_cloexec = is_set;
        descriptor.is_prepared = !is_set;
        let what = if is_set { StepKind::CloexecSet } else { StepKind::CloexecCleared };
        if let Some(past) = table.past_mut(number) {
            past.push(at.step(what, "fcntl", StackId::NONE));
        }
    }

    /// A process uses a descriptor: if a program passed it on, that was not in vain.
    pub(super) fn touch(&mut self, table: TableId, number: i32) {
        let descriptor = self.tables.get(&table).and_then(|table| table.open(number));
        if let Some(passing) = descriptor.and_then(|descriptor| descriptor.passing) {
            self.passings.mark_used(passing);
        }
    }
}

/// Closes a number: its past and its place remember it.
fn close_in(
    table: &mut Table,
    number: i32,
    is_held: bool,
    closing: &Closing,
    step: Step,
    by_sweep: bool,
) -> Option<Descriptor> {
    let descriptor = table.take(number, is_held)?;
    let opening = Arc::clone(&descriptor.opening);
    if descriptor.origin == Origin::Own {
        let site = table.sites.entry(site_of(&opening)).or_default();
        site.closed += 1;
        site.longest_ns = site.longest_ns.max(closing.time_ns.saturating_sub(opening.time_ns));
    }
    if let Some(past) = table.past_mut(number) {
        past.push(step);
        past.replace_last(Closed { opening, closing: closing.clone(), by_sweep });
    }
    Some(descriptor)
}
