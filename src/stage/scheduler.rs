//! `Scheduler`: the machines of a program, their events in one queue, and the pools of idle machines.
//!
//! Nothing here waits or prints. An event whose sender hands the payload over is not delivered at once:
//! [`Machines::run`] stops in front of it and returns its receiver, so that the caller can make the
//! receiver the owner first. The trace line of an event therefore comes after the hand-over.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use super::{Action, Event, MachineType, Signal, Sink, State, TraceEvent, Transition};

/// One machine of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MachineId(usize);

/// What a machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// Bytes, until its deadline.
    Bytes(Instant),
    /// Space in the send buffer.
    Space,
    /// A point in time.
    Moment(Instant),
}

/// Performs the actions of a program. They must not wait.
pub(crate) trait Actions {
    /// The program's own actions.
    type Own: Copy + fmt::Debug + 'static;
    /// What the machines serve.
    type Payload;

    /// Performs an action of the machine whose turn it is. `payload` is `None` for events that concern
    /// no payload, such as signals.
    fn perform(
        &mut self,
        turn: &mut Turn<'_, Self::Own>,
        action: Self::Own,
        payload: Option<&mut Self::Payload>,
    );

    /// How long RX waits for a line.
    fn receive_timeout(&self) -> Duration;

    /// Receives what has arrived. Returns whether the line is complete; `None` for a failure.
    fn receive(&mut self, turn: &Turn<'_, Self::Own>, payload: &mut Self::Payload) -> Option<bool>;

    /// Sends what there is space for. Returns whether this was all; `None` for a failure.
    fn send(&mut self, payload: &mut Self::Payload) -> Option<bool>;

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
    pub(crate) fn name(&self) -> &str {
        self.scheduler.name(self.me)
    }

    /// Writes an event of the program to the trace, and to the observers of the registry.
    pub(crate) fn trace(&self, event: &TraceEvent<'_>) {
        self.scheduler.trace(event);
    }

    /// Sends the machine itself an event.
    pub(crate) fn send_self(&mut self, event: Event) {
        self.send(self.me, event, false);
    }

    /// Sends the machine itself the event to go on.
    pub(crate) fn go_on(&mut self) {
        self.send_self(Event::GO_ON);
    }

    /// Has the driver wait in the machine's task, after the events in the queue.
    pub(crate) fn wait(&mut self, wait_for: WaitFor) {
        self.scheduler.wait_for = Some(wait_for);
    }

    /// Puts the machine into the pool of its type.
    fn rest(&mut self) {
        let name = self.machine().machine_type.name;
        self.scheduler.idle.entry(name).or_default().push(self.me);
    }

    /// [Waits](Turn::wait) for bytes. The timer of the machine starts, unless it runs.
    fn wait_for_bytes(&mut self, timeout: Duration) {
        let deadline = *self.machine().deadline.get_or_insert_with(|| Instant::now() + timeout);
        self.wait(WaitFor::Bytes(deadline));
    }

    /// Takes a machine from the pool of a type, the one that was put there last, and hands it the payload
    /// with a request. Returns false if the pool is empty.
    pub(crate) fn request(&mut self, machine_type: &MachineType<A>) -> bool {
        let Some(helper) = self.scheduler.idle.get_mut(machine_type.name).and_then(Vec::pop) else {
            return false;
        };
        self.scheduler.machines[helper.0].requester = Some(self.me);
        self.send(helper, Event::REQUEST, true);
        true
    }

    /// [Requests](Turn::request) an RX or a TX.
    pub(crate) fn request_helper(&mut self, machine_type: &MachineType<A>) {
        let has_helper = self.request(machine_type);
        assert!(has_helper, "there are as many RX and TX as WORKERs, and each helps one");
    }

    /// Goes on to the idle state, and hands the payload back to the requester with a reply.
    ///
    /// # Panics
    /// There is no requester: the tables are wrong.
    pub(crate) fn reply(&mut self, event: Event) {
        let Some(requester) = self.machine().requester.take() else {
            panic!("{} replies without a request", self.name());
        };
        self.go_on();
        self.send(requester, event, true);
    }

    fn send(&mut self, to: MachineId, event: Event, hands_over: bool) {
        self.scheduler.queue.push_back(Message { to, event, from: Some(self.me), hands_over });
    }

    fn machine(&mut self) -> &mut Machine<A> {
        &mut self.scheduler.machines[self.me.0]
    }
}

struct Message {
    to: MachineId,
    event: Event,
    /// The sender; `None` for the system: a descriptor, a timer, a signal.
    from: Option<MachineId>,
    /// Whether the receiver has to get the payload before it gets this.
    hands_over: bool,
}

struct Machine<A: 'static> {
    machine_type: &'static MachineType<A>,
    name: String,
    state: usize,
    /// The machine that gets the reply.
    requester: Option<MachineId>,
    /// The time of its timer, while it runs.
    deadline: Option<Instant>,
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
    /// What the machine whose turn it was has to wait for.
    pub(super) wait_for: Option<WaitFor>,
    /// The signal that is being delivered.
    signal: Option<Signal>,
    sink: Option<Sink>,
}

impl<A: Copy + fmt::Debug + 'static> Scheduler<A> {
    /// The machine's name, as in the trace: `RX-4`.
    pub(crate) fn name(&self, machine: MachineId) -> &str {
        &self.machines[machine.0].name
    }

    /// Puts an event of the system at the end of the queue.
    pub(crate) fn enqueue(&mut self, to: MachineId, event: Event) {
        self.queue.push_back(Message { to, event, from: None, hands_over: false });
    }

    /// Discards the queue, after a panic: the events are about a payload that is gone.
    pub(super) fn discard(&mut self) {
        self.queue.clear();
        self.wait_for = None;
    }

    /// Writes an event of the program to the trace.
    pub(crate) fn trace(&self, event: &TraceEvent<'_>) {
        if let Some(sink) = &self.sink {
            sink(event);
        }
        crate::ownership::publish_message(event);
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
                None => "OS",
                Some(sender) if sender == message.to => "SELF",
                Some(sender) => self.name(sender),
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
    pub(crate) scheduler: Scheduler<T::Own>,
    /// The actions, with what they need.
    pub(crate) actions: T,
}

impl<T: Actions> Machines<T> {
    /// No machines yet. `sink` gets every event before the reaction to it.
    pub(crate) fn new(actions: T, sink: Option<Sink>) -> Machines<T> {
        let scheduler = Scheduler {
            machines: Vec::new(),
            queue: VecDeque::new(),
            idle: HashMap::new(),
            wait_for: None,
            signal: None,
            sink,
        };
        Machines { scheduler, actions }
    }

    /// Adds a machine, which enters its first state.
    pub(crate) fn add(
        &mut self,
        machine_type: &'static MachineType<T::Own>,
        number: usize,
    ) -> MachineId {
        let me = MachineId(self.scheduler.machines.len());
        let name = format!("{}-{number}", machine_type.name);
        let machine = Machine { machine_type, name, state: 0, requester: None, deadline: None };
        self.scheduler.machines.push(machine);
        self.enter(me, None);
        me
    }

    /// Has a machine leave its state without entering another, at the end of the program.
    pub(crate) fn leave(&mut self, me: MachineId) {
        self.perform(me, self.scheduler.machines[me.0].state().leave, None);
    }

    /// Delivers an event of the system that concerns no payload.
    pub(crate) fn deliver(&mut self, to: MachineId, event: Event) {
        self.scheduler.enqueue(to, event);
        let receiver = self.run(None);
        debug_assert!(receiver.is_none(), "there is no payload to hand over");
    }

    /// [Delivers](Machines::deliver) a signal.
    pub(crate) fn deliver_signal(&mut self, to: MachineId, signal: Signal) {
        self.scheduler.signal = Some(signal);
        self.deliver(to, signal.event());
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

    fn enter(&mut self, me: MachineId, payload: Option<&mut T::Payload>) {
        self.perform(me, self.scheduler.machines[me.0].state().enter, payload);
    }

    fn perform(
        &mut self,
        me: MachineId,
        action: Option<Action<T::Own>>,
        payload: Option<&mut T::Payload>,
    ) {
        let Some(action) = action else { return };
        let turn = &mut Turn { scheduler: &mut self.scheduler, me };
        let actions = &mut self.actions;
        match (action, payload) {
            (Action::GoOn, _) => turn.go_on(),
            (Action::Rest, _) => turn.rest(),
            (Action::ReportSignal, _) => {
                if let Some(Signal { number, pid }) = turn.scheduler.signal.take() {
                    turn.trace(&TraceEvent::Signal { number, pid });
                }
            }
            (Action::RequestRx, _) => turn.request_helper(MachineType::RX),
            (Action::RequestTx, _) => turn.request_helper(MachineType::TX),
            (Action::WaitForBytes, _) => turn.wait_for_bytes(actions.receive_timeout()),
            (Action::StopTimer, _) => turn.machine().deadline = None,
            (Action::Receive, Some(payload)) => match actions.receive(turn, payload) {
                Some(true) => turn.reply(Event::DONE),
                Some(false) => turn.wait_for_bytes(actions.receive_timeout()),
                None => turn.reply(Event::FAILED),
            },
            (Action::WaitForSpace, _) => turn.wait(WaitFor::Space),
            (Action::Send, Some(payload)) => match actions.send(payload) {
                Some(true) => turn.reply(Event::DONE),
                Some(false) => turn.wait(WaitFor::Space),
                None => turn.reply(Event::FAILED),
            },
            (Action::Fail, _) => turn.reply(Event::FAILED),
            (Action::Own(action), payload) => actions.perform(turn, action, payload),
            (_, None) => unreachable!("{}: {action:?} without a payload", turn.name()),
        }
    }
}
