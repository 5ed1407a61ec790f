//! State machines that hand a resource on: each runs as a task while it has it ([`stage`]).
//!
//! A CALLER requests a HELPER, which waits for a byte, and replies.
//!
//! [`stage`]: echown::stage

use std::io::{Read, Write};
use std::mem;
use std::net::TcpStream;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use echown::net::Stream;
use echown::ownership::{Event as Step, Promise, Resource};
use echown::stage::{
    Actions, Driver, Event, MachineType, Machines, Payload, Source, State, Transition, Turn,
};
use echown::test;

use crate::common::{
    Fixture, assert_cancelled, lock, panic_message, thread_id, wait_until_blocked,
};

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

/// A stream, and what happens in a wait on it.
struct Load {
    stream: Option<Stream>,
    must_wait: bool,
    wait: Box<dyn FnMut(&Stream) -> Event + Send>,
    /// The steps of the stream's custody, at its close: who got it.
    hands: Vec<String>,
}

impl Payload for Load {
    type WaitFor = ();

    fn resource(&self) -> Option<Resource> {
        self.stream.as_ref().map(Stream::resource)
    }

    fn transfer(&mut self) {
        self.stream = self.stream.take().filter(|stream| stream.transfer().is_ok());
    }

    fn take_wait(&mut self) -> Option<()> {
        mem::take(&mut self.must_wait).then_some(())
    }

    fn wait(&mut self, (): ()) -> Event {
        self.stream.as_ref().map_or(Event::D(2), |stream| (self.wait)(stream))
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
                let Some(stream) = load.stream.take() else { return };
                let custody = stream.describe().custody.into_iter();
                let moves =
                    custody.filter(|it| matches!(it.event, Step::Given | Step::Transferred));
                load.hands = moves.map(|it| it.to.expect("a task").name.to_string()).collect();
                stream.release().expect("the machine owns it");
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
    machines: Mutex<Machines<Act>>,
    trace: Arc<Mutex<Vec<String>>>,
}

/// A caller, and an idle helper.
fn room() -> Arc<Room> {
    let trace = Arc::<Mutex<Vec<String>>>::default();
    let lines = Arc::clone(&trace);
    let sink = Box::new(move |line: &echown::stage::TraceEvent<'_>| {
        lock(&lines).push(line.to_string());
    });
    let mut machines = Machines::new(Act, Some(sink));
    machines.add(&HELPER, 1);
    Arc::new(Room { machines: Mutex::new(machines), trace })
}

impl Room {
    /// Drives a new caller, which gets `event`.
    fn drive(
        &self,
        fixture: &Fixture,
        stream: Stream,
        event: Event,
        wait: impl FnMut(&Stream) -> Event + Send + 'static,
    ) -> Load {
        let wait = Box::new(wait);
        let load = Load { stream: Some(stream), must_wait: false, wait, hands: Vec::new() };
        let driver = Driver::new(&self.machines, &fixture.registry, load, &|| ());
        driver.run(|machines| {
            let caller = machines.add(&CALLER, 1);
            machines.scheduler.enqueue(caller, event, Source::Os);
            Some(caller)
        })
    }

    /// Whether the helper serves another load.
    #[track_caller]
    fn assert_helper_is_idle(&self, fixture: &Fixture) {
        let (stream, _peer) = fixture.connection();
        let load = self.drive(fixture, stream, Event::D(0), |_| Event::D(0));
        assert_eq!(load.hands, ["CALLER-1", "HELPER-1", "CALLER-1"]);
    }
}

const ROUND: [&str; 5] = [
    "CALLER-1 @ WORK got 'D0' from OS",
    "HELPER-1 @ WORK got 'M1' from CALLER-1",
    "HELPER-1 @ WORK got 'D2' from OS",
    "HELPER-1 @ WORK got 'M0' from SELF",
    "CALLER-1 @ WORK got 'M1' from HELPER-1",
];

/// Reads a byte. `D2` for an error and for the end of the stream.
fn read(mut stream: &Stream) -> Event {
    if stream.read(&mut [0]).is_ok_and(|bytes| bytes == 1) { Event::D(0) } else { Event::D(2) }
}

#[test]
fn a_machine_that_has_the_load_owns_its_descriptor_and_the_custody_names_each() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        peer.write_all(b"x").expect("it is connected");
        let load = room().drive(fixture, stream, Event::D(0), |stream| {
            let owner = stream.describe().owner.expect("it has an owner");
            assert_eq!(&*owner.name, "HELPER-1");
            read(stream)
        });
        assert_eq!(load.hands, ["CALLER-1", "HELPER-1", "CALLER-1"]);
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn a_panic_in_a_wait_is_a_failure_and_is_resumed_when_the_machines_are_idle() {
    let fixture = Fixture::new();
    let room = room();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let theirs = Arc::clone(&room);
        let child = fixture.spawn("panics", [stream.resource()], move || {
            theirs.drive(fixture, stream, Event::D(0), |_| panic!("in a wait"));
        });
        assert_eq!(panic_message(child.join()), "in a wait");
        assert_eq!(*lock(&room.trace), ROUND);
        fixture.assert_all_closed_except(&peer);
        room.assert_helper_is_idle(fixture);
    });
    fixture.assert_clean();
}

#[test]
fn a_panic_in_an_action_ends_its_driver_and_leaves_no_event_for_another() {
    let fixture = Fixture::new();
    let room = room();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let driven = std::panic::catch_unwind(AssertUnwindSafe(|| {
            room.drive(fixture, stream, Event::T(0), |_| Event::D(0))
        }));
        let panic = driven.err().expect("it panicked");
        assert_eq!(panic.downcast_ref(), Some(&"in an action"));
        fixture.assert_all_closed_except(&peer);
        room.assert_helper_is_idle(fixture);
    });
    fixture.assert_clean();
}

/// A child that drives machines and waits for a byte. It returns the hands of its stream.
fn interrupted(fixture: &'static Fixture, room: &Arc<Room>) -> (Promise<Vec<String>>, TcpStream) {
    let (stream, peer) = fixture.connection();
    let (begin, begun) = channel();
    let theirs = Arc::clone(room);
    let child = fixture.spawn("interrupted", [stream.resource()], move || {
        let load = theirs.drive(fixture, stream, Event::D(0), move |stream| {
            begin.send(thread_id()).expect("the test receives it");
            read(stream)
        });
        load.hands
    });
    wait_until_blocked(begun.recv().expect("the child runs"), false);
    (child, peer)
}

#[test]
fn a_cancel_wakes_the_machine_that_waits_and_the_machines_become_idle() {
    let fixture = Fixture::new();
    let room = room();
    fixture.root(|| {
        let (child, peer) = interrupted(fixture, &room);
        assert_cancelled(child.cancel());
        assert_eq!(*lock(&room.trace), ROUND);
        fixture.assert_all_closed_except(&peer);
        room.assert_helper_is_idle(fixture);
    });
    fixture.assert_clean();
}

#[test]
fn a_drain_wakes_the_machine_that_waits_and_its_caller_gets_the_descriptor_back() {
    let fixture = Fixture::new();
    let room = room();
    fixture.root(|| {
        let (child, peer) = interrupted(fixture, &room);
        child.drain().expect("it is a child");
        let hands = child.join().expect("it returns");
        assert_eq!(hands[1..], ["CALLER-1", "HELPER-1", "CALLER-1"]);
        assert_eq!(*lock(&room.trace), ROUND);
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn machines_of_a_cancelled_task_run_in_that_task_and_become_idle() {
    let fixture = Fixture::new();
    let room = room();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let theirs = Arc::clone(&room);
        let child = fixture.spawn("cancelled", [stream.resource()], move || {
            begin.send(()).expect("the test receives it");
            let _ = gone.recv();
            theirs.drive(fixture, stream, Event::D(0), read);
        });
        begun.recv().expect("the child runs");
        child.request_cancel().expect("it is a child");
        drop(go);
        assert_cancelled(child.join());
        assert_eq!(*lock(&room.trace), ROUND);
        fixture.assert_all_closed_except(&peer);
        room.assert_helper_is_idle(fixture);
    });
    fixture.assert_clean();
}
