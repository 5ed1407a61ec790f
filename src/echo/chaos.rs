//! Chaos: fault injection into connections, to verify that the checker finds every fault and that other
//! connections are not affected.
//!
//! [`Chaos`] wraps a handler. A selected connection gets its first echo, and then the fault happens in its
//! task, for real: nothing is simulated, and no report is made here. The *injected* counts of a summary
//! are counted here, where the fault happens; the *reported* counts come from the registry's reports and
//! the outcomes of tasks. The two must be equal for every kind.
//!
//! The selection depends only on the seed and on how many connections were served before. A connection
//! without any input gets no fault.
//!
//! | fault | effect | observed by the client | reported as |
//! |---|---|---|---|
//! | panic | the task panics | the end | its outcome |
//! | leak | the handle is forgotten | the end | `leak` |
//! | foreign-write | a thread that does not own the connection writes to it | nothing: it continues | `not-owner` |
//! | cycle | two shared values hold each other, and the handle; or a handler's own cycle is left in place | the end; with its own cycle all of its echo before | `leak`, with the cycle |
//! | double-release | it is released twice | the end | `double-release` |
//! | fd-replaced | another file replaces the descriptor | the end | `fd-replaced` |
//! | finalizer-panic | the finalizer closes it, and panics | the end | `finalizer-panicked` |
//!
//! # Limits
//!
//! A connection that is cancelled between a leak and its task's end (at a drain deadline) is finalized
//! like any cancelled one, without a report. The values of a cycle stay in memory, because a cycle is
//! never freed; its descriptor does not stay open.

mod fault_actions;

use std::io;
use std::sync::Arc;

use super::{Begin, Handler, ServerContext, Signal, Turn, Turns, exchange};
use crate::faults::{Fault, FaultInjector};
use crate::net::{AdaptiveSpin, Address, Stream};

/// A handler that [`Chaos`] can wrap: the hooks through which it injects faults in the middle of a
/// connection.
pub(crate) trait ChaosTarget: Handler {
    /// Echoes the first input and returns, so that a fault can be injected into a connection that is in
    /// use; [`serve`](Handler::serve) continues from there. Returns false when the peer finishes before
    /// it sends anything that is echoed.
    ///
    /// # Errors
    /// See [`Handler::serve`].
    fn echo_first(&self, stream: &Stream) -> io::Result<bool> {
        exchange::echo_once(stream, &mut exchange::read_buffer()?, &mut AdaptiveSpin::default())
            .map(|echoed| echoed > 0)
    }

    /// Serves one connection as [`serve`](Handler::serve) does, but leaves in place the reference cycle
    /// that this handler otherwise breaks at the end, and with it the connection. Calls `count` once the
    /// leak is certain. A handler without a cycle returns the stream.
    ///
    /// # Errors
    /// The stream: this handler has no reference cycle of its own.
    fn serve_leaking_cycle(
        &self,
        stream: Stream,
        count: &dyn Fn(),
    ) -> Result<io::Result<()>, Stream> {
        let _ = count;
        Err(stream)
    }
}

/// Injects the connection faults of a [`FaultInjector`] into connections that a handler serves.
#[derive(Clone)]
pub(crate) struct Chaos {
    inner: Arc<dyn ChaosTarget>,
    injector: Arc<FaultInjector>,
}

impl Chaos {
    /// Wraps `inner`.
    #[must_use]
    pub(crate) fn new(inner: Arc<dyn ChaosTarget>, injector: FaultInjector) -> Chaos {
        Chaos { inner, injector: Arc::new(injector) }
    }
}

impl Handler for Chaos {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn memory(&self) -> u64 {
        self.inner.memory()
    }

    fn pooled_memory(&self) -> u64 {
        self.inner.pooled_memory()
    }

    fn tasks_per_connection(&self) -> usize {
        self.inner.tasks_per_connection()
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        self.inner.open(context)
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        match self.injector.draw_connection() {
            Some(fault) => self.serve_with(fault, stream),
            None => self.inner.serve(stream),
        }
    }

    fn turns(&self) -> Option<&dyn Turns> {
        self.inner.turns().map(|_| self as &dyn Turns)
    }

    /// Without faults: those are for clients.
    fn serve_probe(&self, stream: Stream) -> io::Result<()> {
        self.inner.serve_probe(stream)
    }

    fn probe_message(&self) -> Vec<u8> {
        self.inner.probe_message()
    }

    fn connection_refused(&self, peer: &Address) {
        self.inner.connection_refused(peer);
    }

    fn signal_received(&self, signal: Signal) {
        self.inner.signal_received(signal);
    }

    fn close(&self) {
        self.inner.close();
    }

    fn injector(&self) -> Option<&FaultInjector> {
        Some(&self.injector)
    }
}

/// A connection that gets a fault has a task of its own, for the fault to happen in.
impl Turns for Chaos {
    fn begin(&self) -> Begin {
        match self.injector.draw_connection() {
            Some(fault) => {
                let chaos = self.clone();
                Begin::InTask(Box::new(move |stream| chaos.serve_with(fault, stream)))
            }
            None => Begin::InTurns,
        }
    }

    fn turn(&self, stream: &Stream, buffer: &mut [u8]) -> io::Result<Turn> {
        match self.inner.turns() {
            Some(turns) => turns.turn(stream, buffer),
            None => unreachable!("asked for turns of a handler that has none"),
        }
    }
}

impl Chaos {
    /// Serves a connection and injects this fault after its first echo.
    fn serve_with(&self, fault: Fault, stream: Stream) -> io::Result<()> {
        if !self.inner.echo_first(&stream)? {
            return self.inner.serve(stream);
        }
        let count = || self.injector.count(fault);
        let stream = match fault {
            Fault::Cycle => match self.inner.serve_leaking_cycle(stream, &count) {
                Ok(result) => return result,
                // It has no cycle of its own: create one.
                Err(stream) => stream,
            },
            _ => stream,
        };
        match fault_actions::inject(fault, stream, &count)? {
            Some(usable) => self.inner.serve(usable),
            None => Ok(()),
        }
    }
}
