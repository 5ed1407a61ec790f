//! The model: vectors that hold the owner, state and custody of each resource.

use std::collections::{HashMap, HashSet};

use super::script::Finalizer;
use echown::ownership::{ErrorKind, Event, TaskId, Unparked};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Held,
    Busy,
    Offered,
    Parked,
    Released,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Busy => "busy",
            State::Offered => "offered",
            State::Parked => "parked",
            State::Released => "released",
        }
    }
}

pub type Step = (Event, Option<TaskId>, Option<TaskId>);

#[derive(Debug)]
pub struct Thing {
    pub state: State,
    pub owner: TaskId,
    pub finalizer: Finalizer,
    /// It was found held by an event.
    pub ready: bool,
    pub custody: Vec<Step>,
    pub disowned: bool,
}

#[derive(Debug, Default)]
pub struct Model {
    pub things: Vec<Thing>,
    /// The resources of each task, in order of arrival.
    pub accounts: HashMap<TaskId, Vec<usize>>,
    pub parents: HashMap<TaskId, TaskId>,
    pub ended: HashSet<TaskId>,
    pub finalized: Vec<usize>,
    pub leaks: u64,
    pub violations: u64,
    pub failed_finalizers: u64,
}

impl Model {
    /// The error that prevents `me` from using the resource now.
    pub fn check(&self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        let thing = &self.things[thing];
        match thing.state {
            State::Released => Err(ErrorKind::UseAfterRelease),
            _ if thing.owner != me => Err(ErrorKind::NotOwner),
            State::Offered | State::Parked => Err(ErrorKind::NotOwner),
            State::Busy => Err(ErrorKind::InUse),
            State::Held => Ok(()),
        }
    }

    /// Counts an error by its kind.
    pub fn refuse<T>(&mut self, kind: ErrorKind) -> Result<T, ErrorKind> {
        self.violations += u64::from(kind.is_violation());
        Err(kind)
    }

    pub fn checked(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.check(me, thing).or_else(|kind| self.refuse(kind))
    }

    pub fn own(&mut self, me: TaskId, finalizer: Finalizer) -> usize {
        let thing = self.things.len();
        let custody = vec![(Event::Acquired, None, Some(me))];
        self.things.push(Thing {
            state: State::Held,
            owner: me,
            finalizer,
            ready: false,
            custody,
            disowned: false,
        });
        self.accounts.entry(me).or_default().push(thing);
        thing
    }

    pub fn leave_account(&mut self, thing: usize) {
        let owner = self.things[thing].owner;
        self.accounts.entry(owner).or_default().retain(|entry| *entry != thing);
    }

    pub fn record_release(&mut self, thing: usize, step: Step) {
        self.leave_account(thing);
        self.things[thing].state = State::Released;
        self.things[thing].custody.push(step);
    }

    /// Finalizes. Returns the failure of the finalizer, if any.
    pub fn finalize(&mut self, me: TaskId, thing: usize, event: Event) -> Result<(), ErrorKind> {
        self.record_release(thing, (event, Some(me), None));
        self.finalized.push(thing);
        match self.things[thing].finalizer {
            Finalizer::Succeeds => Ok(()),
            Finalizer::Fails => Err(ErrorKind::FinalizerFailed),
            Finalizer::Panics => Err(ErrorKind::FinalizerPanicked),
        }
    }

    /// Like [`finalize`](Model::finalize), but a failure is only reported.
    pub fn finalize_reporting(&mut self, me: TaskId, thing: usize, event: Event) {
        if self.finalize(me, thing, event).is_err() {
            self.failed_finalizers += 1;
        }
    }

    pub fn release(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.checked(me, thing).map_err(|kind| match kind {
            ErrorKind::UseAfterRelease => ErrorKind::DoubleRelease,
            kind => kind,
        })?;
        self.finalize(me, thing, Event::Released)
    }

    pub fn disown(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.checked(me, thing)?;
        self.record_release(thing, (Event::Disowned, Some(me), None));
        self.things[thing].disowned = true;
        Ok(())
    }

    pub fn hand_over(&mut self, thing: usize, to: TaskId, step: Step) {
        self.leave_account(thing);
        self.things[thing].owner = to;
        self.things[thing].custody.push(step);
        self.accounts.entry(to).or_default().push(thing);
    }

    pub fn transfer(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        let Some(&parent) = self.parents.get(&me) else {
            let kind = match self.check(me, thing) {
                Err(kind @ (ErrorKind::UseAfterRelease | ErrorKind::NotOwner))
                    if self.things[thing].state == State::Released
                        || self.things[thing].owner != me =>
                {
                    kind
                }
                _ => ErrorKind::NoParent,
            };
            return self.refuse(kind);
        };
        self.checked(me, thing)?;
        self.hand_over(thing, parent, (Event::Transferred, Some(me), Some(parent)));
        Ok(())
    }

    pub fn offer(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.checked(me, thing)?;
        self.things[thing].state = State::Offered;
        self.things[thing].custody.push((Event::Offered, Some(me), None));
        Ok(())
    }

    pub fn claim(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        if self.things[thing].state != State::Offered {
            return self.refuse(ErrorKind::UseAfterRelease);
        }
        let from = self.things[thing].owner;
        self.hand_over(thing, me, (Event::Claimed, Some(from), Some(me)));
        self.things[thing].state = State::Held;
        Ok(())
    }

    /// Parks. Returns false if it became ready meanwhile.
    pub fn park(&mut self, me: TaskId, thing: usize, lot: TaskId) -> Result<bool, ErrorKind> {
        if self.ended.contains(&lot) && self.check_owner(me, thing) {
            return self.refuse(ErrorKind::ParentExiting);
        }
        self.checked(me, thing)?;
        if std::mem::take(&mut self.things[thing].ready) {
            return Ok(false);
        }
        self.move_between(thing, lot, (Event::Parked, Some(me), Some(lot)));
        self.things[thing].state = State::Parked;
        Ok(true)
    }

    pub fn unpark(&mut self, me: TaskId, thing: usize, lot: TaskId) -> Unparked {
        match self.things[thing].state {
            State::Held | State::Busy => {
                self.things[thing].ready = true;
                Unparked::Marked
            }
            State::Parked if self.things[thing].owner == lot => {
                self.move_between(thing, me, (Event::Unparked, Some(lot), Some(me)));
                self.things[thing].state = State::Held;
                Unparked::Claimed
            }
            _ => Unparked::Gone,
        }
    }

    /// Whether it is on this task's account, in whatever state.
    fn check_owner(&self, me: TaskId, thing: usize) -> bool {
        let thing = &self.things[thing];
        thing.state != State::Released && thing.owner == me
    }

    /// A move to and from a lot. In a task's own lot it keeps its place.
    fn move_between(&mut self, thing: usize, to: TaskId, step: Step) {
        if self.things[thing].owner == to {
            self.things[thing].custody.push(step);
        } else {
            self.hand_over(thing, to, step);
        }
    }

    pub fn drop_handle(&mut self, me: TaskId, thing: usize) {
        if self.held(thing) {
            self.violations += u64::from(self.things[thing].owner != me);
            self.finalize_reporting(me, thing, Event::Dropped);
        }
    }

    pub fn drop_offer(&mut self, me: TaskId, thing: usize) {
        if self.things[thing].state == State::Offered {
            self.violations += 1;
            self.finalize_reporting(me, thing, Event::Finalized);
        }
    }

    /// Whether all of these can be given. Nothing moves before the child has an id.
    pub fn can_give(&mut self, me: TaskId, give: &[usize]) -> Result<(), ErrorKind> {
        for (index, &thing) in give.iter().enumerate() {
            if give[..index].contains(&thing) {
                return self.refuse(ErrorKind::DuplicateGive);
            }
            self.checked(me, thing)?;
        }
        Ok(())
    }

    pub fn spawn(&mut self, me: TaskId, child: TaskId, give: &[usize]) {
        self.parents.insert(child, me);
        for &thing in give {
            self.hand_over(thing, child, (Event::Given, Some(me), Some(child)));
        }
    }

    /// The exit of a task whose closure was dropped. Returns its leaks, in order.
    pub fn end(&mut self, me: TaskId, normally: bool) -> Vec<usize> {
        self.ended.insert(me);
        let mut leaked = Vec::new();
        let left = self.accounts.get(&me).cloned().unwrap_or_default();
        for &thing in left.iter().rev().filter(|&&thing| self.held(thing)) {
            leaked.push(thing);
        }
        for &thing in &leaked {
            self.finalize_reporting(me, thing, Event::Finalized);
        }
        let offers = self.accounts.get(&me).cloned().unwrap_or_default();
        match self.parents.get(&me).copied() {
            Some(heir) => {
                for thing in offers {
                    self.hand_over(thing, heir, (Event::Inherited, Some(me), Some(heir)));
                }
            }
            None => {
                for thing in offers.into_iter().rev() {
                    self.drop_offer(me, thing);
                }
            }
        }
        if !normally {
            leaked.clear();
        }
        self.leaks += leaked.len() as u64;
        leaked
    }

    /// Held or parked: what the end of its owner finalizes as a leak.
    pub fn held(&self, thing: usize) -> bool {
        matches!(self.things[thing].state, State::Held | State::Parked)
    }

    /// All resources, by task and arrival.
    pub fn on_account(&self) -> Vec<usize> {
        let mut tasks: Vec<_> = self.accounts.iter().collect();
        tasks.sort();
        tasks.into_iter().flat_map(|(_, things)| things.iter().copied()).collect()
    }
}

/// The steps that a custody keeps of these, as long as it omits none, and how many each stands for.
pub fn folded(steps: &[Step]) -> Vec<(Step, u64)> {
    let mut kept: Vec<(Step, u64)> = Vec::new();
    // How many stay as they are.
    let mut first = 0;
    for &step in steps {
        let before = |count: usize| kept.len().checked_sub(count).map(|index| kept[index].0.0);
        let other = match step.0 {
            Event::Parked => Some(Event::Unparked),
            Event::Unparked => Some(Event::Parked),
            _ => None,
        };
        let repeats = other.is_some() && before(1) == other && before(2) == Some(step.0);
        if repeats && kept.len() >= first + 2 {
            let (_, times) = kept.remove(kept.len() - 2);
            kept.push((step, times + 1));
            continue;
        }
        if kept.len() == first && first < 8 && !repeats {
            first += 1;
        }
        kept.push((step, 1));
    }
    kept
}
