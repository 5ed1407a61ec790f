//! The chain of custody: which tasks a resource passed through, where and when.
//!
//! A custody is a list of steps per resource, oldest first. It is bounded: a resource that changes
//! owners very often keeps its first [`STEPS_KEPT_FIRST`] and its last [`STEPS_KEPT_LAST`] steps, and
//! the number of steps between them.
//!
//! A server parks a connection after each message. So parking and unparking in turn is two entries,
//! however often it happens: the last step of either kind, with the number of those it stands for. From
//! the second time on, a step allocates nothing.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::sync::Arc;

use echown_events::{ResourceName, What};
use echown_report::{Event, Site, TaskId, TaskLabel};
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
}

impl RecordedStep {
    /// The step as observers get it, with the number of steps that it stands for.
    pub(crate) fn to_event(&self, resource: ResourceName, times: u64) -> echown_events::Event {
        let what = What::Step {
            step: self.event,
            resource,
            from: self.from.clone(),
            to: self.to.clone(),
            site: self.site,
            times,
        };
        echown_events::Event { time_ns: self.at.nanos(), thread: self.thread, what }
    }
}

/// A step after the first ones, and how many equal ones in turn it stands for.
#[derive(Clone, Debug)]
struct LaterStep {
    step: RecordedStep,
    times: u64,
}

/// A step that may repeat one that the custody has, without the labels of its tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeated {
    pub(crate) event: Event,
    pub(crate) from: TaskId,
    pub(crate) to: TaskId,
    pub(crate) site: Site,
    pub(crate) at: Moment,
    pub(crate) thread: u32,
}

/// The bounded list of steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Custody {
    first: SmallVec<[RecordedStep; STEPS_INLINE]>,
    /// `None` for most resources.
    rare: Option<Box<RareSteps>>,
}

/// What few resources have: those with many steps or with backtraces. It is outside the resource's cell,
/// which a million live resources have one of each.
#[derive(Clone, Debug, Default)]
struct RareSteps {
    last: VecDeque<LaterStep>,
    omitted: u64,
    /// Level `full` only: the backtrace of every step that is kept, in their order.
    backtraces: VecDeque<Arc<Backtrace>>,
}

impl Custody {
    #[inline]
    pub(crate) fn push(&mut self, step: RecordedStep) {
        let is_at_the_beginning = self.first.len() < STEPS_KEPT_FIRST
            && self.rare.as_ref().is_none_or(|rare| rare.last.is_empty())
            && !is_repetition(step.event, || self.first.iter().rev().map(|step| step.event));
        if is_at_the_beginning {
            self.first.push(step);
        } else {
            self.push_later(step);
        }
    }

    #[cold]
    fn push_later(&mut self, step: RecordedStep) {
        let RareSteps { last, omitted, backtraces } = &mut **self.rare.get_or_insert_default();
        if is_repetition(step.event, || last.iter().rev().map(|later| later.step.event)) {
            // The earlier step of this kind, which is before the latest of the other kind.
            let index = last.len() - 2;
            backtraces.remove(self.first.len() + index);
            last.swap(index, index + 1);
            let earlier = &mut last[index + 1];
            earlier.step = step;
            earlier.times += 1;
            return;
        }
        if last.len() == STEPS_KEPT_LAST
            && let Some(dropped) = last.pop_front()
        {
            backtraces.remove(self.first.len());
            *omitted += dropped.times;
        }
        last.push_back(LaterStep { step, times: 1 });
    }

    /// Adds a step that continues parking and unparking in turn between the same tasks. Returns false if it
    /// does not, and has to be pushed.
    pub(crate) fn repeat(&mut self, step: Repeated) -> bool {
        let Some(RareSteps { last, backtraces, .. }) = self.rare.as_deref_mut() else {
            return false;
        };
        let Some(index) = last.len().checked_sub(2) else { return false };
        let is = |label: &Option<Arc<TaskLabel>>, id| label.as_ref().is_some_and(|it| it.id == id);
        let earlier = &last[index].step;
        let is_same = earlier.event == step.event
            && is(&earlier.from, step.from)
            && is(&earlier.to, step.to)
            && backtraces.is_empty();
        if !is_same || !is_repetition(step.event, || last.iter().rev().map(|it| it.step.event)) {
            return false;
        }
        let LaterStep { step: earlier, times } = &mut last[index];
        (earlier.site, earlier.at, earlier.thread) = (step.site, step.at, step.thread);
        *times += 1;
        last.swap(index, index + 1);
        true
    }

    /// Adds the backtrace of the step just pushed. Every step of a resource has one, or none has.
    #[cold]
    pub(crate) fn push_backtrace(&mut self, backtrace: Arc<Backtrace>) {
        self.rare.get_or_insert_default().backtraces.push_back(backtrace);
    }

    /// The steps that are kept, oldest first.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = &RecordedStep> {
        self.counted_steps().map(|(step, _)| step)
    }

    /// The steps that are kept, oldest first, and how many each stands for: itself, and for parking and
    /// unparking in turn all of its kind.
    pub(crate) fn counted_steps(&self) -> impl DoubleEndedIterator<Item = (&RecordedStep, u64)> {
        let later = self.rare.iter().flat_map(|rare| &rare.last);
        let later = later.map(|LaterStep { step, times }| (step, *times));
        self.first.iter().map(|step| (step, 1)).chain(later)
    }

    /// The backtrace of a step, by its index in [`steps`](Custody::steps).
    pub(crate) fn backtrace(&self, index: usize) -> Option<&Backtrace> {
        self.rare.as_ref()?.backtraces.get(index).map(|backtrace| &**backtrace)
    }

    /// How many steps between the first and the last ones were dropped.
    pub(crate) fn omitted(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.omitted)
    }

    /// The latest step of one kind.
    pub(crate) fn latest(&self, event: Event) -> Option<&RecordedStep> {
        self.steps().rev().find(|step| step.event == event)
    }
}

/// Whether a step continues parking and unparking in turn. `latest`: the steps before, latest first.
#[inline]
fn is_repetition<I: Iterator<Item = Event>>(step: Event, latest: impl FnOnce() -> I) -> bool {
    let other = match step {
        Event::Parked => Event::Unparked,
        Event::Unparked => Event::Parked,
        _ => return false,
    };
    let mut latest = latest();
    latest.next() == Some(other) && latest.next() == Some(step)
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

    #[test]
    fn parking_in_turn_is_two_entries_with_their_numbers_however_often() {
        let mut custody = Custody::default();
        custody.push(step(Event::Acquired));
        custody.push(step(Event::Parked));
        for _ in 0..1000 {
            custody.push(step(Event::Unparked));
            custody.push(step(Event::Parked));
        }
        let room = custody.rare.as_ref().unwrap().last.capacity();
        custody.push(step(Event::Unparked));
        assert_eq!(custody.rare.as_ref().unwrap().last.capacity(), room);
        let counted = |custody: &Custody| {
            custody.counted_steps().map(|(step, times)| (step.event, times)).collect::<Vec<_>>()
        };
        let start = [(Event::Acquired, 1), (Event::Parked, 1), (Event::Unparked, 1)];
        let run = [(Event::Parked, 1000), (Event::Unparked, 1000)];
        assert_eq!(counted(&custody), [&start[..], &run].concat());
        assert!(custody.steps().is_sorted_by_key(|step| step.at));
        // Another step ends the run. The next one is counted for itself.
        custody.push(step(Event::Given));
        let given = [(Event::Given, 1), (Event::Parked, 1), (Event::Unparked, 1)];
        custody.push(step(Event::Parked));
        custody.push(step(Event::Unparked));
        assert_eq!(counted(&custody), [&start[..], &run, &given].concat());
        assert_eq!(custody.omitted(), 0);
        for _ in 0..STEPS_KEPT_LAST {
            custody.push(step(Event::Given));
        }
        assert_eq!(custody.omitted(), 2003);
    }

    #[test]
    fn every_step_that_is_kept_keeps_its_own_backtrace() {
        let mut custody = Custody::default();
        let all: Vec<_> = (0..100).map(|_| Arc::new(Backtrace::disabled())).collect();
        for backtrace in &all {
            custody.push(step(Event::Given));
            custody.push_backtrace(Arc::clone(backtrace));
        }
        let kept = &custody.rare.as_ref().unwrap().backtraces;
        assert_eq!(kept.len(), custody.steps().count());
        let expected = all[..STEPS_KEPT_FIRST].iter().chain(&all[100 - STEPS_KEPT_LAST..]);
        assert!(expected.zip(kept).all(|(expected, kept)| Arc::ptr_eq(expected, kept)));
        assert!(custody.backtrace(kept.len()).is_none());
    }

    #[test]
    fn a_step_that_stands_for_others_keeps_the_latest_backtrace() {
        let mut custody = Custody::default();
        let all: Vec<_> = (0..10).map(|_| Arc::new(Backtrace::disabled())).collect();
        for (event, backtrace) in [Event::Parked, Event::Unparked].repeat(5).into_iter().zip(&all) {
            custody.push(step(event));
            custody.push_backtrace(Arc::clone(backtrace));
        }
        let kept = &custody.rare.as_ref().unwrap().backtraces;
        let expected = all[..2].iter().chain(&all[8..]);
        assert!(expected.zip(kept).all(|(expected, kept)| Arc::ptr_eq(expected, kept)));
        assert_eq!(kept.len(), 4);
    }
}
