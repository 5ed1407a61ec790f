//! The four kinds of machines, as data. What the actions do is in `troupe.rs`.

use crate::stage::{Kind, Protocol, Reflex, State, Tag};

/// What a machine can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// TERMINATOR: say which signal it was.
    Stop,
    /// All: `M0` to itself, which leads on.
    GoOn,
    /// RX, TX: into the pool.
    Rest,
    /// WORKER: send a TX to connect.
    AskToConnect,
    /// WORKER: say that it is connected, and go on.
    Connected,
    /// WORKER: say that it is not, and wait.
    NotConnected,
    /// WORKER: send a TX with the next request.
    AskToSend,
    /// WORKER: send an RX for the reply.
    AskForReply,
    /// WORKER: compare the reply with the request, and go on.
    Compare,
    /// WORKER: it did not work; `M3` to itself, which leads to waiting.
    Despair,
    /// WORKER: start the timer until the next request.
    Pause,
    /// WORKER: close the connection, and start the timer until the next attempt.
    Wait,
    /// RX: wait for bytes.
    WaitForReply,
    /// RX: stop the timer.
    StopTimer,
    /// RX: take what is there of the reply.
    Receive,
    /// TX: connect, or wait until it can be written.
    WaitForRoom,
    /// TX: it is connected; or write what there is room for.
    Send,
    /// RX, TX: back to the pool, and tell the WORKER that it has failed.
    Fail,
}

use Action::{
    AskForReply, AskToConnect, AskToSend, Compare, Connected, Despair, Fail, GoOn, NotConnected,
    Pause, Receive, Rest, Send, Stop, StopTimer, Wait, WaitForReply, WaitForRoom,
};
use Reflex::{Do, Goto};

/// Whatever was asked for is done.
pub(super) const DONE: Tag = Tag::M(1);
/// It will not be done.
pub(super) const FAILED: Tag = Tag::M(2);
/// To oneself: it makes no sense to go on with this connection.
pub(super) const DESPAIR: Tag = Tag::M(3);
const WORK: Tag = Tag::M(1);
const GO_ON: Tag = Tag::M(0);

/// What the machines of a cast need to know of it.
pub(super) const PROTOCOL: Protocol = Protocol { go_on: GO_ON, work: WORK };

/// One of them: hears signals.
pub(super) static TERMINATOR: Kind<Action> = Kind {
    name: "TERMINATOR",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("IDLE"))] },
        State {
            name: "IDLE",
            enter: None,
            leave: None,
            reflexes: &[(Tag::S(0), Do(Stop)), (Tag::S(1), Do(Stop))],
        },
    ],
};

/// Who knows what comes after what.
pub(super) static WORKER: Kind<Action> = Kind {
    name: "WORKER",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("CONN"))] },
        State {
            name: "CONN",
            enter: Some(AskToConnect),
            leave: None,
            reflexes: &[
                (DONE, Do(Connected)),
                (FAILED, Do(NotConnected)),
                (GO_ON, Goto("SEND")),
                (DESPAIR, Goto("WAIT")),
            ],
        },
        State {
            name: "SEND",
            enter: Some(AskToSend),
            leave: None,
            reflexes: &[
                (DONE, Do(GoOn)),
                (FAILED, Do(Despair)),
                (GO_ON, Goto("RECV")),
                (DESPAIR, Goto("WAIT")),
            ],
        },
        State {
            name: "RECV",
            enter: Some(AskForReply),
            leave: None,
            reflexes: &[
                (DONE, Do(Compare)),
                (FAILED, Do(Despair)),
                (GO_ON, Goto("TWIX")),
                (DESPAIR, Goto("WAIT")),
            ],
        },
        State {
            name: "TWIX",
            enter: Some(Pause),
            leave: None,
            reflexes: &[(Tag::T(0), Goto("SEND"))],
        },
        State {
            name: "WAIT",
            enter: Some(Wait),
            leave: None,
            reflexes: &[(Tag::T(0), Goto("CONN"))],
        },
    ],
};

/// Who knows how to read a reply.
pub(super) static RX: Kind<Action> = Kind {
    name: "RX",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("IDLE"))] },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            reflexes: &[(WORK, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForReply),
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

/// Who knows how to connect and how to write.
pub(super) static TX: Kind<Action> = Kind {
    name: "TX",
    states: &[
        State { name: "INIT", enter: Some(GoOn), leave: None, reflexes: &[(GO_ON, Goto("IDLE"))] },
        State {
            name: "IDLE",
            enter: Some(Rest),
            leave: None,
            reflexes: &[(WORK, Do(GoOn)), (GO_ON, Goto("WORK"))],
        },
        State {
            name: "WORK",
            enter: Some(WaitForRoom),
            leave: None,
            reflexes: &[(Tag::D(1), Do(Send)), (Tag::D(2), Do(Fail)), (GO_ON, Goto("IDLE"))],
        },
    ],
};
