//! The table of records: for each number, the call that opened it and the call that closed it last.
//!
//! All memory is allocated before recording starts. The lock is a spin lock: it is taken in a
//! signal handler, where all signals are blocked, and for the length of a copy. Nothing is
//! allocated or freed under it, because an allocator may itself open a file (the C library's does,
//! to shrink a heap), and the handler of that call would wait for this lock.

use std::cell::UnsafeCell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::escape;

/// Numbers from this one on are not recorded. Four times the maximum of `select`; the table has a
/// few megabytes.
pub(super) const NUMBERS_MAX: usize = 4096;

/// The maximum number of frames per stack. A test's frames are within it; the outer ones belong to
/// the harness.
pub(super) const FRAMES_MAX: usize = 32;

/// The maximum number of recorded double closes; one is enough for a failure.
pub(super) const DOUBLES_MAX: usize = 16;

/// The maximum number of recorded places that close numbers that were never open.
const BULK_CLOSERS_MAX: usize = 16;

/// The record of one call.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    call: i64,
    thread: u32,
    length: usize,
    name: [u8; 16],
    addresses: [usize; FRAMES_MAX],
}

impl Trace {
    pub(super) fn new(call: i64, thread: u32, name: [u8; 16]) -> Trace {
        Trace { call, thread, length: 0, name, addresses: [0; FRAMES_MAX] }
    }

    /// Adds the next outer frame. Returns false if the stack is full.
    pub(super) fn push(&mut self, address: usize) -> bool {
        if let Some(place) = self.addresses.get_mut(self.length) {
            *place = address;
            self.length += 1;
        }
        self.length < FRAMES_MAX
    }

    pub(super) fn call(&self) -> i64 {
        self.call
    }

    pub(super) fn thread(&self) -> u32 {
        self.thread
    }

    pub(super) fn thread_name(&self) -> String {
        let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(self.name.len());
        escape::bytes(&self.name[..end]).into_owned()
    }

    pub(super) fn addresses(&self) -> &[usize] {
        &self.addresses[..self.length]
    }

    fn is_from_where(&self, other: &Trace) -> bool {
        self.addresses() == other.addresses()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FdState {
    /// Not recorded: the number is closed, or was opened before recording began.
    Unrecorded,
    Open,
    Closed,
}

#[derive(Clone, Copy)]
struct NumberEntry {
    state: FdState,
    opened: Option<Trace>,
    closed: Option<Trace>,
    /// The first close of a file that was opened before recording began.
    closed_of_others: Option<Trace>,
}

pub(super) type Second = (RawFd, [Option<Trace>; 3]);

pub(super) struct Table {
    slots: Vec<NumberEntry>,
    doubles: Vec<Second>,
    bulk_closers: Vec<Trace>,
}

/// The previous state of a number, to restore if the close failed.
pub(super) struct Undo(FdState, Option<Trace>);

impl Table {
    pub(super) fn new() -> Table {
        let empty = NumberEntry {
            state: FdState::Unrecorded,
            opened: None,
            closed: None,
            closed_of_others: None,
        };
        Table {
            slots: vec![empty; NUMBERS_MAX],
            doubles: Vec::with_capacity(DOUBLES_MAX),
            bulk_closers: Vec::with_capacity(BULK_CLOSERS_MAX),
        }
    }

    fn slot(&mut self, number: RawFd) -> Option<&mut NumberEntry> {
        self.slots.get_mut(usize::try_from(number).ok()?)
    }

    pub(super) fn opens(&mut self, number: RawFd, trace: &Trace) {
        if let Some(slot) = self.slot(number) {
            (slot.state, slot.opened) = (FdState::Open, Some(*trace));
        }
    }

    /// Records a close *before* it is made: once it is made, the number can be opened again, and
    /// recording the close after that opening would be wrong.
    pub(super) fn closes(&mut self, number: RawFd, trace: &Trace) -> Option<Undo> {
        let slot = self.slot(number)?;
        let before = Undo(slot.state, slot.closed);
        if slot.state == FdState::Unrecorded && slot.closed_of_others.is_none() {
            slot.closed_of_others = Some(*trace);
        }
        (slot.state, slot.closed) = (FdState::Closed, Some(*trace));
        Some(before)
    }

    /// Corrects the last close: the number was not open.
    pub(super) fn was_closed(&mut self, number: RawFd, before: Undo, trace: &Trace) {
        let Some(slot) = self.slot(number) else { return };
        let Undo(state, closed) = before;
        let opened = slot.opened;
        match state {
            FdState::Unrecorded => {
                (slot.state, slot.closed, slot.closed_of_others) = (state, None, None);
                self.add_bulk_closer(trace);
            }
            FdState::Closed => {
                slot.closed = closed;
                let follows = |(last, traces): &Second| {
                    last.abs_diff(number) == 1
                        && traces[2].as_ref().is_some_and(|second| second.is_from_where(trace))
                };
                if self.doubles.last().is_some_and(follows) {
                    // One place closes consecutive numbers: a loop over all numbers, which is not a
                    // fault.
                    self.add_bulk_closer(trace);
                }
                if self.doubles.len() < DOUBLES_MAX {
                    self.doubles.push((number, [opened, closed, Some(*trace)]));
                }
            }
            // Closed by a call that was not recorded, so the state is uncertain.
            FdState::Open => {}
        }
    }

    pub(super) fn closes_range(&mut self, first: u32, last: u32, trace: &Trace) {
        for number in (first as usize..NUMBERS_MAX).take_while(|&number| number <= last as usize) {
            let slot = &mut self.slots[number];
            if slot.state == FdState::Unrecorded && slot.closed_of_others.is_none() {
                slot.closed_of_others = Some(*trace);
            }
            if slot.state == FdState::Open {
                (slot.state, slot.closed) = (FdState::Closed, Some(*trace));
            }
        }
    }

    /// Records a bulk closer: a place that closes a number that was never open closes a range of
    /// numbers, so it makes no double closes.
    fn add_bulk_closer(&mut self, trace: &Trace) {
        let is_known = self.bulk_closers.iter().any(|known| known.is_from_where(trace));
        if !is_known && self.bulk_closers.len() < BULK_CLOSERS_MAX {
            self.bulk_closers.push(*trace);
        }
    }

    pub(super) fn opened(&mut self, number: RawFd) -> Option<Trace> {
        let slot = self.slot(number)?;
        slot.opened.filter(|_| slot.state == FdState::Open)
    }

    pub(super) fn last_close(&mut self, number: RawFd) -> Option<Trace> {
        let slot = self.slot(number)?;
        slot.closed.filter(|_| slot.state == FdState::Closed)
    }

    pub(super) fn is_closed(&mut self, number: RawFd) -> bool {
        self.slot(number).is_some_and(|slot| slot.state == FdState::Closed)
    }

    pub(super) fn closed_of_others(&mut self, number: RawFd) -> Option<Trace> {
        self.slot(number)?.closed_of_others
    }

    /// Adds the double closes to `found`, which has the capacity for [`DOUBLES_MAX`]: nothing may
    /// be allocated under the lock.
    pub(super) fn doubles(&mut self, found: &mut Vec<Second>) {
        let is_by_bulk_closer = |(_, traces): &Second| {
            let second = traces[2].as_ref();
            second.is_some_and(|second| self.bulk_closers.iter().any(|it| it.is_from_where(second)))
        };
        found.extend(self.doubles.iter().filter(|double| !is_by_bulk_closer(double)));
    }
}

/// The table with its lock.
pub(super) struct Locked {
    is_locked: AtomicBool,
    table: UnsafeCell<Option<Table>>,
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
        let result = unsafe { (*self.table.get()).as_mut() }.map(f);
        self.unlock();
        result
    }

    pub(super) fn set(&self, table: Table) {
        self.lock();
        // SAFETY: as in `with`.
        let before = unsafe { (*self.table.get()).replace(table) };
        self.unlock();
        drop(before);
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
mod tests {
    use super::*;

    fn from(place: usize) -> Trace {
        let mut trace = Trace::new(libc::SYS_close, 1, [0; 16]);
        trace.push(place);
        trace
    }

    /// A close that succeeds or fails with EBADF in the kernel.
    fn close(table: &mut Table, number: RawFd, place: usize, was_open: bool) {
        let before = table.closes(number, &from(place)).expect("the number is small");
        if !was_open {
            table.was_closed(number, before, &from(place));
        }
    }

    fn doubles(table: &mut Table) -> Vec<(RawFd, Vec<usize>)> {
        let place = |trace: Option<Trace>| trace.map_or(0, |trace| trace.addresses()[0]);
        let mut found = Vec::new();
        table.doubles(&mut found);
        found.into_iter().map(|(n, all)| (n, all.map(place).to_vec())).collect()
    }

    #[test]
    fn a_second_close_of_the_same_opening_names_all_three_places() {
        let mut table = Table::new();
        table.opens(5, &from(1));
        close(&mut table, 5, 2, true);
        close(&mut table, 5, 3, false);
        assert_eq!(doubles(&mut table), [(5, vec![1, 2, 3])]);
    }

    #[test]
    fn a_close_after_the_number_was_opened_again_is_no_second_one() {
        let mut table = Table::new();
        for place in [1, 3] {
            table.opens(5, &from(place));
            close(&mut table, 5, place + 1, true);
        }
        assert!(doubles(&mut table).is_empty());
    }

    #[test]
    fn a_loop_that_closes_everything_closes_nothing_twice() {
        let mut table = Table::new();
        for number in 5..8 {
            table.opens(number, &from(1));
            close(&mut table, number, 2, true);
        }
        for number in 3..20 {
            close(&mut table, number, 3, false);
        }
        assert!(doubles(&mut table).is_empty());
        // Nor if all numbers of the loop were open.
        for number in 5..8 {
            close(&mut table, number, 4, false);
        }
        assert!(doubles(&mut table).is_empty());
    }

    #[test]
    fn the_close_of_a_number_opened_before_is_kept() {
        let mut table = Table::new();
        close(&mut table, 1, 7, true);
        table.opens(1, &from(8));
        assert_eq!(table.closed_of_others(1).map(|trace| trace.addresses()[0]), Some(7));
        assert_eq!(table.opened(1).map(|trace| trace.addresses()[0]), Some(8));
        close(&mut table, 9, 7, false);
        assert!(table.closed_of_others(9).is_none(), "it was not open");
    }
}
