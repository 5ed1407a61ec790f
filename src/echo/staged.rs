//! The staged echo: four kinds of state machines that hand a client from one to the next.
//!
//! A request is a line, echoed verbatim. LISTENER takes a WORKER for a client, the WORKER takes an RX
//! to have a request read and a TX to have it written, and in the end LISTENER closes the connection.
//! Each machine is a task without a thread ([`Actor`](crate::ownership::Actor)), and the descriptor
//! belongs to whichever machine the client is with: the custody of a connection is the story of its
//! requests.
//!
//! ```text
//! connection's thread:  deliver D0 ─> reactions, one queue in order, under one lock ─┐
//!                            ^                                                       │
//!                            └── wait in the name of the machine that has to wait <──┘
//! ```
//!
//! `tables.rs` says what each machine does on what, as data; `troupe.rs` does it; `client.rs` is what
//! they hand on.
//!
//! # Limits
//!
//! A trace that is written to a pipe that nobody reads holds everything up: nothing is dropped. The
//! server can be stopped all the same.
//!
//! One lock for all machines: this way of echoing shows how things hang together, and is not for
//! speed. A line that the end of the stream cuts short is not a request, and is not answered.
//!
//! # Sources
//!
//! EDSM's echo server, of which it has the machines, the messages and the trace.

mod client;
mod tables;
mod troupe;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ChaosTarget, EndReason, Handler, Memory, ServerContext, Signal};
use crate::net::{Address, LineBuffer, LineStatus, Stream};
use crate::stage::{Lent, Sink, Tag};
use client::Client;
use troupe::Play;

/// How long a request may take from when it can be sent until all of it is there.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How long a request may be, its newline included.
pub const REQUEST_BYTES_MAX_DEFAULT: usize = 64 * 1024;

/// Machines that hand a client on, as the module says.
pub struct Staged {
    request_timeout: Duration,
    request_bytes_max: usize,
    /// Until it opens.
    sink: Mutex<Option<Sink>>,
    /// While it is open.
    play: Mutex<Option<Play>>,
    /// Signals that are still to be told to the machines.
    signals: Mutex<VecDeque<Signal>>,
    clients: AtomicU64,
}

impl Staged {
    /// With the default limits, and without a trace.
    #[must_use]
    pub fn new() -> Staged {
        Staged {
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            request_bytes_max: REQUEST_BYTES_MAX_DEFAULT,
            sink: Mutex::default(),
            play: Mutex::default(),
            signals: Mutex::default(),
            clients: AtomicU64::new(0),
        }
    }

    /// How long a request may take, from when it can be sent until all of it is there.
    #[must_use]
    pub fn request_timeout(mut self, patience: Duration) -> Staged {
        self.request_timeout = patience;
        self
    }

    /// How long a request may be, its newline included.
    #[must_use]
    pub fn request_bytes_max(mut self, bytes: usize) -> Staged {
        self.request_bytes_max = bytes;
        self
    }

    /// Where every message is told, before the reaction to it.
    #[must_use]
    pub fn trace(mut self, sink: Sink) -> Staged {
        self.sink = Mutex::new(Some(sink));
        self
    }

    fn play(&self) -> MutexGuard<'_, Option<Play>> {
        self.play.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the machines do something; nothing before they are there and after they are gone.
    fn with<R: Default>(&self, act: impl FnOnce(&mut Play) -> R) -> R {
        let answer = self.play().as_mut().map(act).unwrap_or_default();
        self.deliver_signals();
        answer
    }

    /// Tells the machines of signals, unless somebody is busy with them, who does it afterwards: a
    /// trace that nobody reads holds up the machines, and must not hold up those who hear signals.
    fn deliver_signals(&self) {
        while !self.waiting_signals().is_empty() {
            let Ok(mut play) = self.play.try_lock() else { return };
            let Some(signal) = self.waiting_signals().pop_front() else { return };
            if let Some(play) = play.as_mut() {
                play.signal(signal);
            }
        }
    }

    fn waiting_signals(&self) -> MutexGuard<'_, VecDeque<Signal>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Staged {
    fn default() -> Staged {
        Staged::new()
    }
}

impl Handler for Staged {
    fn name(&self) -> &'static str {
        "staged"
    }

    /// A request at its longest in a vector that has doubled, with the chunk that is read at its end;
    /// and the three machines that a connection has.
    fn memory(&self) -> Memory {
        const MACHINES_BYTES: usize = 24 * 1024;
        let request = self.request_bytes_max.saturating_add(crate::net::LINE_CHUNK_BYTES);
        let own = request.saturating_mul(2).saturating_add(MACHINES_BYTES);
        Memory { own: own as u64, pooled: 0 }
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
        let play = Play::open(context, sink, self.request_timeout, self.request_bytes_max)?;
        *self.play() = Some(play);
        Ok(())
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        // ord: Relaxed; only uniqueness matters, and that is the increment's own.
        let id = self.clients.fetch_add(1, Ordering::Relaxed);
        let client = Client::new(id, stream)?;
        self.with(|play| play.arrive(client));
        while let Some(lent) = self.with(|play| play.lend(id)) {
            let mut waiting = Waiting { style: self, lent: Some(lent), tag: Tag::D(2) };
            if let Some(lent) = &mut waiting.lent {
                waiting.tag = lent.wait(Client::wait).unwrap_or(Tag::D(2));
            }
        }
        self.play().as_mut().map_or(Ok(()), |play| play.outcome(id))
    }

    fn connection_refused(&self, _: &Address) {
        self.with(Play::turn_away);
    }

    fn signal_received(&self, signal: Signal) {
        self.waiting_signals().push_back(signal);
        self.deliver_signals();
    }

    fn close(&self) {
        self.deliver_signals();
        // Taken out in a statement of its own: the machines end without the lock.
        let play = self.play().take();
        if let Some(play) = play {
            play.close();
        }
    }
}

impl ChaosTarget for Staged {
    fn echo_first(&self, mut stream: &Stream) -> io::Result<bool> {
        let patience = stream.read_timeout()?;
        let mut request = LineBuffer::new();
        loop {
            if !stream.wait_readable(patience)? {
                return Err(EndReason::IdleTimeout.into_error());
            }
            match request.receive(stream, self.request_bytes_max)? {
                LineStatus::Partial => {}
                LineStatus::Complete => break,
                LineStatus::Ended | LineStatus::TooLong => return Ok(false),
            }
        }
        stream.write_all(request.bytes())?;
        Ok(true)
    }
}

/// A machine that a thread waits for. It comes back whatever becomes of the thread.
struct Waiting<'a> {
    style: &'a Staged,
    lent: Option<Lent<Client>>,
    tag: Tag,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        self.style.with(|play| {
            let client = lent.load();
            play.come_back(lent, self.tag);
            if std::thread::panicking() {
                // Nobody asks any more.
                drop(play.outcome(client));
            }
        });
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged")
            .field("request_timeout", &self.request_timeout)
            .field("request_bytes_max", &self.request_bytes_max)
            .finish_non_exhaustive()
    }
}
