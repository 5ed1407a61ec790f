//! The order of events and actions, and failures while machines hand a resource on. A CALLER requests an
//! RX, which waits, and replies.
//!
//! `tests/it/staged.rs` has the rest: custody, and a cancel or a drain during a wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{
    Action, Actions, Driver, Event, MachineType, Machines, Payload, State, TraceEvent, Transition,
    Turn, WaitFor,
};
use crate::ownership::spawn::UnstartedChild;
use crate::ownership::{Owned, Registry, Resource, TaskError};
use crate::report::Site;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Request,
    Close,
    Panic,
    Note(&'static str),
}

use Action::{Fail, Own};
use Transition::{Do, Goto};

static CALLER: MachineType<Act> = MachineType {
    name: "CALLER",
    states: &[
        State::new(
            "WORK",
            &[
                (Event::D(0), Do(Own(Act::Request))),
                (Event::DONE, Do(Own(Act::Close))),
                (Event::FAILED, Do(Own(Act::Close))),
                (Event::T(0), Do(Own(Act::Panic))),
                (Event::T(1), Goto("NOWHERE")),
                (Event::T(2), Do(Fail)),
                (Event::GO_ON, Goto("REST")),
            ],
        )
        .on_enter(Own(Act::Note("enter WORK")))
        .on_leave(Own(Act::Note("leave WORK"))),
        State::new("REST", &[]).on_enter(Own(Act::Note("enter REST"))),
    ],
};

/// A resource, and what happens in a wait for it.
struct Load {
    /// `None` after the caller released it.
    owned: Option<Owned<()>>,
    wait: fn() -> Event,
    /// Whether the caller got it back and released it.
    is_closed: bool,
}

impl Payload for Load {
    fn resource(&self) -> Option<Resource> {
        self.owned.as_ref().map(Owned::resource)
    }

    fn transfer(&mut self) {
        self.owned = self.owned.take().filter(|owned| owned.transfer().is_ok());
    }

    fn wait(&mut self, _: WaitFor) -> Event {
        (self.wait)()
    }
}

/// The notes, in order.
#[derive(Default)]
struct Notes(Vec<&'static str>);

impl Actions for Notes {
    type Own = Act;
    type Payload = Load;

    fn perform(&mut self, turn: &mut Turn<'_, Act>, action: Act, load: Option<&mut Load>) {
        match (action, load) {
            (Act::Request, _) => turn.request_helper(MachineType::RX),
            (Act::Close, Some(load)) => {
                load.is_closed = load.owned.take().is_some_and(|owned| owned.release().is_ok());
            }
            (Act::Panic, _) => {
                turn.send_self(Event::T(0));
                panic!("in an action");
            }
            (Act::Note(note), _) => self.0.push(note),
            (Act::Close, None) => unreachable!("there is a load"),
        }
    }

    fn receive_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn receive(&mut self, _: &Turn<'_, Act>, _: &mut Load) -> Option<bool> {
        Some(true)
    }

    fn send(&mut self, _: &mut Load) -> Option<bool> {
        unreachable!("there is no TX")
    }
}

struct Room {
    registry: Registry,
    machines: Mutex<Machines<Notes>>,
    trace: Arc<Mutex<Vec<String>>>,
}

impl Room {
    /// An idle RX.
    fn new() -> Arc<Room> {
        let trace = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&trace);
        let sink =
            Box::new(move |line: &TraceEvent<'_>| lines.lock().unwrap().push(line.to_string()));
        let mut machines = Machines::new(Notes::default(), Some(sink));
        machines.add(MachineType::RX, 1);
        machines.run(None);
        trace.lock().unwrap().clear();
        let registry = Registry::builder().build();
        Arc::new(Room { registry, machines: Mutex::new(machines), trace })
    }

    /// Drives a new caller, which gets `event`.
    fn drive(&self, owned: Owned<()>, event: Event, wait: fn() -> Event) -> Load {
        let load = Load { owned: Some(owned), wait, is_closed: false };
        Driver::run(&self.machines, &self.registry, load, &|| (), |machines| {
            let caller = machines.add(&CALLER, 1);
            machines.scheduler.enqueue(caller, event);
            Some(caller)
        })
    }

    fn own(&self) -> Owned<()> {
        self.registry.own(()).unwrap()
    }

    /// Runs `test` as a root task. Then the RX serves another load, and there are no findings.
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
            "RX-1 @ IDLE got 'M1' from CALLER-1",
            "RX-1 @ IDLE got 'M0' from SELF",
            "RX-1 @ WORK got 'D2' from OS",
            "RX-1 @ WORK got 'M0' from SELF",
            "CALLER-1 @ WORK got 'M2' from RX-1",
        ];
        assert_eq!(*self.trace.lock().unwrap(), round);
    }
}

/// A CALLER, which gets this event.
fn caller_gets(event: Event) -> Vec<&'static str> {
    let mut machines = Machines::new(Notes::default(), None);
    let caller = machines.add(&CALLER, 1);
    machines.deliver(caller, event);
    machines.actions.0
}

#[test]
fn actions_follow_at_the_borders_of_states() {
    assert_eq!(caller_gets(Event::GO_ON), ["enter WORK", "leave WORK", "enter REST"]);
}

#[test]
#[should_panic(expected = "CALLER-1 has no transition for S0 in WORK")]
fn an_event_without_a_transition_panics() {
    caller_gets(Event::S(0));
}

#[test]
#[should_panic(expected = "CALLER has no state NOWHERE")]
fn a_transition_to_a_state_that_does_not_exist_panics() {
    caller_gets(Event::T(1));
}

#[test]
#[should_panic(expected = "CALLER-1 replies without a request")]
fn a_reply_without_a_request_panics() {
    caller_gets(Event::T(2));
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
