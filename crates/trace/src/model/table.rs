//! One descriptor table: what is open, what was open, and what the quarantine holds.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::numbers::Numbers;
use super::past::Past;
use super::sites::Sites;
use crate::finding::Opening;

/// The maximum number of closed numbers of one table whose past is kept.
const PASTS_MAX: usize = 1 << 16;

/// Where a table's descriptor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A call of this table's tasks created it.
    Own,
    /// It is a copy of another table's descriptor, or a look at `/proc` found it.
    Inherited,
}

/// An open descriptor.
#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    pub(super) opening: Arc<Opening>,
    pub(super) is_cloexec: bool,
    pub(super) origin: Origin,
    /// A call cleared its close-on-exec flag: it is meant for the programs that the process runs.
    pub(super) is_prepared: bool,
    /// Which passing to another program it belongs to.
    pub(super) passing: Option<u32>,
}

/// What a number is.
#[derive(Clone, Debug, Default)]
pub(super) enum State {
    #[default]
    Free,
    Open(Descriptor),
    /// The quarantine occupies it.
    Held,
}

/// A number that is or was open.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) past: Arc<Past>,
}

/// A descriptor table.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// The number of tasks that use it and are not about to end.
    pub(super) users: usize,
    /// The position of the event that made the table, or after which its processes ran another program:
    /// what was closed before was closed in another table, or by another program.
    pub(super) since: u64,
    /// The process runs no program of its own yet: it is a copy that `fork` made.
    pub(super) is_forked: bool,
    slots: FxHashMap<i32, Slot>,
    occupied: Numbers,
    held: VecDeque<i32>,
    open: usize,
    pub(super) sites: Sites,
}

impl Table {
    /// An empty table of one task.
    pub(super) fn new(since: u64) -> Table {
        Table { users: 1, since, ..Table::default() }
    }

    pub(super) fn slot(&self, number: i32) -> Option<&Slot> {
        self.slots.get(&number)
    }

    pub(super) fn open(&self, number: i32) -> Option<&Descriptor> {
        match &self.slots.get(&number)?.state {
            State::Open(descriptor) => Some(descriptor),
            _ => None,
        }
    }

    pub(super) fn open_mut(&mut self, number: i32) -> Option<&mut Descriptor> {
        match &mut self.slots.get_mut(&number)?.state {
            State::Open(descriptor) => Some(descriptor),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    pub(super) fn is_held(&self, number: i32) -> bool {
        matches!(self.slots.get(&number), Some(Slot { state: State::Held, .. }))
    }

    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(super) fn oldest_held(&self) -> Option<i32> {
        self.held.front().copied()
    }

    pub(super) fn held_numbers(&self) -> impl Iterator<Item = i32> {
        self.held.iter().copied()
    }

    pub(super) fn lowest_free(&mut self, from: i32) -> i32 {
        self.occupied.lowest_free(from)
    }

    /// The open numbers in ascending order.
    pub(super) fn open_numbers(&self) -> Vec<i32> {
        let mut numbers: Vec<i32> = self.iter_open().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn iter_open(&self) -> impl Iterator<Item = (i32, &Descriptor)> {
        self.slots.iter().filter_map(|(number, slot)| match &slot.state {
            State::Open(descriptor) => Some((*number, descriptor)),
            _ => None,
        })
    }

    /// Makes a number open. What was there must be closed before.
    pub(super) fn insert(&mut self, number: i32, descriptor: Descriptor) {
        let slot = self.slots.entry(number).or_default();
        match slot.state {
            State::Open(_) => {}
            State::Held => {
                self.held.retain(|held| *held != number);
                self.open += 1;
            }
            State::Free => self.open += 1,
        }
        slot.state = State::Open(descriptor);
        self.occupied.insert(number);
    }

    /// Makes an open number free, or held by the quarantine.
    pub(super) fn take(&mut self, number: i32, is_held: bool) -> Option<Descriptor> {
        let slot = self.slots.get_mut(&number)?;
        let next = if is_held { State::Held } else { State::Free };
        match std::mem::replace(&mut slot.state, next) {
            State::Open(descriptor) => {
                self.open -= 1;
                if is_held {
                    self.held.push_back(number);
                } else {
                    self.occupied.remove(number);
                    self.bound_pasts(number);
                }
                Some(descriptor)
            }
            state => {
                slot.state = state;
                None
            }
        }
    }

    /// Ends the quarantine of a number.
    pub(super) fn free_held(&mut self, number: i32) -> bool {
        let Some(slot) = self.slots.get_mut(&number) else { return false };
        if !matches!(slot.state, State::Held) {
            return false;
        }
        slot.state = State::Free;
        self.occupied.remove(number);
        self.held.retain(|held| *held != number);
        self.bound_pasts(number);
        true
    }

    /// The past of a number that was open at some time.
    pub(super) fn past_mut(&mut self, number: i32) -> Option<&mut Past> {
        self.slots.get_mut(&number).map(|slot| Arc::make_mut(&mut slot.past))
    }

    /// A copy for another process, or for a task that no longer shares this table.
    pub(super) fn copy(&self, since: u64, is_forked: bool) -> Table {
        let mut copy = Table {
            users: 0,
            since,
            is_forked,
            slots: self.slots.clone(),
            occupied: self.occupied.clone(),
            held: self.held.clone(),
            open: self.open,
            sites: Sites::default(),
        };
        for slot in copy.slots.values_mut() {
            if let State::Open(descriptor) = &mut slot.state {
                descriptor.origin = Origin::Inherited;
            }
        }
        copy
    }

    /// Its process runs another program, which did not close what is closed and did not open what is open.
    /// The quarantine ends: its descriptors close at an exec.
    pub(super) fn become_another_program(&mut self, since: u64) {
        while let Some(number) = self.oldest_held() {
            self.free_held(number);
        }
        self.slots.retain(|_, slot| matches!(slot.state, State::Open(_)));
        self.slots.shrink_to_fit();
        for slot in self.slots.values_mut() {
            if let State::Open(descriptor) = &mut slot.state {
                descriptor.origin = Origin::Inherited;
            }
        }
        self.since = since;
        self.is_forked = false;
        self.sites = Sites::default();
    }

    /// Forgets the past of a free number if too many are kept.
    fn bound_pasts(&mut self, number: i32) {
        if self.slots.len() - self.open - self.held.len() > PASTS_MAX {
            self.slots.remove(&number);
        }
    }
}
