//! The chain of custody: which tasks a resource passed through, where and when.
//!
//! A custody is a list of steps per resource, oldest first. It is bounded: a resource that changes
//! owners very often keeps its first [`STEPS_KEPT_FIRST`] and its last [`STEPS_KEPT_LAST`] steps, and
//! the number of steps between them.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::sync::Arc;

use echown_report::{Event, Site, TaskLabel};
use smallvec::SmallVec;

use super::moment::Moment;

/// The first steps to keep: the acquisition and the first owners explain most leaks.
const STEPS_KEPT_FIRST: usize = 8;
/// The last steps to keep.
const STEPS_KEPT_LAST: usize = 24;
/// Steps that need no allocation: most resources have three, acquired, given and released.
const STEPS_INLINE: usize = 3;

/// One recorded step: cheap to create, rendered only when it is read.
#[derive(Clone, Debug)]
pub(crate) struct RecordedStep {
    pub(crate) event: Event,
    pub(crate) from: Option<Arc<TaskLabel>>,
    pub(crate) to: Option<Arc<TaskLabel>>,
    pub(crate) site: Site,
    pub(crate) at: Moment,
    /// Kernel id of the thread on which it happened.
    pub(crate) thread: u32,
    /// Only at level `full`.
    pub(crate) backtrace: Option<Arc<Backtrace>>,
}

/// The bounded list of steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Custody {
    first: SmallVec<[RecordedStep; STEPS_INLINE]>,
    /// `Some` for the few resources with more steps.
    later: Option<Box<LaterSteps>>,
}

#[derive(Clone, Debug, Default)]
struct LaterSteps {
    last: VecDeque<RecordedStep>,
    omitted: u64,
}

impl Custody {
    #[inline]
    pub(crate) fn push(&mut self, step: RecordedStep) {
        if self.first.len() < STEPS_KEPT_FIRST {
            self.first.push(step);
        } else {
            self.push_later(step);
        }
    }

    #[cold]
    fn push_later(&mut self, step: RecordedStep) {
        let LaterSteps { last, omitted } = &mut **self.later.get_or_insert_default();
        if last.len() == STEPS_KEPT_LAST {
            last.pop_front();
            *omitted += 1;
        }
        last.push_back(step);
    }

    /// The steps that are kept, oldest first.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = &RecordedStep> {
        self.first.iter().chain(self.later.iter().flat_map(|later| &later.last))
    }

    /// How many steps between the first and the last ones were dropped.
    pub(crate) fn omitted(&self) -> u64 {
        self.later.as_ref().map_or(0, |later| later.omitted)
    }

    /// The latest step of one kind.
    pub(crate) fn latest(&self, event: Event) -> Option<&RecordedStep> {
        self.steps().rev().find(|step| step.event == event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(event: Event) -> RecordedStep {
        RecordedStep {
            event,
            from: None,
            to: None,
            site: Site::here(),
            at: Moment::now(),
            thread: 0,
            backtrace: None,
        }
    }

    #[test]
    fn a_long_custody_keeps_its_beginning_and_its_end_and_counts_the_rest() {
        let mut custody = Custody::default();
        custody.push(step(Event::Acquired));
        for _ in 0..1000 {
            custody.push(step(Event::Given));
        }
        custody.push(step(Event::Released));
        assert_eq!(custody.steps().count(), STEPS_KEPT_FIRST + STEPS_KEPT_LAST);
        assert_eq!(custody.omitted(), 1002 - (STEPS_KEPT_FIRST + STEPS_KEPT_LAST) as u64);
        assert_eq!(custody.steps().next().unwrap().event, Event::Acquired);
        assert_eq!(custody.steps().next_back().unwrap().event, Event::Released);
    }
}
