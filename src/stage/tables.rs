//! Machines as data: their states and transitions, and the actions and machines of every program.

use super::Event;

/// A type of machine, as data. A machine starts in the first state.
pub(crate) struct MachineType<A: 'static> {
    /// `WORKER`; the machines are `WORKER-1`, `WORKER-2` ...
    pub(crate) name: &'static str,
    pub(crate) states: &'static [State<A>],
}

/// A state of a machine, with what each event causes.
pub(crate) struct State<A: 'static> {
    /// `IDLE`.
    pub(crate) name: &'static str,
    /// Performed when a machine enters the state.
    pub(super) enter: Option<Action<A>>,
    /// Performed when a machine leaves the state.
    pub(super) leave: Option<Action<A>>,
    pub(super) transitions: &'static [(Event, Transition<A>)],
}

/// What an event causes.
#[derive(Clone, Copy)]
pub(crate) enum Transition<A> {
    /// The machine enters the state of this name.
    Goto(&'static str),
    /// The machine performs the action, and keeps its state.
    Do(Action<A>),
}

/// What a machine does: an action of every program, or one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<A> {
    /// `M0` to itself.
    GoOn,
    /// Go into the pool.
    Rest,
    /// Trace the signal. The program itself reacts to it elsewhere.
    ReportSignal,
    /// Request an RX.
    RequestRx,
    /// Request a TX.
    RequestTx,
    /// RX: wait for bytes, until the deadline.
    WaitForBytes,
    /// RX: stop the timer.
    StopTimer,
    /// RX: receive what has arrived.
    Receive,
    /// TX: wait for space in the send buffer.
    WaitForSpace,
    /// TX: send what there is space for.
    Send,
    /// RX, TX: reply that it failed.
    Fail,
    /// One of the program's own.
    Own(A),
}

use Action::{Fail, GoOn, Receive, Rest, Send, StopTimer, WaitForBytes, WaitForSpace};
use Transition::{Do, Goto};

impl<A: Copy> State<A> {
    /// A state without actions at its borders.
    pub(crate) const fn new(
        name: &'static str,
        transitions: &'static [(Event, Transition<A>)],
    ) -> State<A> {
        State { name, enter: None, leave: None, transitions }
    }

    pub(crate) const fn on_enter(self, action: Action<A>) -> State<A> {
        State { enter: Some(action), ..self }
    }

    pub(crate) const fn on_leave(self, action: Action<A>) -> State<A> {
        State { leave: Some(action), ..self }
    }

    // Struct literals: a constant of any `A` cannot borrow the result of a call.
    const INIT: State<A> = State {
        name: "INIT",
        enter: Some(GoOn),
        leave: None,
        transitions: &[(Event::GO_ON, Goto("IDLE"))],
    };

    const IDLE: State<A> = State {
        name: "IDLE",
        enter: Some(Rest),
        leave: None,
        transitions: &[(Event::REQUEST, Do(GoOn)), (Event::GO_ON, Goto("WORK"))],
    };

    const RX_WORK: State<A> = State {
        name: "WORK",
        enter: Some(WaitForBytes),
        leave: Some(StopTimer),
        transitions: &[
            (Event::D(0), Do(Receive)),
            (Event::D(2), Do(Fail)),
            (Event::T(0), Do(Fail)),
            (Event::GO_ON, Goto("IDLE")),
        ],
    };

    const TX_WORK: State<A> = State {
        name: "WORK",
        enter: Some(WaitForSpace),
        leave: None,
        transitions: &[
            (Event::D(1), Do(Send)),
            (Event::D(2), Do(Fail)),
            (Event::GO_ON, Goto("IDLE")),
        ],
    };
}

impl<A: Copy> MachineType<A> {
    /// Receives a line.
    pub(crate) const RX: &'static MachineType<A> =
        &MachineType { name: "RX", states: &[State::INIT, State::IDLE, State::RX_WORK] };

    /// Sends a line.
    pub(crate) const TX: &'static MachineType<A> =
        &MachineType { name: "TX", states: &[State::INIT, State::IDLE, State::TX_WORK] };
}
