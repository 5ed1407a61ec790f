//! The four kinds of machines, as data. What the actions do is in `troupe.rs`.
//!
//! ```text
//! LISTENER ── M1, a client ──> WORKER ── M1 ──> RX    M1: a request is there, M2: the end
//!          <── M0, the client ──      ── M1 ──> TX    M1: it is answered,     M2: the end
//! ```
//!
//! A client goes with the message: whoever is sent to owns its descriptor.

use crate::stage::{Kind, Protocol, Reflex, State, Tag};

/// What a machine can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// LISTENER: say where.
    Greet,
    /// LISTENER: take a WORKER and send it the client, or turn the client away.
    Admit,
    /// LISTENER: close the connection.
    Close,
    /// LISTENER: say which signal it was. What else it leads to is the server's.
    Stop,
    /// LISTENER: say goodbye.
    Leave,
    /// WORKER, RX, TX: into the pool.
    Rest,
    /// WORKER, RX, TX: `M0` to itself, which leads on.
    GoOn,
    /// WORKER: give up, with `M0` to itself and the client to LISTENER.
    GiveUp,
    /// WORKER: take an RX and send it the client.
    AskRx,
    /// WORKER: take a TX and send it the client.
    AskTx,
    /// RX: wait for bytes, until the time for a request is over.
    WaitForRequest,
    /// RX: stop the timer.
    StopTimer,
    /// RX: take what is there of the request.
    Receive,
    /// TX: wait until it can be written.
    WaitForRoom,
    /// TX: write what there is room for.
    Send,
    /// RX, TX: back to the pool, and tell the WORKER that it has failed.
    Fail,
}

use Action::{
    Admit, AskRx, AskTx, Close, Fail, GiveUp, GoOn, Greet, Leave, Receive, Rest, Send, Stop,
    StopTimer, WaitForRequest, WaitForRoom,
};
use Reflex::{Do, Goto};

/// A request is there, or answered, or whatever was asked for is done.
pub(super) const DONE: Tag = Tag::M(1);
/// It will not be done.
pub(super) const FAILED: Tag = Tag::M(2);
/// To a machine that rests: here is a client. The same number as [`DONE`], which goes the other way.
const CLIENT: Tag = Tag::M(1);
/// To oneself: go on. To LISTENER: a client that is to be closed.
pub(super) const GO_ON: Tag = Tag::M(0);

/// What the machines of a cast need to know of it.
pub(super) const PROTOCOL: Protocol = Protocol { go_on: GO_ON, work: CLIENT };

/// One of them: where clients come from and go to.
pub(super) static LISTENER: Kind<Action> = Kind {
    name: "LISTENER",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("WORK"))] },
        State {
            name: "WORK",
            enter: Some(Greet),
            leave: Some(Leave),
            reflexes: &[
                (Tag::D(0), Do(Admit)),
                (GO_ON, Do(Close)),
                (Tag::S(0), Do(Stop)),
                (Tag::S(1), Do(Stop)),
            ],
        },
    ],
};

/// Who knows what comes after what: receive, send, and again.
pub(super) static WORKER: Kind<Action> = Kind {
    name: "WORKER",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("IDLE"))] },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            reflexes: &[(CLIENT, Do(GoOn)), (GO_ON, Goto("RECV"))],
        },
        State {
            name: "RECV",
            enter: Some(AskRx),
            leave: None,
            reflexes: &[(GO_ON, Goto("SEND")), (DONE, Do(GoOn)), (FAILED, Goto("FAIL"))],
        },
        State {
            name: "SEND",
            enter: Some(AskTx),
            leave: None,
            reflexes: &[(GO_ON, Goto("RECV")), (DONE, Do(GoOn)), (FAILED, Goto("FAIL"))],
        },
        State {
            name: "FAIL",
            enter: Some(GiveUp),
            leave: None,
            reflexes: &[(GO_ON, Goto("IDLE"))],
        },
    ],
};

/// Who knows how to read a request.
pub(super) static RX: Kind<Action> = Kind {
    name: "RX",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("IDLE"))] },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            reflexes: &[(CLIENT, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForRequest),
            leave: Some(StopTimer),
            reflexes: &[
                (Tag::D(0), Do(Receive)),
                (Tag::D(2), Do(Fail)),
                (Tag::T(0), Do(Fail)),
                (GO_ON, Goto("IDLE")),
            ],
        },
    ],
};

/// Who knows how to write an answer.
pub(super) static TX: Kind<Action> = Kind {
    name: "TX",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("IDLE"))] },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            reflexes: &[(CLIENT, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForRoom),
            leave: None,
            reflexes: &[(Tag::D(1), Do(Send)), (Tag::D(2), Do(Fail)), (GO_ON, Goto("IDLE"))],
        },
    ],
};
