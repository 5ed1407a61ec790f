//! `Scheduler`: the machines of a program, their events in one queue, and the pools of idle machines.
//!
//! Nothing here waits or prints. An event whose sender hands the payload over is not delivered at once:
//! [`Machines::run`] stops in front of it and returns its receiver, so that the caller can make the
//! receiver the owner first. The trace line of an event therefore comes after the hand-over.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::{Event, MachineType, Sink, State, TraceEvent, Transition};

/// One machine of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MachineId(usize);

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Source {
    /// The machine itself.
    Own,
    /// The system: a descriptor, a timer, a signal.
    Os,
    /// Another machine.
    Peer(MachineId),
}

/// Performs the actions that the tables name. Actions must not wait.
pub(crate) trait Actions {
    /// What a table can name.
    type Action: Copy + fmt::Debug + 'static;
    /// What the machines serve.
    type Payload;

    /// Performs an action of the machine whose turn it is. `payload` is `None` for events that concern
    /// no payload, such as signals.
    fn perform(
        &mut self,
        turn: &mut Turn<'_, Self::Action>,
        action: Self::Action,
        payload: Option<&mut Self::Payload>,
    );

    /// Whether the machines react to nothing more. A [`Driver`](super::Driver) asks after each wait.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// The turn of one machine: how its action affects machines and trace.
pub(crate) struct Turn<'a, A: 'static> {
    scheduler: &'a mut Scheduler<A>,
    me: MachineId,
}

impl<A: Copy + fmt::Debug + 'static> Turn<'_, A> {
    /// The machine's name, as in the trace: `RX-4`.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.scheduler.name(self.me)
    }

    /// Writes an event of the program to the trace.
    pub(crate) fn trace(&self, event: &TraceEvent<'_>) {
        self.scheduler.trace(event);
    }

    /// Sends the machine itself an event.
    pub(crate) fn send_self(&mut self, event: Event) {
        self.scheduler.enqueue(self.me, event, Source::Own);
    }

    /// Sends the machine itself the event to go on.
    pub(crate) fn go_on(&mut self) {
        self.send_self(Event::GO_ON);
    }

    /// Puts the machine into the pool of its type.
    pub(crate) fn rest(&mut self) {
        let name = self.scheduler.machines[self.me.0].machine_type.name;
        self.scheduler.idle.entry(name).or_default().push(self.me);
    }

    /// Takes a machine from the pool of a type, the one that was put there last, and hands it the payload
    /// with a request. Returns false if the pool is empty.
    pub(crate) fn request(&mut self, machine_type: &MachineType<A>) -> bool {
        let Some(helper) = self.scheduler.idle.get_mut(machine_type.name).and_then(Vec::pop) else {
            return false;
        };
        self.scheduler.machines[helper.0].requester = Some(self.me);
        self.hand_over(helper, Event::REQUEST);
        true
    }

    /// Goes on to the idle state, and hands the payload back to the requester with a reply.
    ///
    /// # Panics
    /// There is no requester: the tables are wrong.
    pub(crate) fn reply(&mut self, event: Event) {
        let Some(requester) = self.scheduler.machines[self.me.0].requester.take() else {
            panic!("{} replies without a request", self.name());
        };
        self.go_on();
        self.hand_over(requester, event);
    }

    fn hand_over(&mut self, to: MachineId, event: Event) {
        let from = Source::Peer(self.me);
        self.scheduler.queue.push_back(Message { to, event, from, hands_over: true });
    }
}

struct Message {
    to: MachineId,
    event: Event,
    from: Source,
    /// Whether the receiver has to get the payload before it gets this.
    hands_over: bool,
}

struct Machine<A: 'static> {
    machine_type: &'static MachineType<A>,
    name: String,
    state: usize,
    /// The machine that gets the reply.
    requester: Option<MachineId>,
}

impl<A> Machine<A> {
    fn state(&self) -> &'static State<A> {
        &self.machine_type.states[self.state]
    }
}

/// The machines of a program, and their queue.
pub(crate) struct Scheduler<A: 'static> {
    machines: Vec<Machine<A>>,
    queue: VecDeque<Message>,
    /// Idle machines by type, the latest last.
    idle: HashMap<&'static str, Vec<MachineId>>,
    sink: Option<Sink>,
}

impl<A: Copy + fmt::Debug + 'static> Scheduler<A> {
    /// The machine's name, as in the trace: `RX-4`.
    #[must_use]
    pub(crate) fn name(&self, machine: MachineId) -> &str {
        &self.machines[machine.0].name
    }

    /// Puts an event at the end of the queue.
    pub(crate) fn enqueue(&mut self, to: MachineId, event: Event, from: Source) {
        self.queue.push_back(Message { to, event, from, hands_over: false });
    }

    /// Writes an event of the program to the trace.
    pub(crate) fn trace(&self, event: &TraceEvent<'_>) {
        if let Some(sink) = &self.sink {
            sink(event);
        }
    }

    /// Traces a message. Returns its transition, and the state that it is of.
    fn react(&self, message: &Message) -> (&'static State<A>, Transition<A>) {
        let machine = &self.machines[message.to.0];
        let (state, event) = (machine.state(), message.event);
        self.trace(&TraceEvent::Got {
            machine: &machine.name,
            state: state.name,
            event,
            from: match message.from {
                Source::Own => "SELF",
                Source::Os => "OS",
                Source::Peer(peer) => self.name(peer),
            },
        });
        let found = state.transitions.iter().find(|(handled, _)| *handled == event);
        let Some((_, transition)) = found else {
            panic!("{} has no transition for {event} in {}", machine.name, state.name);
        };
        (state, *transition)
    }
}

/// A scheduler with the actions of its machines; a program keeps both behind one lock.
pub(crate) struct Machines<T: Actions> {
    /// The machines and their queue.
    pub(crate) scheduler: Scheduler<T::Action>,
    /// The actions, with what they need.
    pub(crate) actions: T,
}

impl<T: Actions> Machines<T> {
    /// No machines yet. `sink` gets every event before the reaction to it.
    #[must_use]
    pub(crate) fn new(actions: T, sink: Option<Sink>) -> Machines<T> {
        let (machines, queue) = (Vec::new(), VecDeque::new());
        Machines { scheduler: Scheduler { machines, queue, idle: HashMap::new(), sink }, actions }
    }

    /// Adds a machine, which enters its first state.
    pub(crate) fn add(
        &mut self,
        machine_type: &'static MachineType<T::Action>,
        number: usize,
    ) -> MachineId {
        let me = MachineId(self.scheduler.machines.len());
        let name = format!("{}-{number}", machine_type.name);
        self.scheduler.machines.push(Machine { machine_type, name, state: 0, requester: None });
        self.enter(me, None);
        me
    }

    /// Has a machine leave its state without entering another, at the end of the program.
    pub(crate) fn leave(&mut self, me: MachineId) {
        self.perform(me, self.scheduler.machines[me.0].state().leave, None);
    }

    /// Delivers an event of the system that concerns no payload.
    pub(crate) fn deliver(&mut self, to: MachineId, event: Event) {
        self.scheduler.enqueue(to, event, Source::Os);
        let receiver = self.run(None);
        debug_assert!(receiver.is_none(), "there is no payload to hand over");
    }

    /// Delivers what is in the queue, and what the reactions enqueue. Stops in front of an event that
    /// hands the payload over, and returns its receiver; the next call delivers this event.
    ///
    /// # Panics
    /// The tables are wrong: a machine has no transition for an event, or there is no state of that name.
    pub(crate) fn run(&mut self, mut payload: Option<&mut T::Payload>) -> Option<MachineId> {
        while let Some(mut message) = self.scheduler.queue.pop_front() {
            let to = message.to;
            if std::mem::take(&mut message.hands_over) {
                self.scheduler.queue.push_front(message);
                return Some(to);
            }
            match self.scheduler.react(&message) {
                (_, Transition::Do(action)) => {
                    self.perform(to, Some(action), payload.as_deref_mut())
                }
                (state, Transition::Goto(name)) => {
                    let machine_type = self.scheduler.machines[to.0].machine_type;
                    let next = machine_type.states.iter().position(|state| state.name == name);
                    let Some(next) = next else {
                        panic!("{} has no state {name}", machine_type.name)
                    };
                    self.perform(to, state.leave, payload.as_deref_mut());
                    self.scheduler.machines[to.0].state = next;
                    self.enter(to, payload.as_deref_mut());
                }
            }
        }
        None
    }

    /// Discards the queue, after a panic: the events are about a payload that is gone.
    pub(super) fn discard_queue(&mut self) {
        self.scheduler.queue.clear();
    }

    fn enter(&mut self, me: MachineId, payload: Option<&mut T::Payload>) {
        self.perform(me, self.scheduler.machines[me.0].state().enter, payload);
    }

    fn perform(
        &mut self,
        me: MachineId,
        action: Option<T::Action>,
        payload: Option<&mut T::Payload>,
    ) {
        if let Some(action) = action {
            let mut turn = Turn { scheduler: &mut self.scheduler, me };
            self.actions.perform(&mut turn, action, payload);
        }
    }
}

impl<T: Actions> fmt::Debug for Machines<T> {
    /// The state of every machine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machines = self.scheduler.machines.iter();
        f.debug_map().entries(machines.map(|it| (&it.name, it.state().name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Act {
        Hello,
        Rest,
        Request,
        Reply,
        Bye,
    }

    const fn machine_type(name: &'static str) -> MachineType<Act> {
        MachineType {
            name,
            states: &[
                State {
                    name: "INIT",
                    enter: Some(Act::Hello),
                    leave: Some(Act::Bye),
                    transitions: &[(Event::GO_ON, Transition::Goto("WORK"))],
                },
                State {
                    name: "WORK",
                    enter: Some(Act::Rest),
                    leave: None,
                    transitions: &[
                        (Event::D(0), Transition::Do(Act::Request)),
                        (Event::REQUEST, Transition::Do(Act::Reply)),
                        (Event::FAILED, Transition::Do(Act::Bye)),
                        (Event::GO_ON, Transition::Goto("WORK")),
                        (Event::T(0), Transition::Goto("NOWHERE")),
                    ],
                },
            ],
        }
    }

    static CALLER: MachineType<Act> = machine_type("CALLER");
    static HELPER: MachineType<Act> = machine_type("HELPER");

    /// Records each action, with its machine and whether there was a payload.
    #[derive(Default)]
    struct Recorder(Vec<(String, Act, bool)>);

    impl Actions for Recorder {
        type Action = Act;
        type Payload = ();

        fn perform(&mut self, turn: &mut Turn<'_, Act>, action: Act, payload: Option<&mut ()>) {
            self.0.push((turn.name().to_owned(), action, payload.is_some()));
            match action {
                Act::Hello | Act::Bye => {}
                Act::Rest => turn.rest(),
                Act::Request => assert!(turn.request(&HELPER), "a helper is idle"),
                Act::Reply => turn.reply(Event::FAILED),
            }
        }
    }

    type Lines = Arc<Mutex<Vec<String>>>;

    /// A caller and two helpers, all of them idle, and the trace from now on.
    fn machines() -> (Machines<Recorder>, MachineId, Lines) {
        let lines = Lines::default();
        let sink_lines = Arc::clone(&lines);
        let sink: Sink = Box::new(move |line| sink_lines.lock().unwrap().push(line.to_string()));
        let mut machines = Machines::new(Recorder::default(), Some(sink));
        let caller = machines.add(&CALLER, 1);
        let helpers = [machines.add(&HELPER, 1), machines.add(&HELPER, 2)];
        for machine in [caller].into_iter().chain(helpers) {
            machines.scheduler.enqueue(machine, Event::GO_ON, Source::Own);
        }
        assert_eq!(machines.run(None), None);
        (machines, caller, lines)
    }

    #[test]
    fn events_are_delivered_in_order_and_actions_follow_at_the_borders_of_states() {
        let (machines, _, lines) = machines();
        let expected = [
            "CALLER-1 @ INIT got 'M0' from SELF",
            "HELPER-1 @ INIT got 'M0' from SELF",
            "HELPER-2 @ INIT got 'M0' from SELF",
        ];
        assert_eq!(*lines.lock().unwrap(), expected);
        let actions = machines.actions.0.iter().filter(|(name, ..)| name == "CALLER-1");
        let actions: Vec<Act> = actions.map(|(_, act, _)| *act).collect();
        assert_eq!(actions, [Act::Hello, Act::Bye, Act::Rest]);
        let states = r#"{"CALLER-1": "WORK", "HELPER-1": "WORK", "HELPER-2": "WORK"}"#;
        assert_eq!(format!("{machines:?}"), states);
    }

    #[test]
    fn a_hand_over_stops_before_its_trace_line_and_the_next_run_delivers_it() {
        let (mut machines, caller, lines) = machines();
        lines.lock().unwrap().clear();
        machines.scheduler.enqueue(caller, Event::D(0), Source::Os);
        let helper = machines.run(Some(&mut ())).expect("a helper was requested");
        assert_eq!(machines.scheduler.name(helper), "HELPER-2", "the last one that became idle");
        assert_eq!(*lines.lock().unwrap(), ["CALLER-1 @ WORK got 'D0' from OS"]);
        assert_eq!(machines.run(Some(&mut ())), Some(caller), "the reply goes to the requester");
        assert_eq!(machines.run(Some(&mut ())), None);
        let expected = [
            "HELPER-2 @ WORK got 'M1' from CALLER-1",
            "HELPER-2 @ WORK got 'M0' from SELF",
            "CALLER-1 @ WORK got 'M2' from HELPER-2",
        ];
        assert_eq!(lines.lock().unwrap()[1..], expected);
        let last = ("CALLER-1".to_owned(), Act::Bye, true);
        assert_eq!(machines.actions.0.last(), Some(&last));
    }

    #[test]
    #[should_panic(expected = "CALLER-1 has no transition for S0 in WORK")]
    fn an_event_without_a_transition_panics() {
        let (mut machines, caller, _) = machines();
        machines.deliver(caller, Event::S(0));
    }

    #[test]
    #[should_panic(expected = "CALLER has no state NOWHERE")]
    fn a_transition_to_a_state_that_does_not_exist_panics() {
        let (mut machines, caller, _) = machines();
        machines.deliver(caller, Event::T(0));
    }

    #[test]
    #[should_panic(expected = "CALLER-1 replies without a request")]
    fn a_reply_without_a_request_panics() {
        let (mut machines, caller, _) = machines();
        machines.deliver(caller, Event::REQUEST);
    }
}
