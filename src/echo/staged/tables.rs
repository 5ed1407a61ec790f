//! The four machine types of the server, as data; `actions.rs` performs the actions.
//!
//! ```text
//! LISTENER ── M1 ──> WORKER ── M1 ──> RX    replies M1: the request is complete, M2: failed
//!          <── M0 ──        ── M1 ──> TX    replies M1: the reply is sent,       M2: failed
//! ```
//!
//! Each of these events hands the client over: its receiver owns the descriptor.

use crate::stage::{Event, MachineType, State, Transition};

/// The actions of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// LISTENER: trace the addresses.
    Greet,
    /// LISTENER: request a WORKER for the client; without an idle one, or without a client, `M0` to
    /// itself.
    Admit,
    /// LISTENER: close the connection.
    Close,
    /// LISTENER: trace the signal. The server itself reacts to it elsewhere.
    ReportSignal,
    /// LISTENER: trace the end.
    Leave,
    /// WORKER, RX, TX: go into the pool.
    Rest,
    /// All: `M0` to itself.
    GoOn,
    /// WORKER: hand the client back to LISTENER with `M0`.
    GiveUp,
    /// WORKER: request an RX.
    RequestRx,
    /// WORKER: request a TX.
    RequestTx,
    /// RX: wait for bytes, until the deadline of the request.
    WaitForRequest,
    /// RX: stop the timer.
    StopTimer,
    /// RX: receive what has arrived of the request.
    Receive,
    /// TX: wait for space in the send buffer.
    WaitForSpace,
    /// TX: send what there is space for.
    Send,
    /// RX, TX: reply that it failed.
    Fail,
}

use Action::{
    Admit, Close, Fail, GiveUp, GoOn, Greet, Leave, Receive, ReportSignal, RequestRx, RequestTx,
    Rest, Send, StopTimer, WaitForRequest, WaitForSpace,
};
use Transition::{Do, Goto};

const GO_ON: Event = Event::GO_ON;
const CLIENT: Event = Event::REQUEST;
const DONE: Event = Event::DONE;
const FAILED: Event = Event::FAILED;

/// Accepts clients and closes them. There is one.
pub(super) static LISTENER: MachineType<Action> = MachineType {
    name: "LISTENER",
    states: &[
        State {
            name: "INIT",
            enter: Some(GoOn),
            leave: None,
            transitions: &[(GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(Greet),
            leave: Some(Leave),
            transitions: &[
                (Event::D(0), Do(Admit)),
                (GO_ON, Do(Close)),
                (Event::S(0), Do(ReportSignal)),
                (Event::S(1), Do(ReportSignal)),
            ],
        },
    ],
};

/// Serves a client: alternates between receiving and sending.
pub(super) static WORKER: MachineType<Action> = MachineType {
    name: "WORKER",
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
            transitions: &[(CLIENT, Do(GoOn)), (GO_ON, Goto("RECV"))],
        },
        State {
            name: "RECV",
            enter: Some(RequestRx),
            leave: None,
            transitions: &[(GO_ON, Goto("SEND")), (DONE, Do(GoOn)), (FAILED, Goto("FAIL"))],
        },
        State {
            name: "SEND",
            enter: Some(RequestTx),
            leave: None,
            transitions: &[(GO_ON, Goto("RECV")), (DONE, Do(GoOn)), (FAILED, Goto("FAIL"))],
        },
        State {
            name: "FAIL",
            enter: Some(GiveUp),
            leave: None,
            transitions: &[(GO_ON, Goto("IDLE"))],
        },
    ],
};

/// Receives a request.
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
            transitions: &[(CLIENT, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForRequest),
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

/// Sends a reply.
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
            transitions: &[(CLIENT, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForSpace),
            leave: None,
            transitions: &[(Event::D(1), Do(Send)), (Event::D(2), Do(Fail)), (GO_ON, Goto("IDLE"))],
        },
    ],
};
