//! The machine types of the client, as data; `actions.rs` performs the actions.

use crate::stage::{Action, Event, MachineType, State, Transition};

/// The actions of WORKER; the other machines have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAction {
    /// Request a connection from a TX.
    RequestConnect,
    /// Trace that it has connected; `M0` to itself.
    Connected,
    /// Trace that it failed to connect; `M3` to itself.
    NotConnected,
    /// Request the sending of the next request from a TX.
    RequestSend,
    /// Compare the reply with the request; `M0` to itself, or `M3`.
    Compare,
    /// Count a lost connection; `M3` to itself.
    Reconnect,
    /// Start the timer until the next request.
    Pause,
    /// Close the connection, and start the timer until the next attempt.
    HangUp,
}

use Action::{GoOn, Own, ReportSignal, RequestRx};
use ClientAction::{
    Compare, Connected, HangUp, NotConnected, Pause, Reconnect, RequestConnect, RequestSend,
};
use Transition::{Do, Goto};

const GO_ON: Event = Event::GO_ON;
const DONE: Event = Event::DONE;
const FAILED: Event = Event::FAILED;
/// From a WORKER to itself: the connection is of no more use.
pub(super) const RECONNECT: Event = Event::M(3);

/// Handles signals. There is one.
pub(super) static TERMINATOR: MachineType<ClientAction> = MachineType {
    name: "TERMINATOR",
    states: &[
        State::new("INIT", &[(GO_ON, Goto("IDLE"))]).on_enter(GoOn),
        State::new("IDLE", &[(Event::S(0), Do(ReportSignal)), (Event::S(1), Do(ReportSignal))]),
    ],
};

/// Sends requests and verifies the replies.
pub(super) static WORKER: MachineType<ClientAction> = MachineType {
    name: "WORKER",
    states: &[
        State::new("INIT", &[(GO_ON, Goto("CONN"))]).on_enter(GoOn),
        State::new(
            "CONN",
            &[
                (DONE, Do(Own(Connected))),
                (FAILED, Do(Own(NotConnected))),
                (GO_ON, Goto("SEND")),
                (RECONNECT, Goto("WAIT")),
            ],
        )
        .on_enter(Own(RequestConnect)),
        State::new(
            "SEND",
            &[
                (DONE, Do(GoOn)),
                (FAILED, Do(Own(Reconnect))),
                (GO_ON, Goto("RECV")),
                (RECONNECT, Goto("WAIT")),
            ],
        )
        .on_enter(Own(RequestSend)),
        State::new(
            "RECV",
            &[
                (DONE, Do(Own(Compare))),
                (FAILED, Do(Own(Reconnect))),
                (GO_ON, Goto("TWIX")),
                (RECONNECT, Goto("WAIT")),
            ],
        )
        .on_enter(RequestRx),
        State::new("TWIX", &[(Event::T(0), Goto("SEND"))]).on_enter(Own(Pause)),
        State::new("WAIT", &[(Event::T(0), Goto("CONN"))]).on_enter(Own(HangUp)),
    ],
};
