//! The staged echo: four types of state machines that hand a client from one to the next.
//!
//! A request is a line, echoed verbatim. LISTENER requests a WORKER for each client. The WORKER requests
//! an RX to read a request and a TX to write the reply. In the end LISTENER closes the connection. The
//! machine that has the client runs as a task and owns the descriptor, so that the custody of a
//! connection lists the steps of its requests.
//!
//! ```text
//! connection's thread: staged PEER ─> LISTENER-1 ─> WORKER-n ─┬─> RX-n   each an inline child of the
//!                                                             └─> TX-n   task on its left
//! ```
//!
//! `tables.rs` defines LISTENER and WORKER, as data; `actions.rs` performs their actions; `client.rs` is
//! what they hand over. [`stage`](crate::stage) has RX and TX, and describes how machines run.
//!
//! # Limits
//!
//! The trace never delays the server. If it goes to an output that no process reads, lines that do not fit
//! into its queue are dropped and counted.
//!
//! All machines share one lock: this style demonstrates how ownership moves, and is not for speed. A
//! line that the end of the stream cuts short is not a request and gets no reply.
//!
//! # Sources
//!
//! The machines, the events and the trace are those of EDSM's echo server.

mod actions;
mod client;
mod tables;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ChaosTarget, EndReason, Handler, ServerContext, Signal};
use crate::net::{Address, LineBuffer, LineStatus, Stream};
use crate::stage::{Driver, Event, Machines, Sink};
use actions::ServerActions;
use client::{Client, RequestLimits};

/// How long a request may take, from when it can be sent until it is complete.
pub(crate) const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The maximum length of a request, including its newline.
pub(crate) const REQUEST_BYTES_MAX_DEFAULT: usize = 64 * 1024;

/// The handler of the staged style; see the module.
pub(crate) struct Staged {
    limits: RequestLimits,
    machines: Mutex<Machines<ServerActions>>,
    /// Signals that the machines have not got yet.
    signals: Mutex<VecDeque<Signal>>,
}

impl Staged {
    /// `request_timeout`: how long a request may take, from when it can be sent until it is complete.
    /// `request_bytes_max`: its maximum length, including its newline. `trace` gets every event before
    /// the reaction to it.
    pub(crate) fn new(
        request_timeout: Duration,
        request_bytes_max: usize,
        trace: Option<Sink>,
    ) -> Staged {
        let limits = RequestLimits { timeout: request_timeout, bytes_max: request_bytes_max };
        let machines = Mutex::new(Machines::new(ServerActions::new(limits), trace));
        Staged { limits, machines, signals: Mutex::default() }
    }

    fn machines(&self) -> MutexGuard<'_, Machines<ServerActions>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers the signals, unless another thread has the machines, which then does it afterwards: the
    /// thread that handles signals does not wait for clients.
    fn deliver_signals(&self) {
        while !self.waiting_signals().is_empty() {
            let Ok(mut machines) = self.machines.try_lock() else { return };
            let Some(signal) = self.waiting_signals().pop_front() else { return };
            if let Some(listener) = machines.actions.listener {
                machines.deliver_signal(listener, signal);
            }
        }
    }

    fn waiting_signals(&self) -> MutexGuard<'_, VecDeque<Signal>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one client by these machines. `after_unlock` is called when they are free again.
fn serve(
    machines: &Mutex<Machines<ServerActions>>,
    stream: Stream,
    after_unlock: &dyn Fn(),
) -> io::Result<()> {
    let registry = stream.resource().registry().clone();
    let client = Client::new(stream)?;
    let client = Driver::run(machines, &registry, client, after_unlock, |machines| {
        let listener = machines.actions.listener?;
        machines.scheduler.enqueue(listener, Event::D(0));
        Some(listener)
    });
    client.into_result()
}

impl Handler for Staged {
    fn name(&self) -> &'static str {
        "staged"
    }

    /// The longest request, in a vector that has doubled, with the chunk that is read at its end; and the
    /// machines and tasks of a connection.
    fn memory(&self) -> u64 {
        const MACHINES_BYTES: usize = 24 * 1024;
        let request = self.limits.bytes_max.saturating_add(crate::net::LINE_CHUNK_BYTES);
        request.saturating_mul(2).saturating_add(MACHINES_BYTES) as u64
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        actions::open(&mut self.machines(), &context.addresses, context.max_connections);
        Ok(())
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        serve(&self.machines, stream, &|| self.deliver_signals())
    }

    /// Has a set of machines of its own, so that it occupies none that a client may need and leaves no trace.
    /// Like every client, it first waits for the machines of all, which is where this style can hang.
    fn serve_probe(&self, stream: Stream) -> io::Result<()> {
        drop(self.machines());
        let mut machines = Machines::new(ServerActions::new(self.limits), None);
        actions::open(&mut machines, &[], 1);
        serve(&Mutex::new(machines), stream, &|| ())
    }

    fn connection_refused(&self, _: &Address) {
        let mut machines = self.machines();
        if let Some(listener) = machines.actions.listener {
            machines.deliver(listener, Event::D(0));
        }
        drop(machines);
        self.deliver_signals();
    }

    fn signal_received(&self, signal: Signal) {
        self.waiting_signals().push_back(signal);
        self.deliver_signals();
    }

    fn close(&self) {
        self.deliver_signals();
        let mut machines = self.machines();
        if let Some(listener) = machines.actions.listener.take() {
            machines.leave(listener);
        }
    }
}

impl ChaosTarget for Staged {
    fn echo_first(&self, mut stream: &Stream) -> io::Result<bool> {
        let timeout = stream.read_timeout()?;
        let mut request = LineBuffer::new();
        loop {
            if !stream.wait_readable(timeout)? {
                return Err(EndReason::IdleTimeout.into_error());
            }
            match request.receive(stream, self.limits.bytes_max)? {
                LineStatus::Partial => {}
                LineStatus::Complete => break,
                LineStatus::Ended | LineStatus::TooLong => return Ok(false),
            }
        }
        stream.write_all(request.bytes())?;
        Ok(true)
    }
}
