//! What a number was: its last descriptors and steps, and which of them a failed call means.

use std::sync::Arc;

use crate::event::Tid;
use crate::finding::{Closing, HISTORY_MAX, Opening, Step, StepKind};
use crate::stack::StackId;

/// A closed descriptor.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) opening: Arc<Opening>,
    pub(super) closing: Closing,
    /// A loop over all numbers closed it, or `close_range`.
    pub(super) by_sweep: bool,
}

impl Closed {
    /// Whether the task opened or closed it.
    fn is_of(&self, task: Tid) -> bool {
        [self.opening.thread.tid, self.closing.thread.tid].contains(&task)
    }

    /// Whether the close of a later descriptor looks like a second close of this one: by the thread or
    /// place that closed this one, and not by the thread that opened the later one.
    pub(super) fn is_closed_again_by(&self, later: &Closed) -> bool {
        let is_same_closer = self.closing.thread.tid == later.closing.thread.tid
            || (self.closing.stack == later.closing.stack && later.closing.stack != StackId::NONE);
        is_same_closer && later.closing.thread.tid != later.opening.thread.tid
    }
}

/// A descriptor that another thread closed than the one that opened it, whose opener may close it again.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    pub(super) closed: Closed,
    /// The descriptor before it, if the close looks like a second close of that one.
    pub(super) before: Option<Closed>,
}

/// What a number was. Copies of a table share it until they differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The last descriptor that was closed.
    pub(super) last: Option<Closed>,
    /// The one before.
    pub(super) before: Option<Closed>,
    /// The last descriptor that another thread than its opener closed.
    pub(super) foreign: Option<Box<Foreign>>,
    /// The last steps, oldest first.
    pub(super) steps: Vec<Step>,
}

impl Past {
    pub(super) fn push(&mut self, step: Step) {
        if self.steps.len() == HISTORY_MAX {
            self.steps.remove(0);
        } else if self.steps.len() == self.steps.capacity() {
            // Most numbers have one or two steps.
            self.steps.reserve_exact(if self.steps.is_empty() { 2 } else { HISTORY_MAX - 2 });
        }
        self.steps.push(step);
    }
    pub(super) fn replace_last(&mut self, closed: Closed) {
        let (opener, closer) = (closed.opening.thread.tid, closed.closing.thread.tid);
        if opener != closer {
            let former = self.foreign.as_deref().map(|foreign| &foreign.closed);
            let former = former.filter(|former| self.has_step_of(&former.closing));
            let mut befores = self.last.iter().chain(former);
            let before = befores.find(|before| before.is_closed_again_by(&closed)).cloned();
            self.foreign = Some(Box::new(Foreign { closed: closed.clone(), before }));
        }
        self.before = self.last.replace(closed);
    }

    /// Whether the task opened the descriptor that another thread closed.
    pub(super) fn is_foreign_of(&self, task: Tid) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.closed.opening.thread.tid == task)
    }

    /// The closed descriptor that a failed call of the task means, and the one before it.
    ///
    /// That is the last one, unless one thread opened and closed that. Then it may be one of before: of a
    /// task that has nothing to do with the last one, its own; and of a task whose descriptor another
    /// thread closed by mistake, that one (`perror` opens and closes a duplicate after the first EBADF).
    pub(super) fn meant_by(&self, task: Tid, stack: StackId) -> (Option<&Closed>, Option<&Closed>) {
        let (before, last) = (self.before.as_ref(), self.last.as_ref());
        // After a loop over all numbers, a failed close says little about earlier ones.
        let Some(latest) = last.filter(|last| !last.by_sweep) else { return (before, last) };
        let opener = latest.opening.thread.tid;
        if opener != latest.closing.thread.tid {
            let foreign = self.foreign.as_deref();
            let same = foreign.filter(|foreign| foreign.closed.closing == latest.closing);
            return (same.and_then(|foreign| foreign.before.as_ref()).or(before), last);
        }
        let foreign = self.foreign.as_deref().filter(|foreign| {
            let closed = &foreign.closed;
            !closed.by_sweep && closed.is_of(task) && self.has_step_of(&closed.closing)
        });
        let is_own = |before: &&Closed| !before.by_sweep && opener != task && before.is_of(task);
        let own = before.filter(is_own);
        match (foreign, own) {
            (Some(foreign), None) if opener != task || is_mistake(foreign, latest, task, stack) => {
                (foreign.before.as_ref(), Some(&foreign.closed))
            }
            (Some(foreign), Some(own))
                if foreign.closed.closing == own.closing
                    || is_mistake(foreign, own, task, stack) =>
            {
                (foreign.before.as_ref(), Some(&foreign.closed))
            }
            (_, Some(own)) => (None, Some(own)),
            _ => (before, last),
        }
    }

    /// Whether the history still has the close.
    fn has_step_of(&self, closing: &Closing) -> bool {
        self.steps.iter().any(|step| {
            step.what == StepKind::Closed
                && step.time_ns == closing.time_ns
                && step.thread.tid == closing.thread.tid
        })
    }
}

/// Whether another thread closed the task's descriptor by mistake, so that the task closes it again at a
/// place of its own, after it opened and closed the latest one.
fn is_mistake(foreign: &Foreign, latest: &Closed, task: Tid, stack: StackId) -> bool {
    // Threads that pass descriptors on close many from one place.
    let is_unlike = |before: &Closed| before.opening.stack != foreign.closed.opening.stack;
    foreign.closed.opening.thread.tid == task
        && (latest.closing.stack != stack || stack == StackId::NONE)
        && (latest.opening.call == "dup" || foreign.before.as_ref().is_some_and(is_unlike))
}
