//! What one task owns, in the order in which it came.
//!
//! The account is an index: who owns a resource is decided by its slot, and every move between two
//! accounts changes the slot and both lists under both locks, so that whoever holds a task's lock
//! sees exactly what the task owns. Locks are taken in ascending order of task ids.

use std::collections::BTreeMap;

/// How far a task has come, as seen by those who want to put something on its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a thread, or running.
    Open,
    /// Finalizing what is left; nothing comes in any more.
    Ending,
    /// Over, children included.
    Ended,
}

/// Position on an account; grows with every arrival and is never used twice.
pub(crate) type Position = u64;

/// What one task owns; `E` is how an entry is reached.
#[derive(Debug)]
pub(crate) struct Account<E> {
    pub(crate) phase: Phase,
    pub(crate) cancelled: bool,
    entries: BTreeMap<Position, E>,
    next: Position,
}

impl<E> Account<E> {
    pub(crate) fn new() -> Account<E> {
        Account { phase: Phase::Open, cancelled: false, entries: BTreeMap::new(), next: 1 }
    }

    /// Whether the account takes new entries.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.cancelled
    }

    /// Puts an entry at the end.
    pub(crate) fn push(&mut self, entry: E) -> Position {
        let position = self.next;
        self.next += 1;
        self.entries.insert(position, entry);
        position
    }

    pub(crate) fn remove(&mut self, position: Position) -> Option<E> {
        self.entries.remove(&position)
    }

    /// Takes the latest entry that `wanted` accepts.
    pub(crate) fn take_last(&mut self, mut wanted: impl FnMut(&E) -> bool) -> Option<E> {
        let position = self.entries.iter().rev().find(|(_, entry)| wanted(entry))?.0;
        let position = *position;
        self.entries.remove(&position)
    }

    /// Entries, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &E> {
        self.entries.values()
    }
}
