//! Descriptors that a program inherited without being notified of: which of them it uses.

use std::sync::Arc;

use super::record::Record;
use crate::finding::{Doubt, Finding, Kind, Opening, Process, Severity, Step};

/// The numbers of which a program learns by its arguments or its environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// They are named as descriptors.
    pub(super) named: &'a [i32],
    /// They occur, and may be other numbers.
    pub(super) hinted: &'a [i32],
}

/// A descriptor that crossed an exec.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    pub(super) opening: Arc<Opening>,
    pub(super) number: i32,
    /// The process that runs another program since.
    pub(super) heir: Arc<Process>,
    /// Why it is only a note.
    pub(super) doubt: Option<Doubt>,
    pub(super) time_ns: u64,
    pub(super) history: Vec<Step>,
    /// The heir or one of its descendants used the descriptor.
    pub(super) is_used: bool,
    /// The number of tables that have it.
    pub(super) holders: usize,
}

/// All passings that are not decided.
#[derive(Debug, Default)]
pub(super) struct Passings {
    entries: Vec<Option<Passing>>,
    free: Vec<u32>,
}

impl Passings {
    pub(super) fn add(&mut self, passing: Passing) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            self.entries[id as usize] = Some(passing);
            return Some(id);
        }
        let id = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Some(passing));
        Some(id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    pub(super) fn is_used(&self, id: u32) -> bool {
        self.entries.get(id as usize).and_then(Option::as_ref).is_none_or(|entry| entry.is_used)
    }

    pub(super) fn mark_used(&mut self, id: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(id as usize) {
            entry.is_used = true;
        }
    }

    /// Another table has a copy of the descriptor.
    pub(super) fn hold(&mut self, id: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(id as usize) {
            entry.holders += 1;
        }
    }

    /// A table does not have the descriptor any more. With the last one it is decided.
    pub(super) fn release(&mut self, id: u32, record: &mut Record) {
        let Some(slot) = self.entries.get_mut(id as usize) else { return };
        let Some(entry) = slot else { return };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        if let Some(passing) = slot.take().filter(|passing| !passing.is_used) {
            record.add(finding_of(&passing));
        }
        self.free.push(id);
    }

    /// Adds those that are unused now.
    pub(super) fn unused(&self, record: &mut Record) {
        for passing in self.entries.iter().flatten().filter(|passing| !passing.is_used) {
            record.add(finding_of(passing));
        }
    }
}

fn finding_of(passing: &Passing) -> Finding {
    Finding {
        kind: Kind::ExecLeak,
        severity: if passing.doubt.is_some() { Severity::Note } else { Severity::Error },
        is_certain: false,
        process: Arc::clone(&passing.opening.thread.process),
        number: passing.number,
        opening: Some(Arc::clone(&passing.opening)),
        closes: Vec::new(),
        reused_from: None,
        usage: None,
        replaced_by: None,
        heirs: vec![Arc::clone(&passing.heir)],
        doubt: passing.doubt,
        history: passing.history.clone(),
        details: None,
        count: 1,
        processes: 1,
        first_ns: passing.time_ns,
        last_ns: passing.time_ns,
    }
}
