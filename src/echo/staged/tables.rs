//! The machine types of the server, as data; `actions.rs` performs the actions.
//!
//! ```text
//! LISTENER ── M1 ──> WORKER ── M1 ──> RX    replies M1: the request is complete, M2: failed
//!          <── M0 ──        ── M1 ──> TX    replies M1: the reply is sent,       M2: failed
//! ```
//!
//! Each of these events hands the client over: its receiver owns the descriptor.

use crate::stage::{Action, Event, MachineType, State, Transition};

/// The actions of LISTENER and WORKER; RX and TX have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerAction {
    /// LISTENER: trace the addresses.
    Greet,
    /// LISTENER: request a WORKER for the client; without an idle one, or without a client, `M0` to
    /// itself.
    Admit,
    /// LISTENER: close the connection.
    Close,
    /// LISTENER: trace the end.
    Leave,
    /// WORKER: hand the client back to LISTENER with `M0`.
    GiveUp,
}

use Action::{GoOn, Own, ReportSignal, RequestRx, RequestTx, Rest};
use ServerAction::{Admit, Close, GiveUp, Greet, Leave};
use Transition::{Do, Goto};

const GO_ON: Event = Event::GO_ON;
const CLIENT: Event = Event::REQUEST;
const DONE: Event = Event::DONE;
const FAILED: Event = Event::FAILED;

/// Accepts clients and closes them. There is one.
pub(super) static LISTENER: MachineType<ServerAction> = MachineType {
    name: "LISTENER",
    states: &[
        State::new("INIT", &[(GO_ON, Goto("WORK"))]).on_enter(GoOn),
        State::new(
            "WORK",
            &[
                (Event::D(0), Do(Own(Admit))),
                (GO_ON, Do(Own(Close))),
                (Event::S(0), Do(ReportSignal)),
                (Event::S(1), Do(ReportSignal)),
            ],
        )
        .on_enter(Own(Greet))
        .on_leave(Own(Leave)),
    ],
};

/// Serves a client: alternates between receiving and sending.
pub(super) static WORKER: MachineType<ServerAction> = MachineType {
    name: "WORKER",
    states: &[
        State::new("INIT", &[(GO_ON, Goto("IDLE"))]).on_enter(GoOn),
        State::new("IDLE", &[(CLIENT, Do(GoOn)), (GO_ON, Goto("RECV"))]).on_enter(Rest),
        State::new("RECV", &[(GO_ON, Goto("SEND")), (DONE, Do(GoOn)), (FAILED, Goto("FAIL"))])
            .on_enter(RequestRx),
        State::new("SEND", &[(GO_ON, Goto("RECV")), (DONE, Do(GoOn)), (FAILED, Goto("FAIL"))])
            .on_enter(RequestTx),
        State::new("FAIL", &[(GO_ON, Goto("IDLE"))]).on_enter(Own(GiveUp)),
    ],
};
