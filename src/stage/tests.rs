//! Failures while machines hand a resource on. A CALLER requests a HELPER, which waits, and replies.
//!
//! `tests/it/staged.rs` has the rest: custody, and a cancel or a drain during a wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use super::{
    Actions, Driver, Event, MachineType, Machines, Payload, Source, State, TraceEvent, Transition,
    Turn,
};
use crate::ownership::spawn::UnstartedChild;
use crate::ownership::{Owned, Registry, Resource, TaskError};
use crate::report::Site;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Rest,
    Request,
    Wait,
    Reply,
    Close,
    Panic,
}

static CALLER: MachineType<Action> = MachineType {
    name: "CALLER",
    states: &[State {
        name: "WORK",
        enter: None,
        leave: None,
        transitions: &[
            (Event::D(0), Transition::Do(Action::Request)),
            (Event::DONE, Transition::Do(Action::Close)),
            (Event::T(0), Transition::Do(Action::Panic)),
        ],
    }],
};

static HELPER: MachineType<Action> = MachineType {
    name: "HELPER",
    states: &[State {
        name: "WORK",
        enter: Some(Action::Rest),
        leave: None,
        transitions: &[
            (Event::REQUEST, Transition::Do(Action::Wait)),
            (Event::D(0), Transition::Do(Action::Reply)),
            (Event::D(2), Transition::Do(Action::Reply)),
            (Event::GO_ON, Transition::Goto("WORK")),
        ],
    }],
};

/// A resource, and what happens in a wait for it.
struct Load {
    /// `None` after the caller released it.
    owned: Option<Owned<()>>,
    must_wait: bool,
    wait: fn() -> Event,
    /// Whether the caller got it back and released it.
    is_closed: bool,
}

impl Payload for Load {
    type WaitFor = ();

    fn resource(&self) -> Option<Resource> {
        self.owned.as_ref().map(Owned::resource)
    }

    fn transfer(&mut self) {
        self.owned = self.owned.take().filter(|owned| owned.transfer().is_ok());
    }

    fn take_wait(&mut self) -> Option<()> {
        std::mem::take(&mut self.must_wait).then_some(())
    }

    fn wait(&mut self, (): ()) -> Event {
        (self.wait)()
    }
}

struct Act;

impl Actions for Act {
    type Action = Action;
    type Payload = Load;

    fn perform(&mut self, turn: &mut Turn<'_, Action>, action: Action, load: Option<&mut Load>) {
        match (action, load) {
            (Action::Rest, _) => turn.rest(),
            (Action::Request, _) => assert!(turn.request(&HELPER), "the helper is idle"),
            (Action::Wait, Some(load)) => load.must_wait = true,
            (Action::Reply, _) => turn.reply(Event::DONE),
            (Action::Close, Some(load)) => {
                load.is_closed = load.owned.take().is_some_and(|owned| owned.release().is_ok());
            }
            (Action::Panic, _) => {
                turn.send_self(Event::T(0));
                panic!("in an action");
            }
            (_, None) => unreachable!("there is a load"),
        }
    }
}

struct Room {
    registry: Registry,
    machines: Mutex<Machines<Act>>,
    trace: Arc<Mutex<Vec<String>>>,
}

impl Room {
    /// An idle helper.
    fn new() -> Arc<Room> {
        let trace = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&trace);
        let sink =
            Box::new(move |line: &TraceEvent<'_>| lines.lock().unwrap().push(line.to_string()));
        let mut machines = Machines::new(Act, Some(sink));
        machines.add(&HELPER, 1);
        let registry = Registry::builder().build();
        Arc::new(Room { registry, machines: Mutex::new(machines), trace })
    }

    /// Drives a new caller, which gets `event`.
    fn drive(&self, owned: Owned<()>, event: Event, wait: fn() -> Event) -> Load {
        let load = Load { owned: Some(owned), must_wait: false, wait, is_closed: false };
        let driver = Driver::new(&self.machines, &self.registry, load, &|| ());
        driver.run(|machines| {
            let caller = machines.add(&CALLER, 1);
            machines.scheduler.enqueue(caller, event, Source::Os);
            Some(caller)
        })
    }

    fn own(&self) -> Owned<()> {
        self.registry.own(()).unwrap()
    }

    /// Runs `test` as a root task. Then the helper serves another load, and there are no findings.
    fn run(&self, test: impl FnOnce()) {
        let ran = self.registry.run("root", || {
            test();
            assert!(self.drive(self.own(), Event::D(0), || Event::D(0)).is_closed);
        });
        ran.unwrap();
        let summary = self.registry.summary();
        assert_eq!((summary.leaks, summary.violations), (0, 0));
        assert!(summary.still_open.is_empty());
    }

    #[track_caller]
    fn assert_a_round_with_a_failed_wait(&self) {
        let round = [
            "CALLER-1 @ WORK got 'D0' from OS",
            "HELPER-1 @ WORK got 'M1' from CALLER-1",
            "HELPER-1 @ WORK got 'D2' from OS",
            "HELPER-1 @ WORK got 'M0' from SELF",
            "CALLER-1 @ WORK got 'M1' from HELPER-1",
        ];
        assert_eq!(*self.trace.lock().unwrap(), round);
    }
}

#[test]
fn a_panic_in_a_wait_is_a_failure_and_is_resumed_when_the_machines_are_idle() {
    let room = Room::new();
    room.run(|| {
        let owned = room.own();
        let driven = catch_unwind(AssertUnwindSafe(|| {
            room.drive(owned, Event::D(0), || panic!("in a wait"))
        }));
        assert_eq!(driven.err().unwrap().downcast_ref(), Some(&"in a wait"));
        room.assert_a_round_with_a_failed_wait();
    });
}

#[test]
fn a_panic_in_an_action_ends_its_driver_and_leaves_no_event_for_another() {
    let room = Room::new();
    room.run(|| {
        let owned = room.own();
        let driven =
            catch_unwind(AssertUnwindSafe(|| room.drive(owned, Event::T(0), || Event::D(0))));
        assert_eq!(driven.err().unwrap().downcast_ref(), Some(&"in an action"));
    });
}

#[test]
fn machines_of_a_cancelled_task_run_in_that_task_and_become_idle() {
    let room = Room::new();
    room.run(|| {
        let owned = room.own();
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let theirs = Arc::clone(&room);
        let give = [owned.resource()];
        let job = move || {
            begin.send(()).unwrap();
            let _ = gone.recv();
            theirs.drive(owned, Event::D(0), || Event::D(2));
        };
        let (registry, site) = (&room.registry, Site::here());
        let child = UnstartedChild::new(registry, None, "cancelled", give, job, |job| job(), site);
        let Ok(child) = child else { panic!("the resource cannot be given") };
        let work = child.work();
        std::thread::spawn(|| work.run());
        let child = child.into_promise();
        // A task that is cancelled before it begins does not run.
        begun.recv().unwrap();
        child.request_cancel().unwrap();
        drop(go);
        assert!(matches!(child.join(), Err(TaskError::Cancelled)));
        room.assert_a_round_with_a_failed_wait();
    });
}
