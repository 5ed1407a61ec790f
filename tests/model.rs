//! The registry against a model of it: a few vectors that say who owns what.
//!
//! A script is a tree of moves. An interpreter runs it on one thread, with children and roots run
//! inline, on the real registry and on the model at once, and compares after every move: the error's
//! kind, every resource's owner, state and custody, the finalizers that ran, in their order, the
//! snapshot, and the verdict's counts. Public names only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use echown::ownership::{
    Error, ErrorKind, Event, Offer, Owned, Registry, Resource, RunInlineError, TaskError, TaskId,
};
use proptest::prelude::*;

/// Resources and moves are few per script, so that they meet each other often.
const MOVES_MAX: u32 = 64;
const DEPTH_MAX: u32 = 4;
const MOVES_PER_BODY_MAX: u32 = 10;

// The script.

/// What a finalizer does after it was noted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Finalizer {
    Succeeds,
    Fails,
    Panics,
}

/// How a body ends.
#[derive(Clone, Debug)]
enum End {
    Normally,
    InPanic,
    /// The panic unwinds through `with` on this resource.
    InPanicInside(usize),
}

/// Which resource is meant: counted from the first, modulo how many there are.
type Pick = usize;

#[derive(Clone, Debug)]
enum Move {
    Own(Finalizer),
    Check(Pick),
    Release(Pick),
    Disown(Pick),
    Transfer(Pick),
    Offer(Pick),
    Claim(Pick),
    Drop(Pick),
    Forget(Pick),
    With(Pick, Vec<Move>),
    /// A child that runs inline; `take` are the handles that its closure captures.
    Child {
        give: Vec<Pick>,
        take: Vec<Pick>,
        body: Vec<Move>,
        end: End,
    },
    /// A root of its own, inline.
    Root {
        body: Vec<Move>,
        end: End,
    },
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => Just(End::Normally),
        2 => Just(End::InPanic),
        1 => any::<u8>().prop_map(|pick| End::InPanicInside(pick.into())),
    ]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let finalizer = prop_oneof![
        6 => Just(Finalizer::Succeeds),
        1 => Just(Finalizer::Fails),
        1 => Just(Finalizer::Panics),
    ];
    let pick = || any::<u8>().prop_map(Pick::from);
    let leaf = prop_oneof![
        6 => finalizer.prop_map(Move::Own),
        2 => pick().prop_map(Move::Check),
        2 => pick().prop_map(Move::Release),
        1 => pick().prop_map(Move::Disown),
        3 => pick().prop_map(Move::Transfer),
        3 => pick().prop_map(Move::Offer),
        3 => pick().prop_map(Move::Claim),
        2 => pick().prop_map(Move::Drop),
        1 => pick().prop_map(Move::Forget),
    ];
    let some = || proptest::collection::vec(any::<u8>().prop_map(Pick::from), 0..4);
    let one = leaf.prop_recursive(DEPTH_MAX, MOVES_MAX, MOVES_PER_BODY_MAX, move |inner| {
        let body = || proptest::collection::vec(inner.clone(), 0..MOVES_PER_BODY_MAX as usize);
        prop_oneof![
            1 => (any::<u8>(), body()).prop_map(|(pick, body)| Move::With(pick.into(), body)),
            4 => (some(), some(), body(), end())
                .prop_map(|(give, take, body, end)| Move::Child { give, take, body, end }),
            1 => (body(), end()).prop_map(|(body, end)| Move::Root { body, end }),
        ]
    });
    proptest::collection::vec(one, 0..MOVES_PER_BODY_MAX as usize)
}

// The model.

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Held,
    Busy,
    Offered,
    Released,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Busy => "busy",
            State::Offered => "offered",
            State::Released => "released",
        }
    }
}

type Step = (Event, Option<TaskId>, Option<TaskId>);

#[derive(Debug)]
struct Thing {
    state: State,
    owner: TaskId,
    finalizer: Finalizer,
    custody: Vec<Step>,
    disowned: bool,
}

#[derive(Debug, Default)]
struct Model {
    things: Vec<Thing>,
    /// What stands on each task's account, in order of arrival.
    accounts: HashMap<TaskId, Vec<usize>>,
    parents: HashMap<TaskId, TaskId>,
    finalized: Vec<usize>,
    leaks: u64,
    violations: u64,
    failed_finalizers: u64,
}

impl Model {
    /// What keeps `me` from using the thing now.
    fn check(&self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        let thing = &self.things[thing];
        match thing.state {
            State::Released => Err(ErrorKind::UseAfterRelease),
            _ if thing.owner != me => Err(ErrorKind::NotOwner),
            State::Offered => Err(ErrorKind::NotOwner),
            State::Busy => Err(ErrorKind::InUse),
            State::Held => Ok(()),
        }
    }

    /// A refusal, counted as what it is.
    fn refuse<T>(&mut self, kind: ErrorKind) -> Result<T, ErrorKind> {
        self.violations += u64::from(kind.is_violation());
        Err(kind)
    }

    fn checked(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.check(me, thing).or_else(|kind| self.refuse(kind))
    }

    fn own(&mut self, me: TaskId, finalizer: Finalizer) -> usize {
        let thing = self.things.len();
        let custody = vec![(Event::Acquired, None, Some(me))];
        let held = Thing { state: State::Held, owner: me, finalizer, custody, disowned: false };
        self.things.push(held);
        self.accounts.entry(me).or_default().push(thing);
        thing
    }

    fn leave_account(&mut self, thing: usize) {
        let owner = self.things[thing].owner;
        self.accounts.entry(owner).or_default().retain(|entry| *entry != thing);
    }

    fn put_down(&mut self, thing: usize, step: Step) {
        self.leave_account(thing);
        self.things[thing].state = State::Released;
        self.things[thing].custody.push(step);
    }

    /// Finalizes for whatever reason; the finalizer's own fault, if any.
    fn finalize(&mut self, me: TaskId, thing: usize, event: Event) -> Result<(), ErrorKind> {
        self.put_down(thing, (event, Some(me), None));
        self.finalized.push(thing);
        match self.things[thing].finalizer {
            Finalizer::Succeeds => Ok(()),
            Finalizer::Fails => Err(ErrorKind::FinalizerFailed),
            Finalizer::Panics => Err(ErrorKind::FinalizerPanicked),
        }
    }

    /// As [`finalize`](Model::finalize), where there is nobody to tell but the reports.
    fn finalize_unasked(&mut self, me: TaskId, thing: usize, event: Event) {
        if self.finalize(me, thing, event).is_err() {
            self.failed_finalizers += 1;
        }
    }

    fn release(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.checked(me, thing).map_err(|kind| match kind {
            ErrorKind::UseAfterRelease => ErrorKind::DoubleRelease,
            kind => kind,
        })?;
        self.finalize(me, thing, Event::Released)
    }

    fn disown(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.checked(me, thing)?;
        self.put_down(thing, (Event::Disowned, Some(me), None));
        self.things[thing].disowned = true;
        Ok(())
    }

    fn hand_over(&mut self, thing: usize, to: TaskId, step: Step) {
        self.leave_account(thing);
        self.things[thing].owner = to;
        self.things[thing].custody.push(step);
        self.accounts.entry(to).or_default().push(thing);
    }

    fn transfer(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        let Some(&parent) = self.parents.get(&me) else {
            let kind = match self.check(me, thing) {
                Err(kind @ (ErrorKind::UseAfterRelease | ErrorKind::NotOwner))
                    if self.things[thing].state != State::Offered
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

    fn offer(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        self.checked(me, thing)?;
        self.things[thing].state = State::Offered;
        self.things[thing].custody.push((Event::Offered, Some(me), None));
        Ok(())
    }

    fn claim(&mut self, me: TaskId, thing: usize) -> Result<(), ErrorKind> {
        if self.things[thing].state != State::Offered {
            return self.refuse(ErrorKind::UseAfterRelease);
        }
        let from = self.things[thing].owner;
        self.hand_over(thing, me, (Event::Claimed, Some(from), Some(me)));
        self.things[thing].state = State::Held;
        Ok(())
    }

    fn drop_handle(&mut self, me: TaskId, thing: usize) {
        if self.things[thing].state == State::Held {
            self.violations += u64::from(self.things[thing].owner != me);
            self.finalize_unasked(me, thing, Event::Dropped);
        }
    }

    fn drop_offer(&mut self, me: TaskId, thing: usize) {
        if self.things[thing].state == State::Offered {
            self.violations += 1;
            self.finalize_unasked(me, thing, Event::Finalized);
        }
    }

    /// Whether all of these can be given. Nothing moves before the child has an id.
    fn can_give(&mut self, me: TaskId, give: &[usize]) -> Result<(), ErrorKind> {
        for (index, &thing) in give.iter().enumerate() {
            if give[..index].contains(&thing) {
                return self.refuse(ErrorKind::DuplicateGive);
            }
            self.checked(me, thing)?;
        }
        Ok(())
    }

    fn spawn(&mut self, me: TaskId, child: TaskId, give: &[usize]) {
        self.parents.insert(child, me);
        for &thing in give {
            self.hand_over(thing, child, (Event::Given, Some(me), Some(child)));
        }
    }

    /// The end of a task whose closure is gone. Answers what it leaked, in order.
    fn end(&mut self, me: TaskId, normally: bool) -> Vec<usize> {
        let mut leaked = Vec::new();
        let left = self.accounts.get(&me).cloned().unwrap_or_default();
        for &thing in left.iter().rev().filter(|&&thing| self.held(thing)) {
            leaked.push(thing);
        }
        for &thing in &leaked {
            self.finalize_unasked(me, thing, Event::Finalized);
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

    fn held(&self, thing: usize) -> bool {
        self.things[thing].state == State::Held
    }

    /// Everything on an account, by task and arrival.
    fn on_account(&self) -> Vec<usize> {
        let mut tasks: Vec<_> = self.accounts.iter().collect();
        tasks.sort();
        tasks.into_iter().flat_map(|(_, things)| things.iter().copied()).collect()
    }
}

// The interpreter.

/// The one handle of a resource, or what has become of it.
enum Seat {
    /// Shared with the frames that are inside `with`.
    Handle(Rc<Owned<usize>>),
    Offer(Offer<Owned<usize>>),
    /// Dropped, forgotten, consumed, or captured by a closure.
    Empty,
}

struct World {
    registry: Registry,
    finalized: Arc<Mutex<Vec<usize>>>,
    model: RefCell<Model>,
    seats: RefCell<Vec<Seat>>,
    resources: RefCell<Vec<Resource>>,
}

/// A handle that a closure has captured.
struct Captured<'a> {
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
    fn new() -> World {
        World {
            registry: Registry::builder().sink(|_| ()).build(),
            finalized: Arc::default(),
            model: RefCell::default(),
            seats: RefCell::default(),
            resources: RefCell::default(),
        }
    }

    fn me(&self) -> TaskId {
        self.registry.current_task().id
    }

    fn pick(&self, pick: Pick) -> Option<usize> {
        let count = self.seats.borrow().len();
        (count > 0).then(|| pick % count)
    }

    fn picks(&self, picks: &[Pick]) -> Vec<usize> {
        picks.iter().filter_map(|pick| self.pick(*pick)).collect()
    }

    /// The handle, to be used where it lies.
    fn handle(&self, pick: Pick) -> Option<(usize, Rc<Owned<usize>>)> {
        let thing = self.pick(pick)?;
        match &self.seats.borrow()[thing] {
            Seat::Handle(handle) => Some((thing, Rc::clone(handle))),
            _ => None,
        }
    }

    /// The handle by itself, unless a frame further out is inside `with` on it.
    fn take_handle(&self, pick: Pick) -> Option<(usize, Owned<usize>)> {
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

    fn take_offer(&self, pick: Pick) -> Option<(usize, Offer<Owned<usize>>)> {
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

    fn seat(&self, thing: usize, seat: Seat) {
        self.seats.borrow_mut()[thing] = seat;
    }

    fn run_all(&self, moves: &[Move]) {
        for one in moves {
            self.run(one);
            self.compare(one);
        }
    }

    fn run(&self, one: &Move) {
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
                    Err(refused) => {
                        let (error, handle) = refused.into_parts();
                        assert_eq!(Err(error.kind()), expected, "{one:?}");
                        let handle = handle.expect("a refused disown gives the handle back");
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
                    Err(refused) => {
                        let (error, handle) = refused.into_parts();
                        assert_eq!(Err(error.kind()), expected, "{one:?}");
                        let handle = handle.expect("a refused offer gives the handle back");
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
                    Err(refused) => {
                        let (error, offer) = refused.into_parts();
                        assert_eq!(Err(error.kind()), expected, "{one:?}");
                        let offer = offer.expect("a refused claim gives the offer back");
                        self.seat(thing, Seat::Offer(offer));
                    }
                }
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
                    self.run_all(body);
                    self.end(end);
                });
                let root = root.expect("a root runs");
                self.compare_outcome(root, end, outcome);
            }
        }
    }

    fn own(&self, finalizer: Finalizer) {
        let thing = self.model.borrow_mut().own(self.me(), finalizer);
        let noted = Arc::clone(&self.finalized);
        let owned = self.registry.own_with(thing, move |thing| {
            noted.lock().expect("nobody panics while noting").push(thing);
            match finalizer {
                Finalizer::Succeeds => Ok(()),
                Finalizer::Fails => Err(std::io::Error::other("this finalizer fails")),
                // Not `panic!`: its message would be printed.
                Finalizer::Panics => resume_unwind(Box::new("this finalizer panics")),
            }
        });
        let owned = owned.expect("an open task owns what it likes");
        self.resources.borrow_mut().push(owned.resource());
        self.seats.borrow_mut().push(Seat::Handle(Rc::new(owned)));
    }

    /// Runs `body` inside `with`, if the current task may.
    fn with(&self, pick: Pick, one: &dyn std::fmt::Debug, body: impl FnOnce()) {
        let Some((thing, handle)) = self.handle(pick) else { return };
        /// Unwinding or not, the model leaves `with` where the registry does.
        struct Leave<'a>(&'a World, usize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.model.borrow_mut().things[self.1].state = State::Held;
            }
        }
        let expected = self.model.borrow_mut().checked(self.me(), thing);
        let answer = handle.with(|value| {
            assert_eq!(*value, thing);
            self.model.borrow_mut().things[thing].state = State::Busy;
            let _leave = Leave(self, thing);
            body();
        });
        assert_eq!(kind_of(&answer), expected, "{one:?}");
    }

    fn child(&self, give: &[Pick], take: &[Pick], body: &[Move], end: &End) {
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
            // Dropped when the body is over, however it ends.
            let _captured = captured;
            child = Some(self.me());
            self.model.borrow_mut().spawn(me, self.me(), &give);
            self.run_all(body);
            self.end(end);
        });
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(RunInlineError::Failed(failure)) => Err(failure),
            Err(RunInlineError::Refused(error)) => {
                // The closure was dropped with what it had captured, in the parent's name.
                assert_eq!(Err(error.kind()), expected, "giving {give:?}");
                return;
            }
            Err(unknown) => panic!("{unknown}"),
        };
        assert_eq!(expected, Ok(()), "giving {give:?}");
        self.compare_outcome(child.expect("it ran"), end, outcome);
    }

    fn end(&self, end: &End) {
        match end {
            End::Normally => {}
            End::InPanic => resume_unwind(Box::new("the body panics")),
            End::InPanicInside(pick) => {
                self.with(*pick, end, || resume_unwind(Box::new("the lender's body panics")));
                resume_unwind(Box::new("the body panics"))
            }
        }
    }

    /// The model's end of a task, and whether the registry's outcome says the same.
    fn compare_outcome(&self, task: TaskId, end: &End, outcome: Result<(), TaskError<()>>) {
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
    fn compare(&self, after: &Move) {
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
                    (step.event, id(&step.from), id(&step.to))
                });
                assert_eq!(steps.collect::<Vec<_>>(), thing.custody, "after {after:?}");
            }
        }
        let snapshot = self.registry.snapshot();
        let seen: Vec<_> = snapshot.resources.iter().map(|data| data.id).collect();
        let expected: Vec<_> =
            model.on_account().into_iter().map(|thing| resources[thing].id()).collect();
        assert_eq!(seen, expected, "after {after:?}");
        let verdict = self.registry.verdict();
        assert_eq!(
            (verdict.leaks, verdict.violations, verdict.failed_finalizers, verdict.replaced),
            (model.leaks, model.violations, model.failed_finalizers, 0),
            "leaks, violations, failed finalizers, replaced after {after:?}"
        );
    }
}

fn registry_and_model_agree(body: Vec<Move>, end: End) {
    let world = World::new();
    world.run_all(&[Move::Root { body, end }]);
    {
        let model = world.model.borrow();
        let mut finalized = model.finalized.clone();
        finalized.sort_unstable();
        let expected: Vec<_> =
            (0..model.things.len()).filter(|thing| !model.things[*thing].disowned).collect();
        assert_eq!(finalized, expected, "what was not disowned is finalized, each thing once");
    }
    // The handles that are left are of no consequence any more.
    let violations = world.registry.verdict().violations;
    world.seats.take().clear();
    assert_eq!(world.registry.verdict().violations, violations);
    assert_eq!(world.finalized.lock().unwrap().len(), world.model.borrow().finalized.len());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        // A failure prints its script; it becomes a test of its own, with a name.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_script_leaves_registry_and_model_in_the_same_state(body in moves(), end in end()) {
        registry_and_model_agree(body, end);
    }
}

#[test]
fn a_refused_give_leaves_the_order_of_the_account_alone() {
    let owned = || Move::Own(Finalizer::Succeeds);
    let give = Move::Child { give: vec![0, 0], take: vec![], body: vec![], end: End::Normally };
    registry_and_model_agree(vec![owned(), owned(), give], End::Normally);
}

#[test]
fn offers_that_pass_to_the_parent_keep_their_order() {
    let owned = || Move::Own(Finalizer::Succeeds);
    let body = vec![owned(), owned(), Move::Offer(0), Move::Offer(1)];
    let child = Move::Child { give: vec![], take: vec![], body, end: End::Normally };
    registry_and_model_agree(vec![child], End::Normally);
}
