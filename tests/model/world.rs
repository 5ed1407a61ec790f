//! The interpreter: runs a script on the registry and on the model, and compares them.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::expected::{Model, State, folded};
use super::script::{End, Finalizer, Move, Pick};
use echown::ownership::{
    Error, ErrorKind, Lot, Offer, Owned, Registry, Resource, RunInlineError, TaskError, TaskId,
};

/// The one handle of a resource, or its fate.
pub enum Seat {
    /// Shared with the frames that are inside `with`.
    Handle(Rc<Owned<usize>>),
    Offer(Offer<Owned<usize>>),
    /// Dropped, forgotten, consumed, or captured by a closure.
    Empty,
}

pub struct World {
    pub registry: Registry,
    pub finalized: Arc<Mutex<Vec<usize>>>,
    pub model: RefCell<Model>,
    pub seats: RefCell<Vec<Seat>>,
    pub resources: RefCell<Vec<Resource>>,
    /// Of all tasks so far, the ended ones, too.
    pub lots: RefCell<Vec<(TaskId, Lot)>>,
}

/// A handle that a closure has captured.
pub struct Captured<'a> {
    world: &'a World,
    thing: usize,
    handle: Option<Rc<Owned<usize>>>,
}

impl Drop for Captured<'_> {
    fn drop(&mut self) {
        let me = self.world.me();
        drop(self.handle.take());
        self.world.model.borrow_mut().drop_handle(me, self.thing);
    }
}

fn kind_of<T>(outcome: &Result<T, Error>) -> Result<(), ErrorKind> {
    outcome.as_ref().map(|_| ()).map_err(Error::kind)
}

impl World {
    pub fn new() -> World {
        World {
            registry: Registry::builder().sink(|_| ()).build(),
            finalized: Arc::default(),
            model: RefCell::default(),
            seats: RefCell::default(),
            resources: RefCell::default(),
            lots: RefCell::default(),
        }
    }

    pub fn me(&self) -> TaskId {
        self.registry.current_task().id
    }

    pub fn pick(&self, pick: Pick) -> Option<usize> {
        let count = self.seats.borrow().len();
        (count > 0).then(|| pick % count)
    }

    pub fn picks(&self, picks: &[Pick]) -> Vec<usize> {
        picks.iter().filter_map(|pick| self.pick(*pick)).collect()
    }

    /// The handle, used in place.
    pub fn handle(&self, pick: Pick) -> Option<(usize, Rc<Owned<usize>>)> {
        let thing = self.pick(pick)?;
        match &self.seats.borrow()[thing] {
            Seat::Handle(handle) => Some((thing, Rc::clone(handle))),
            _ => None,
        }
    }

    /// The handle, unless a frame further out is inside `with` on it.
    pub fn take_handle(&self, pick: Pick) -> Option<(usize, Owned<usize>)> {
        let thing = self.pick(pick)?;
        let seat = &mut self.seats.borrow_mut()[thing];
        match std::mem::replace(seat, Seat::Empty) {
            Seat::Handle(handle) => match Rc::try_unwrap(handle) {
                Ok(handle) => Some((thing, handle)),
                Err(shared) => {
                    *seat = Seat::Handle(shared);
                    None
                }
            },
            other => {
                *seat = other;
                None
            }
        }
    }

    pub fn take_offer(&self, pick: Pick) -> Option<(usize, Offer<Owned<usize>>)> {
        let thing = self.pick(pick)?;
        let seat = &mut self.seats.borrow_mut()[thing];
        match std::mem::replace(seat, Seat::Empty) {
            Seat::Offer(offer) => Some((thing, offer)),
            other => {
                *seat = other;
                None
            }
        }
    }

    pub fn lot(&self, pick: Pick) -> (TaskId, Lot) {
        let lots = self.lots.borrow();
        lots[pick % lots.len()].clone()
    }

    /// At the beginning of a body.
    pub fn open_lot(&self) {
        self.lots.borrow_mut().push((self.me(), Lot::new()));
    }

    pub fn seat(&self, thing: usize, seat: Seat) {
        self.seats.borrow_mut()[thing] = seat;
    }

    pub fn run_all(&self, moves: &[Move]) {
        for one in moves {
            self.run(one);
            self.compare(one);
        }
    }

    pub fn run(&self, one: &Move) {
        let me = self.me();
        match one {
            Move::Own(finalizer) => self.own(*finalizer),
            Move::Check(pick) => {
                let Some((thing, handle)) = self.handle(*pick) else { return };
                let expected = self.model.borrow_mut().checked(me, thing);
                assert_eq!(kind_of(&handle.check()), expected, "{one:?}");
            }
            Move::Release(pick) => {
                let Some((thing, handle)) = self.handle(*pick) else { return };
                let expected = self.model.borrow_mut().release(me, thing);
                assert_eq!(kind_of(&handle.release()), expected, "{one:?}");
            }
            Move::Transfer(pick) => {
                let Some((thing, handle)) = self.handle(*pick) else { return };
                let expected = self.model.borrow_mut().transfer(me, thing);
                assert_eq!(kind_of(&handle.transfer()), expected, "{one:?}");
            }
            Move::Disown(pick) => {
                let Some((thing, handle)) = self.take_handle(*pick) else { return };
                let expected = self.model.borrow_mut().disown(me, thing);
                match handle.disown() {
                    Ok(value) => assert_eq!((value, expected), (thing, Ok(()))),
                    Err(rejected) => {
                        let (error, handle) = rejected.into_parts();
                        assert_eq!(Err(error.kind()), expected, "{one:?}");
                        let handle = handle.expect("a rejected disown returns the handle");
                        self.seat(thing, Seat::Handle(Rc::new(handle)));
                    }
                }
            }
            Move::Offer(pick) => {
                let Some((thing, handle)) = self.take_handle(*pick) else { return };
                let expected = self.model.borrow_mut().offer(me, thing);
                match handle.offer() {
                    Ok(offer) => {
                        assert_eq!(expected, Ok(()), "{one:?}");
                        self.seat(thing, Seat::Offer(offer));
                    }
                    Err(rejected) => {
                        let (error, handle) = rejected.into_parts();
                        assert_eq!(Err(error.kind()), expected, "{one:?}");
                        let handle = handle.expect("a rejected offer returns the handle");
                        self.seat(thing, Seat::Handle(Rc::new(handle)));
                    }
                }
            }
            Move::Claim(pick) => {
                let Some((thing, offer)) = self.take_offer(*pick) else { return };
                let expected = self.model.borrow_mut().claim(me, thing);
                match offer.claim() {
                    Ok(handle) => {
                        assert_eq!(expected, Ok(()), "{one:?}");
                        self.seat(thing, Seat::Handle(Rc::new(handle)));
                    }
                    Err(rejected) => {
                        let (error, offer) = rejected.into_parts();
                        assert_eq!(Err(error.kind()), expected, "{one:?}");
                        let offer = offer.expect("a rejected claim returns the offer");
                        self.seat(thing, Seat::Offer(offer));
                    }
                }
            }
            Move::Park(pick, lot) => {
                let Some((thing, handle)) = self.handle(*pick) else { return };
                let (task, lot) = self.lot(*lot);
                let expected = self.model.borrow_mut().park(me, thing, task);
                assert_eq!(handle.park(&lot).map_err(|error| error.kind()), expected, "{one:?}");
            }
            Move::Unpark(pick, lot) => {
                let Some((thing, handle)) = self.handle(*pick) else { return };
                let (task, lot) = self.lot(*lot);
                let expected = self.model.borrow_mut().unpark(me, thing, task);
                assert_eq!(handle.unpark(&lot).ok(), Some(expected), "{one:?}");
            }
            Move::Drop(pick) => {
                if let Some((thing, handle)) = self.take_handle(*pick) {
                    self.model.borrow_mut().drop_handle(me, thing);
                    drop(handle);
                } else if let Some((thing, offer)) = self.take_offer(*pick) {
                    self.model.borrow_mut().drop_offer(me, thing);
                    drop(offer);
                }
            }
            Move::Forget(pick) => {
                if let Some((_, handle)) = self.take_handle(*pick) {
                    std::mem::forget(handle);
                } else if let Some((_, offer)) = self.take_offer(*pick) {
                    std::mem::forget(offer);
                }
            }
            Move::With(pick, body) => self.with(*pick, one, || self.run_all(body)),
            Move::Child { give, take, body, end } => self.child(give, take, body, end),
            Move::Root { body, end } => {
                let mut root = None;
                let outcome = self.registry.run("root", || {
                    root = Some(self.me());
                    self.open_lot();
                    self.run_all(body);
                    self.end(end);
                });
                let root = root.expect("a root runs");
                self.compare_outcome(root, end, outcome);
            }
        }
    }

    pub fn own(&self, finalizer: Finalizer) {
        let thing = self.model.borrow_mut().own(self.me(), finalizer);
        let noted = Arc::clone(&self.finalized);
        let owned = self.registry.own_with(thing, move |thing| {
            noted.lock().expect("no thread panics with the lock").push(thing);
            match finalizer {
                Finalizer::Succeeds => Ok(()),
                Finalizer::Fails => Err(std::io::Error::other("this finalizer fails")),
                // Not `panic!`: its message would be printed.
                Finalizer::Panics => resume_unwind(Box::new("this finalizer panics")),
            }
        });
        let owned = owned.expect("a running task can own a resource");
        self.resources.borrow_mut().push(owned.resource());
        self.seats.borrow_mut().push(Seat::Handle(Rc::new(owned)));
    }

    /// Runs `body` inside `with`, if the current task may.
    pub fn with(&self, pick: Pick, one: &dyn std::fmt::Debug, body: impl FnOnce()) {
        let Some((thing, handle)) = self.handle(pick) else { return };
        /// Unwinding or not, the model leaves `with` where the registry does.
        struct Leave<'a>(&'a World, usize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.model.borrow_mut().things[self.1].state = State::Held;
            }
        }
        let expected = self.model.borrow_mut().checked(self.me(), thing);
        let result = handle.with(|value| {
            assert_eq!(*value, thing);
            self.model.borrow_mut().things[thing].state = State::Busy;
            let _leave = Leave(self, thing);
            body();
        });
        assert_eq!(kind_of(&result), expected, "{one:?}");
    }

    pub fn child(&self, give: &[Pick], take: &[Pick], body: &[Move], end: &End) {
        let me = self.me();
        let give = self.picks(give);
        let resources: Vec<Resource> =
            give.iter().map(|thing| self.resources.borrow()[*thing].clone()).collect();
        let mut captured: Vec<Captured<'_>> = Vec::new();
        for (thing, handle) in take.iter().filter_map(|pick| self.take_handle(*pick)) {
            captured.push(Captured { world: self, thing, handle: Some(Rc::new(handle)) });
        }
        let expected = self.model.borrow_mut().can_give(me, &give);
        let mut child = None;
        let outcome = self.registry.run_inline("child", resources, || {
            // Dropped when the body ends, even by a panic.
            let _captured = captured;
            child = Some(self.me());
            self.open_lot();
            self.model.borrow_mut().spawn(me, self.me(), &give);
            self.run_all(body);
            self.end(end);
        });
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(RunInlineError::Failed(failure)) => Err(failure),
            Err(RunInlineError::Refused(refused)) => {
                // The closure and its captures were dropped as the parent.
                assert_eq!(Err(refused.error().kind()), expected, "giving {give:?}");
                return;
            }
            Err(unknown) => panic!("{unknown}"),
        };
        assert_eq!(expected, Ok(()), "giving {give:?}");
        self.compare_outcome(child.expect("it ran"), end, outcome);
    }

    pub fn end(&self, end: &End) {
        match end {
            End::Normally => {}
            End::InPanic => resume_unwind(Box::new("the body panics")),
            End::InPanicInside(pick) => {
                self.with(*pick, end, || resume_unwind(Box::new("the lender's body panics")));
                resume_unwind(Box::new("the body panics"))
            }
        }
    }

    /// The exit of a task in the model; asserts that the outcome of the registry is the same.
    pub fn compare_outcome(&self, task: TaskId, end: &End, outcome: Result<(), TaskError<()>>) {
        let normally = matches!(end, End::Normally);
        let leaked = self.model.borrow_mut().end(task, normally);
        match outcome {
            Ok(()) => assert!(normally && leaked.is_empty(), "expected leaks: {leaked:?}"),
            Err(TaskError::Leaked((), report)) => {
                let resources = self.resources.borrow();
                let expected: Vec<_> = leaked.iter().map(|thing| resources[*thing].id()).collect();
                let reported: Vec<_> = report.resources.iter().map(|data| data.id).collect();
                assert_eq!((reported, report.task.id), (expected, task));
            }
            Err(TaskError::Panicked(panic)) => {
                assert!(!normally && panic.message().contains("body panics"));
            }
            Err(unexpected) => panic!("{unexpected}"),
        }
    }

    /// Whether registry and model are in the same state.
    pub fn compare(&self, after: &Move) {
        let model = self.model.borrow();
        assert_eq!(*self.finalized.lock().unwrap(), model.finalized, "after {after:?}");
        let resources = self.resources.borrow();
        for (thing, resource) in model.things.iter().zip(&*resources) {
            let data = resource.describe();
            let owner = (thing.state != State::Released).then_some(thing.owner);
            assert_eq!(data.state, thing.state.name(), "{data:?} after {after:?}");
            assert_eq!(data.owner.as_ref().map(|owner| owner.id), owner, "after {after:?}");
            if data.custody_omitted == 0 {
                let steps = data.custody.iter().map(|step| {
                    let id = |label: &Option<echown::ownership::TaskLabel>| {
                        label.as_ref().map(|label| label.id)
                    };
                    ((step.event, id(&step.from), id(&step.to)), step.times)
                });
                let expected = folded(&thing.custody);
                assert_eq!(steps.collect::<Vec<_>>(), expected, "after {after:?}");
            }
        }
        let snapshot = self.registry.snapshot();
        let seen: Vec<_> = snapshot.resources.iter().map(|data| data.id).collect();
        let expected: Vec<_> =
            model.on_account().into_iter().map(|thing| resources[thing].id()).collect();
        assert_eq!(seen, expected, "after {after:?}");
        let verdict = self.registry.summary();
        assert_eq!(
            (verdict.leaks, verdict.violations, verdict.failed_finalizers, verdict.replaced),
            (model.leaks, model.violations, model.failed_finalizers, 0),
            "leaks, violations, failed finalizers, replaced after {after:?}"
        );
    }
}
