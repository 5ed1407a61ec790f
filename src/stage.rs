//! Event-driven state machines: tables, one queue, and a trace. Nothing here waits or prints.
//!
//! A *machine* is of a [`Kind`]: a table of states, each with what is done when it is entered or left
//! and with a *reflex* for every message that it understands. Messages wait in one queue; delivering one
//! traces it, finds the reflex and does what it says, which may post further messages. What an action
//! really does is the [`Troupe`]'s, who plays the machines. All of that is pure; in a [`Cast`] each
//! machine is a task that owns, and lends itself to a thread when it has to wait.
//!
//! The idea and the notation are those of EDSM (an event-driven finite state machine per concern,
//! instead of one machine with a hierarchy of states):
//!
//! | tag | comes from |
//! |---|---|
//! | `M0`, `M1` ... | a machine, itself or another |
//! | `D0`, `D1`, `D2` | a descriptor: can be read, can be written, has failed or ended |
//! | `T0` | a timer |
//! | `S0`, `S1` | a signal |

mod cast;
mod trace;

use std::collections::VecDeque;
use std::fmt;

pub use cast::{Cast, Lent, Load, Protocol};
pub use trace::{Line, Sink};

/// What a message says; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// From a machine.
    M(u8),
    /// From a descriptor.
    D(u8),
    /// From a timer.
    T(u8),
    /// From a signal.
    S(u8),
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tag::M(number) => write!(f, "M{number}"),
            Tag::D(number) => write!(f, "D{number}"),
            Tag::T(number) => write!(f, "T{number}"),
            Tag::S(number) => write!(f, "S{number}"),
        }
    }
}

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number: 2 for SIGINT, 15 for SIGTERM.
    pub number: i32,
    /// Who sent it; `None` where the kernel does not say.
    pub pid: Option<i32>,
}

impl Signal {
    /// `S0` for SIGINT, `S1` for the others.
    #[must_use]
    pub fn tag(self) -> Tag {
        /// SIGINT, on every system that there is.
        const INTERRUPT: i32 = 2;
        Tag::S(u8::from(self.number != INTERRUPT))
    }
}

/// A kind of machine, as data: its states in order, the first one being where it begins.
pub struct Kind<A: 'static> {
    /// `WORKER`; the machines are `WORKER-1`, `WORKER-2` ...
    pub name: &'static str,
    /// Its states.
    pub states: &'static [State<A>],
}

/// A state: what is done at its borders, and on messages within.
pub struct State<A: 'static> {
    /// `IDLE`.
    pub name: &'static str,
    /// Done when the machine comes here.
    pub enter: Option<A>,
    /// Done when it goes.
    pub leave: Option<A>,
    /// What each message leads to.
    pub reflexes: &'static [(Tag, Reflex<A>)],
}

/// What a message leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflex<A> {
    /// To the state of this name.
    Goto(&'static str),
    /// To an action; the state stays.
    Do(A),
}

/// One machine on its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MachineId(usize);

impl MachineId {
    /// Counted from zero, in the order of their arrival.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The machine itself.
    Own,
    /// The world: a descriptor, a timer, a signal.
    Os,
    /// Another machine.
    Peer(MachineId),
}

struct Message<L> {
    to: MachineId,
    tag: Tag,
    from: Source,
    load: Option<L>,
}

struct Machine<A: 'static> {
    kind: &'static Kind<A>,
    name: String,
    state: usize,
}

impl<A> Machine<A> {
    fn state(&self) -> &'static State<A> {
        &self.kind.states[self.state]
    }
}

/// Who plays the machines: does what the tables say.
pub trait Troupe {
    /// What a table can ask for.
    type Action: Copy + fmt::Debug + 'static;
    /// What a message can carry.
    type Load;

    /// A machine gets what a message carries, before it reacts.
    fn take(&mut self, me: MachineId, load: Self::Load);

    /// A machine acts.
    fn perform(
        &mut self,
        stage: &mut Stage<Self::Action, Self::Load>,
        me: MachineId,
        action: Self::Action,
    );
}

/// The machines, and the messages that wait for them.
pub struct Stage<A: 'static, L> {
    machines: Vec<Machine<A>>,
    queue: VecDeque<Message<L>>,
    sink: Option<Sink>,
}

impl<A: Copy + fmt::Debug + 'static, L> Stage<A, L> {
    /// An empty stage. Every message is told to `sink` before the reaction to it.
    #[must_use]
    pub fn new(sink: Option<Sink>) -> Stage<A, L> {
        Stage { machines: Vec::new(), queue: VecDeque::new(), sink }
    }

    /// Puts a machine on the stage, in the first of its states, which is not entered yet.
    pub fn add(&mut self, kind: &'static Kind<A>, number: usize) -> MachineId {
        let name = format!("{}-{number}", kind.name);
        self.machines.push(Machine { kind, name, state: 0 });
        MachineId(self.machines.len() - 1)
    }

    /// The machine's name, as in the trace: `RX-4`.
    #[must_use]
    pub fn name(&self, machine: MachineId) -> &str {
        &self.machines[machine.0].name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self, machine: MachineId) -> &'static Kind<A> {
        self.machines[machine.0].kind
    }

    /// The name of the state that it is in.
    #[must_use]
    pub fn state(&self, machine: MachineId) -> &'static str {
        self.machines[machine.0].state().name
    }

    /// Puts a message at the end of the queue.
    pub fn post(&mut self, to: MachineId, tag: Tag, from: Source, load: Option<L>) {
        self.queue.push_back(Message { to, tag, from, load });
    }

    /// Tells the trace something of one's own.
    pub fn say(&self, line: &Line<'_>) {
        if let Some(sink) = &self.sink {
            sink(line);
        }
    }

    /// Enters a machine's first state: for its first entrance.
    pub fn enter(&mut self, troupe: &mut impl Troupe<Action = A, Load = L>, me: MachineId) {
        if let Some(action) = self.machines[me.0].state().enter {
            troupe.perform(self, me, action);
        }
    }

    /// Leaves a machine's state for good: for its exit.
    pub fn leave(&mut self, troupe: &mut impl Troupe<Action = A, Load = L>, me: MachineId) {
        if let Some(action) = self.machines[me.0].state().leave {
            troupe.perform(self, me, action);
        }
    }

    /// Delivers what waits, one message after the other, and what the reactions post, until nothing
    /// is left.
    ///
    /// # Panics
    /// A machine has no reflex for a message, or a reflex leads to no state: the tables are wrong.
    pub fn run(&mut self, troupe: &mut impl Troupe<Action = A, Load = L>) {
        while let Some(message) = self.queue.pop_front() {
            self.deliver(troupe, message);
        }
    }

    fn deliver(
        &mut self,
        troupe: &mut impl Troupe<Action = A, Load = L>,
        Message { to: me, tag, from, load }: Message<L>,
    ) {
        let machine = &self.machines[me.0];
        let state = machine.state();
        self.say(&Line::Got {
            machine: &machine.name,
            state: state.name,
            tag,
            from: match from {
                Source::Own => "SELF",
                Source::Os => "OS",
                Source::Peer(peer) => self.name(peer),
            },
        });
        let Some((_, reflex)) = state.reflexes.iter().find(|(understood, _)| *understood == tag)
        else {
            panic!("{} has no reflex for {tag} in {}", machine.name, state.name);
        };
        if let Some(load) = load {
            troupe.take(me, load);
        }
        match *reflex {
            Reflex::Do(action) => troupe.perform(self, me, action),
            Reflex::Goto(name) => {
                let Some(next) = machine.kind.states.iter().position(|state| state.name == name)
                else {
                    panic!("{} has no state {name}", machine.kind.name);
                };
                if let Some(action) = state.leave {
                    troupe.perform(self, me, action);
                }
                self.machines[me.0].state = next;
                if let Some(action) = self.machines[me.0].state().enter {
                    troupe.perform(self, me, action);
                }
            }
        }
    }
}

impl<A: fmt::Debug, L> fmt::Debug for Stage<A, L> {
    /// Where every machine stands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = self.machines.iter().map(|machine| (&machine.name, machine.state().name));
        f.debug_map().entries(standing).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Act {
        Hello,
        Pass,
        Bye,
    }

    const KIND: Kind<Act> = Kind {
        name: "PLAYER",
        states: &[
            State {
                name: "INIT",
                enter: Some(Act::Hello),
                leave: Some(Act::Bye),
                reflexes: &[(Tag::M(0), Reflex::Goto("WORK"))],
            },
            State {
                name: "WORK",
                enter: Some(Act::Hello),
                leave: None,
                reflexes: &[(Tag::D(0), Reflex::Do(Act::Pass)), (Tag::M(1), Reflex::Do(Act::Bye))],
            },
        ],
    };
    static PLAYER: Kind<Act> = KIND;

    /// Notes what is done, and passes loads from the first machine to the second.
    #[derive(Default)]
    struct Notes {
        done: Vec<(usize, Act)>,
        loads: Vec<(usize, &'static str)>,
        holding: Option<&'static str>,
    }

    impl Troupe for Notes {
        type Action = Act;
        type Load = &'static str;

        fn take(&mut self, me: MachineId, load: &'static str) {
            self.loads.push((me.index(), load));
            self.holding = Some(load);
        }

        fn perform(&mut self, stage: &mut Stage<Act, &'static str>, me: MachineId, action: Act) {
            self.done.push((me.index(), action));
            if action == Act::Pass {
                let load = self.holding.take();
                stage.post(MachineId(1 - me.index()), Tag::M(1), Source::Peer(me), load);
            }
        }
    }

    type Said = Arc<Mutex<Vec<String>>>;

    fn stage() -> (Stage<Act, &'static str>, Said) {
        let said = Said::default();
        let hears = Arc::clone(&said);
        let sink: Sink = Box::new(move |line| hears.lock().unwrap().push(line.to_string()));
        (Stage::new(Some(sink)), said)
    }

    #[test]
    fn messages_are_delivered_in_order_and_traced_before_the_reaction() {
        let (mut stage, said) = stage();
        let mut notes = Notes::default();
        let one = stage.add(&PLAYER, 1);
        let two = stage.add(&PLAYER, 2);
        for machine in [one, two] {
            stage.enter(&mut notes, machine);
            stage.post(machine, Tag::M(0), Source::Own, None);
        }
        stage.post(one, Tag::D(0), Source::Os, Some("a letter"));
        stage.run(&mut notes);
        let expected = [
            "PLAYER-1 @ INIT got 'M0' from SELF",
            "PLAYER-2 @ INIT got 'M0' from SELF",
            "PLAYER-1 @ WORK got 'D0' from OS",
            "PLAYER-2 @ WORK got 'M1' from PLAYER-1",
        ];
        assert_eq!(*said.lock().unwrap(), expected);
        assert_eq!(notes.loads, [(0, "a letter"), (1, "a letter")]);
        let of_two: Vec<Act> =
            notes.done.iter().filter(|(who, _)| *who == 1).map(|(_, act)| *act).collect();
        assert_eq!(of_two, [Act::Hello, Act::Bye, Act::Hello, Act::Bye]);
        assert_eq!(stage.state(one), "WORK");
    }

    #[test]
    #[should_panic(expected = "PLAYER-1 has no reflex for T0 in INIT")]
    fn a_message_that_no_table_knows_is_our_own_mistake() {
        let (mut stage, _said) = stage();
        let one = stage.add(&PLAYER, 1);
        stage.post(one, Tag::T(0), Source::Os, None);
        stage.run(&mut Notes::default());
    }
}
