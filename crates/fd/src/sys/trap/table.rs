//! The table of records: for each number, its last events, and what was misused.
//!
//! It lies in zeroed memory from the kernel, which allocates a page at its first use, so that a
//! test pays for the numbers that it uses. The lock is a spin lock: it is taken in a signal handler,
//! where all signals are blocked, and for the length of a copy. Nothing is allocated or freed under
//! it, because an allocator may itself open a file (the C library's does, to shrink a heap), and
//! the handler of that call would wait for this lock.

use std::cell::UnsafeCell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::findings::Findings;
use super::history::{Event, History, NUMBERS_MAX};
use super::misuse::{EventKind, Misuse};
use super::opened_kind::{KindCode, OpenedKind};
use super::quarantine::Quarantine;
use super::stacks::{Call, Stacks, Trace};
use super::sweep::{Found, Runs};

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum FdState {
    /// Not recorded: the number is closed, or was opened before recording began.
    Unrecorded = 0,
    Open,
    Closed,
}

/// The record of a number. Valid if all bytes are zero.
#[derive(Clone, Copy)]
struct NumberEntry {
    state: FdState,
    /// Whether the standard library has found the number closed and would have aborted.
    is_abort_due: bool,
    kind: KindCode,
    /// The number of openings so far.
    openings: u32,
    opened: Call,
    closed: Call,
    /// The first close of a file that was opened before recording began.
    closed_of_others: Call,
    /// Whether the descriptor is left to child programs on purpose.
    is_passed: bool,
    history: History,
}

/// The table. Valid if all bytes are zero.
pub(super) struct Table {
    slots: [NumberEntry; NUMBERS_MAX],
    /// The highest number that was opened so far.
    opened_max: RawFd,
    stacks: Stacks,
    runs: Runs,
    findings: Findings,
    pub(super) quarantine: Quarantine,
}

/// A close that is being made, and the previous state of the number, to restore if the close
/// fails.
#[derive(Clone, Copy)]
pub(super) struct Closing {
    call: Call,
    state: FdState,
    closed: Call,
    is_first_of_others: bool,
    /// The number of the event in the history.
    event: u32,
}

impl Table {
    /// An empty table, for the rest of the process; `None` if the kernel has no memory.
    pub(super) fn new() -> Option<&'static mut Table> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a new private mapping, which nothing else refers to.
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), size_of::<Table>(), protection, flags, -1, 0)
        };
        // SAFETY: the mapping is aligned to a page, has the table's size, is never unmapped, and
        // its bytes are zero, which all fields of the table accept.
        (memory != libc::MAP_FAILED).then(|| unsafe { &mut *memory.cast::<Table>() })
    }

    fn slot(&mut self, number: RawFd) -> Option<&mut NumberEntry> {
        self.slots.get_mut(usize::try_from(number).ok()?)
    }

    /// How often a number was opened so far.
    pub(super) fn generation(&mut self, number: RawFd) -> u32 {
        self.slot(number).map_or(0, |slot| slot.openings)
    }

    /// The number of openings under a stack so far, on any number.
    pub(super) fn openings(&self, addresses: &[usize]) -> usize {
        self.stacks.openings(addresses)
    }

    pub(super) fn opens(&mut self, number: RawFd, trace: &Trace) {
        let call = self.stacks.store(trace);
        self.stacks.count_opening(call);
        let kind = match trace.kind() {
            OpenedKind::Known(kind) => kind,
            OpenedKind::SameAs(other) => self.kind(other),
        };
        if let Some(slot) = self.slot(number) {
            (slot.state, slot.opened, slot.kind) = (FdState::Open, call, kind);
            slot.openings += 1;
            slot.history.add(Event { kind: EventKind::Opened, call });
            slot.is_passed = false;
            self.opened_max = self.opened_max.max(number);
            self.quarantine.remove(number);
        }
    }

    /// Records that a descriptor is left to child programs on purpose.
    pub(super) fn passes(&mut self, number: RawFd) {
        if let Some(slot) = self.slot(number) {
            slot.is_passed = true;
        }
    }

    /// Calls `found` for each open number that is not left to child programs on purpose.
    pub(super) fn inheritable(&self, mut found: impl FnMut(usize)) {
        let count = self.opened_max as usize + 1;
        for (number, slot) in self.slots.iter().enumerate().take(count) {
            if slot.state == FdState::Open && !slot.is_passed {
                found(number);
            }
        }
    }

    /// Records a close *before* it is made: once it is made, the number can be opened again, and
    /// recording the close after that opening would be wrong.
    pub(super) fn closes(&mut self, number: RawFd, trace: &Trace) -> Option<Closing> {
        let call = self.stacks.store(trace);
        let slot = self.slot(number)?;
        let is_first_of_others =
            slot.state == FdState::Unrecorded && !slot.closed_of_others.is_some();
        if is_first_of_others {
            slot.closed_of_others = call;
        }
        let (state, closed) = (slot.state, slot.closed);
        (slot.state, slot.closed) = (FdState::Closed, call);
        let event = slot.history.add(Event { kind: EventKind::Closed, call });
        Some(Closing { call, state, closed, is_first_of_others, event })
    }

    /// Completes the record of a close whose number was open.
    pub(super) fn has_closed(&mut self, number: RawFd, closing: Closing) {
        self.runs.add(closing.call, number, Found::Open);
    }

    /// Corrects the record of a close: the number was not open.
    pub(super) fn was_closed(&mut self, number: RawFd, closing: Closing) {
        let found = match closing.state {
            FdState::Unrecorded => Found::NeverOpen,
            FdState::Closed => Found::Closed,
            // Closed by a call that was not recorded, so the state is uncertain.
            FdState::Open => return,
        };
        let run = self.runs.add(closing.call, number, found);
        if run.is_sweep {
            self.findings.remove_run(run.id);
        }
        let Some(slot) = self.slot(number) else { return };
        let is_reopened = slot.history.count() != closing.event;
        if !is_reopened {
            slot.closed = closing.closed;
        }
        if found == Found::NeverOpen {
            if !is_reopened {
                slot.state = FdState::Unrecorded;
            }
            if closing.is_first_of_others {
                slot.closed_of_others = Call::NONE;
            }
            slot.history.remove(closing.event);
            return;
        }
        slot.history.set_kind(closing.event, EventKind::ClosedAgain);
        let is_abort_due = std::mem::take(&mut slot.is_abort_due);
        if !run.is_sweep {
            let slot = *slot;
            let finding = self.findings.add(
                Misuse::DoubleClose,
                number,
                slot.openings,
                &slot.history,
                run.id,
            );
            if let Some(finding) = finding {
                finding.is_abort_due |= is_abort_due;
                finding.kind = slot.kind;
            }
        }
    }

    /// Records that a call failed because its number is closed.
    pub(super) fn was_used_closed(&mut self, number: RawFd, trace: &Trace) {
        if !self.is_closed(number) {
            return;
        }
        let call = self.stacks.store(trace);
        let Some(slot) = self.slot(number) else { return };
        slot.history.add(Event { kind: EventKind::Used, call });
        self.add_finding(Misuse::UseAfterClose, number);
    }

    /// Records the close of a number that is in quarantine. Returns false if it is not.
    pub(super) fn closes_again(&mut self, number: RawFd, trace: &Trace) -> bool {
        let is_held = self.quarantine.holds(number);
        if let Some(closing) = is_held.then(|| self.closes(number, trace)).flatten() {
            self.was_closed(number, closing);
        }
        is_held
    }

    /// Records a close that puts the number into quarantine. Also returns the number that leaves it.
    pub(super) fn closes_into_quarantine(
        &mut self,
        number: RawFd,
        trace: &Trace,
    ) -> (Option<Closing>, Option<RawFd>) {
        let user = self.quarantine.waiting_on(number);
        if let (Some(call), Some(slot)) = (user, self.slot(number)) {
            slot.history.add(Event { kind: EventKind::InUse, call });
        }
        let closing = self.closes(number, trace);
        if user.is_some() {
            self.add_finding(Misuse::ClosedInUse, number);
        }
        (closing, self.quarantine.add(number))
    }

    /// Records that a thread is about to wait for input.
    pub(super) fn waits(&mut self, thread: u32, number: RawFd, trace: &Trace) {
        let call = self.stacks.store(trace);
        self.quarantine.waits(thread, number, call);
    }

    /// Records that the call of a close was `dup2` or `dup3`, if the number was open.
    pub(super) fn was_overwritten(&mut self, number: RawFd, closing: Closing) {
        if closing.state == FdState::Open && number > libc::STDERR_FILENO {
            self.add_finding(Misuse::Overwritten, number);
        }
    }

    fn add_finding(&mut self, misuse: Misuse, number: RawFd) {
        let Some(slot) = self.slot(number).map(|slot| *slot) else { return };
        let finding = self.findings.add(misuse, number, slot.openings, &slot.history, 0);
        if let Some(finding) = finding {
            finding.kind = slot.kind;
        }
    }

    /// Records that a call has sent a number.
    pub(super) fn passes_on(&mut self, number: RawFd, trace: &Trace) {
        let call = self.stacks.store(trace);
        let Some(slot) = self.slot(number).filter(|slot| slot.state == FdState::Open) else {
            return;
        };
        // Only the last one, so that a loop does not replace the whole history.
        let last = slot.history.events().last().map(|event| event.kind);
        if last == Some(EventKind::PassedOn) {
            slot.history.remove(slot.history.count());
        }
        slot.history.add(Event { kind: EventKind::PassedOn, call });
    }

    /// The last call that sent a number's current file.
    pub(super) fn passed_on(&mut self, number: RawFd) -> Option<Trace> {
        let slot = self.slot(number).filter(|slot| slot.state == FdState::Open)?;
        let mut sent = None;
        for event in slot.history.events() {
            match event.kind {
                EventKind::Opened => sent = None,
                EventKind::PassedOn => sent = Some(event.call),
                _ => {}
            }
        }
        let sent = sent?;
        self.stacks.trace(sent)
    }

    /// Records that the standard library has found a number closed that it is about to close, and
    /// would abort.
    pub(super) fn abort_is_due(&mut self, number: RawFd) {
        if let Some(slot) = self.slot(number) {
            slot.is_abort_due = true;
        }
    }

    pub(super) fn closes_range(&mut self, first: u32, last: u32, trace: &Trace) {
        let call = self.stacks.store(trace);
        for number in (first as usize..NUMBERS_MAX).take_while(|&number| number <= last as usize) {
            self.quarantine.remove(number as RawFd);
            let slot = &mut self.slots[number];
            if slot.state == FdState::Unrecorded && !slot.closed_of_others.is_some() {
                slot.closed_of_others = call;
            }
            if slot.state == FdState::Open {
                (slot.state, slot.closed) = (FdState::Closed, call);
                slot.history.add(Event { kind: EventKind::Closed, call });
            }
        }
    }

    pub(super) fn opened(&mut self, number: RawFd) -> Option<Trace> {
        let slot = self.slot(number)?;
        let call = if slot.state == FdState::Open { slot.opened } else { return None };
        self.stacks.trace(call)
    }

    pub(super) fn is_closed(&mut self, number: RawFd) -> bool {
        self.slot(number).is_some_and(|slot| slot.state == FdState::Closed)
    }

    /// The last close of a number that has not been opened again since.
    pub(super) fn last_close(&mut self, number: RawFd) -> Option<Trace> {
        let slot = self.slot(number)?;
        let call = if slot.state == FdState::Closed { slot.closed } else { return None };
        self.stacks.trace(call)
    }

    pub(super) fn closed_of_others(&mut self, number: RawFd) -> Option<Trace> {
        let call = self.slot(number)?.closed_of_others;
        self.stacks.trace(call)
    }

    /// Sets the kind of an open number, which a call has determined more closely.
    pub(super) fn set_kind(&mut self, number: RawFd, kind: KindCode) {
        if let Some(slot) = self.slot(number) {
            slot.kind = kind;
        }
    }

    pub(super) fn kind(&mut self, number: RawFd) -> KindCode {
        self.slot(number).map_or(KindCode::UNKNOWN, |slot| slot.kind)
    }

    pub(super) fn history(&mut self, number: RawFd) -> Option<History> {
        self.slot(number).map(|slot| slot.history)
    }

    pub(super) fn findings(&self) -> Findings {
        self.findings
    }

    pub(super) fn trace(&self, call: Call) -> Option<Trace> {
        self.stacks.trace(call)
    }
}

/// The table with its lock.
pub(super) struct Locked {
    is_locked: AtomicBool,
    table: UnsafeCell<Option<&'static mut Table>>,
}

pub(super) static TABLE: Locked =
    Locked { is_locked: AtomicBool::new(false), table: UnsafeCell::new(None) };

// SAFETY: the table is accessed only in `with` and `set`, which hold the lock; it contains plain
// data.
unsafe impl Sync for Locked {}

impl Locked {
    /// Calls `f` with the table, if recording has begun. Not reentrant: in a handler all signals
    /// are blocked, and elsewhere `f` only copies.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Table) -> R) -> Option<R> {
        self.lock();
        // SAFETY: this thread holds the lock and does so once, so this is the only reference.
        let result = unsafe { (*self.table.get()).as_deref_mut() }.map(f);
        self.unlock();
        result
    }

    pub(super) fn set(&self, table: &'static mut Table) {
        self.lock();
        // SAFETY: as in `with`.
        unsafe { *self.table.get() = Some(table) };
        self.unlock();
    }

    /// Releases the lock in a forked child. Another thread of the parent may have held it; the data
    /// is plain, so what that thread was writing is at worst one wrong record.
    pub(super) fn unlock_after_fork(&self) {
        self.unlock();
    }

    fn lock(&self) {
        // ord: Acquire; partner: the Release in `unlock`. Makes the writes of the last holder
        // visible.
        while self.is_locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        // ord: Release; partner: the Acquire in `lock`.
        self.is_locked.store(false, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
