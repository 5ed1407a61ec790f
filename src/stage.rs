//! State machines that react to events: tables, one queue, and a trace.
//!
//! A *machine* has a [`MachineType`]: a table of states, each with the actions at its borders and a
//! *transition* for every event that it handles. The [`Scheduler`] keeps events in one queue. To
//! deliver an event is to trace it, to look up its transition, and to perform it, which may enqueue
//! further events. The [`Actions`] of a program perform what the tables name; they run under one lock
//! and must not wait.
//!
//! [`RX` and `TX`](MachineType::RX) are the machines that every program has: they move the bytes of a
//! connection.
//!
//! What the machines serve, a [`Payload`], moves from one machine to the next. A [`Driver`] runs each
//! machine that has it as an inline task, so that this task owns the payload's descriptor, and waits
//! in that task without the lock.
//!
//! Tables and notation are those of EDSM, which has one event-driven machine per concern instead of one
//! machine with a hierarchy of states.

mod driver;
mod scheduler;
mod tables;
#[cfg(test)]
mod tests;
mod trace;

use std::fmt;

pub(crate) use driver::{Driver, Payload};
pub(crate) use scheduler::{Actions, MachineId, Machines, Turn, WaitFor};
pub(crate) use tables::{Action, MachineType, State, Transition};
pub(crate) use trace::{Sink, TraceEvent};

/// An event for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// From a machine, itself or another.
    M(u8),
    /// From a descriptor. 0: readable, 1: writable, 2: failed or ended.
    D(u8),
    /// From a timer.
    T(u8),
    /// From a signal. 0: SIGINT, 1: every other.
    S(u8),
}

impl Event {
    /// From a machine to itself: go on.
    pub(crate) const GO_ON: Event = Event::M(0);
    /// From a machine to an idle one: a request.
    pub(crate) const REQUEST: Event = Event::M(1);
    /// The reply to a request: it was done.
    pub(crate) const DONE: Event = Event::M(1);
    /// The reply to a request: it failed.
    pub(crate) const FAILED: Event = Event::M(2);
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::M(number) => write!(f, "M{number}"),
            Event::D(number) => write!(f, "D{number}"),
            Event::T(number) => write!(f, "T{number}"),
            Event::S(number) => write!(f, "S{number}"),
        }
    }
}

/// A signal that the process received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number: 2 for SIGINT, 15 for SIGTERM.
    pub number: i32,
    /// The sender; `None` where the kernel does not report it.
    pub pid: Option<i32>,
}

impl Signal {
    /// `S0` for SIGINT, `S1` for every other signal.
    fn event(self) -> Event {
        /// SIGINT has this number on every Unix system.
        const INTERRUPT: i32 = 2;
        Event::S(u8::from(self.number != INTERRUPT))
    }
}
