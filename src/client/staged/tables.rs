//! The four machine types of the client, as data; `actions.rs` performs the actions.

use crate::stage::{Event, MachineType, State, Transition};

/// The actions of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// TERMINATOR: trace the signal. The client itself reacts to it elsewhere.
    ReportSignal,
    /// All: `M0` to itself.
    GoOn,
    /// RX, TX: go into the pool.
    Rest,
    /// WORKER: request a connection from a TX.
    RequestConnect,
    /// WORKER: trace that it has connected; `M0` to itself.
    Connected,
    /// WORKER: trace that it failed to connect; `M3` to itself.
    NotConnected,
    /// WORKER: request the sending of the next request from a TX.
    RequestSend,
    /// WORKER: request the reply from an RX.
    RequestReply,
    /// WORKER: compare the reply with the request; `M0` to itself, or `M3`.
    Compare,
    /// WORKER: count a lost connection; `M3` to itself.
    Reconnect,
    /// WORKER: start the timer until the next request.
    Pause,
    /// WORKER: close the connection, and start the timer until the next attempt.
    HangUp,
    /// RX: wait for bytes.
    WaitForReply,
    /// RX: stop the timer.
    StopTimer,
    /// RX: receive what has arrived of the reply.
    Receive,
    /// TX: connect, or wait for space in the send buffer.
    WaitForSpace,
    /// TX: send what there is space for; nothing for a new connection.
    Send,
    /// RX, TX: reply that it failed.
    Fail,
}

use Action::{
    Compare, Connected, Fail, GoOn, HangUp, NotConnected, Pause, Receive, Reconnect, ReportSignal,
    RequestConnect, RequestReply, RequestSend, Rest, Send, StopTimer, WaitForReply, WaitForSpace,
};
use Transition::{Do, Goto};

const GO_ON: Event = Event::GO_ON;
const REQUEST: Event = Event::REQUEST;
const DONE: Event = Event::DONE;
const FAILED: Event = Event::FAILED;
/// From a WORKER to itself: the connection is of no more use.
pub(super) const RECONNECT: Event = Event::M(3);

/// Handles signals. There is one.
pub(super) static TERMINATOR: MachineType<Action> = MachineType {
    name: "TERMINATOR",
    states: &[
        State {
            name: "INIT",
            enter: Some(GoOn),
            leave: None,
            transitions: &[(GO_ON, Goto("IDLE"))],
        },
        State {
            name: "IDLE",
            enter: None,
            leave: None,
            transitions: &[(Event::S(0), Do(ReportSignal)), (Event::S(1), Do(ReportSignal))],
        },
    ],
};

/// Sends requests and verifies the replies.
pub(super) static WORKER: MachineType<Action> = MachineType {
    name: "WORKER",
    states: &[
        State {
            name: "INIT",
            enter: Some(GoOn),
            leave: None,
            transitions: &[(GO_ON, Goto("CONN"))],
        },
        State {
            name: "CONN",
            enter: Some(RequestConnect),
            leave: None,
            transitions: &[
                (DONE, Do(Connected)),
                (FAILED, Do(NotConnected)),
                (GO_ON, Goto("SEND")),
                (RECONNECT, Goto("WAIT")),
            ],
        },
        State {
            name: "SEND",
            enter: Some(RequestSend),
            leave: None,
            transitions: &[
                (DONE, Do(GoOn)),
                (FAILED, Do(Reconnect)),
                (GO_ON, Goto("RECV")),
                (RECONNECT, Goto("WAIT")),
            ],
        },
        State {
            name: "RECV",
            enter: Some(RequestReply),
            leave: None,
            transitions: &[
                (DONE, Do(Compare)),
                (FAILED, Do(Reconnect)),
                (GO_ON, Goto("TWIX")),
                (RECONNECT, Goto("WAIT")),
            ],
        },
        State {
            name: "TWIX",
            enter: Some(Pause),
            leave: None,
            transitions: &[(Event::T(0), Goto("SEND"))],
        },
        State {
            name: "WAIT",
            enter: Some(HangUp),
            leave: None,
            transitions: &[(Event::T(0), Goto("CONN"))],
        },
    ],
};

/// Receives a reply.
pub(super) static RX: MachineType<Action> = MachineType {
    name: "RX",
    states: &[
        State {
            name: "INIT",
            enter: Some(GoOn),
            leave: None,
            transitions: &[(GO_ON, Goto("IDLE"))],
        },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            transitions: &[(REQUEST, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForReply),
            leave: Some(StopTimer),
            transitions: &[
                (Event::D(0), Do(Receive)),
                (Event::D(2), Do(Fail)),
                (Event::T(0), Do(Fail)),
                (GO_ON, Goto("IDLE")),
            ],
        },
    ],
};

/// Connects, or sends a request.
pub(super) static TX: MachineType<Action> = MachineType {
    name: "TX",
    states: &[
        State {
            name: "INIT",
            enter: Some(GoOn),
            leave: None,
            transitions: &[(GO_ON, Goto("IDLE"))],
        },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            transitions: &[(REQUEST, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForSpace),
            leave: None,
            transitions: &[(Event::D(1), Do(Send)), (Event::D(2), Do(Fail)), (GO_ON, Goto("IDLE"))],
        },
    ],
};
