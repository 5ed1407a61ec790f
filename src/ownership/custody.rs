//! Where and when something changed hands, and through whose.
//!
//! A custody is a list of steps, kept per resource, oldest first. It is bounded: a resource that
//! is handed to and fro forever keeps its first [`STEPS_KEPT_FIRST`] and its last
//! [`STEPS_KEPT_LAST`] steps and counts what lies between.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use echown_report::{Event, Site, TaskLabel};
use smallvec::SmallVec;

/// How the story began: acquisition and the first hands are what explains most leaks.
const STEPS_KEPT_FIRST: usize = 8;
/// How it ended.
const STEPS_KEPT_LAST: usize = 24;
/// Steps that need no allocation: own, give and release is the life of most resources.
const STEPS_INLINE: usize = 3;

/// One step as it is recorded: cheap to make, rendered only when somebody reads it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) event: Event,
    pub(crate) from: Option<TaskLabel>,
    pub(crate) to: Option<TaskLabel>,
    pub(crate) site: Site,
    pub(crate) at: Instant,
    /// Kernel id of the thread on which it happened.
    pub(crate) thread: u32,
    /// Only at level `full`.
    pub(crate) backtrace: Option<Arc<Backtrace>>,
}

/// The bounded list of steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Custody {
    first: SmallVec<[Step; STEPS_INLINE]>,
    /// Few have more than the first ones.
    further: Option<Box<OmittedMiddle>>,
}

#[derive(Clone, Debug, Default)]
struct OmittedMiddle {
    last: VecDeque<Step>,
    omitted: u64,
}

impl Custody {
    #[inline]
    pub(crate) fn push(&mut self, step: Step) {
        if self.first.len() < STEPS_KEPT_FIRST {
            self.first.push(step);
        } else {
            self.push_further(step);
        }
    }

    #[cold]
    fn push_further(&mut self, step: Step) {
        let OmittedMiddle { last, omitted } = &mut **self.further.get_or_insert_default();
        if last.len() == STEPS_KEPT_LAST {
            last.pop_front();
            *omitted += 1;
        }
        last.push_back(step);
    }

    /// The steps that are kept, oldest first.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.first.iter().chain(self.further.iter().flat_map(|further| &further.last))
    }

    /// How many steps between the first and the last ones were not kept.
    pub(crate) fn omitted(&self) -> u64 {
        self.further.as_ref().map_or(0, |further| further.omitted)
    }

    /// The latest step of one kind.
    pub(crate) fn latest(&self, event: Event) -> Option<&Step> {
        self.steps().rev().find(|step| step.event == event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(event: Event) -> Step {
        Step {
            event,
            from: None,
            to: None,
            site: Site::here(),
            at: Instant::now(),
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
