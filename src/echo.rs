//! What is done with a connection. One room per way of echoing; the loop that accepts, the limits
//! and the drain are the server's, and the same for all.

pub mod broadcast;
pub mod callback;
mod chaos;
mod end;
mod plain;
mod staged;

use std::io;
use std::sync::Arc;

use crate::net::{Address, Stream};
use crate::ownership::{Error, Registry};
use crate::pool::Pool;

pub use broadcast::Broadcast;
pub use callback::Callback;
pub use chaos::{Chaos, ChaosTarget, Fault, Faults, Plan, PlanError};
pub use end::EndReason;
pub use plain::Plain;
pub use staged::{REQUEST_BYTES_MAX_DEFAULT, REQUEST_TIMEOUT_DEFAULT, Staged};

/// A way of serving connections.
///
/// [`open`](Handler::open) comes first and [`close`](Handler::close) last, each once and in the server's
/// main task; everything between in the task of the acceptor or of the connection that it is about,
/// several at a time.
pub trait Handler: Send + Sync {
    /// The name of its tasks in reports: `echo`.
    fn name(&self) -> &'static str;

    /// How many tasks a connection needs, the one that [`serve`](Handler::serve) runs in among them.
    fn tasks_per_connection(&self) -> usize {
        1
    }

    /// The memory that a connection takes at the most, its threads and the kernel's part not counted.
    /// Unless said otherwise, as much as the plain echo.
    fn memory(&self) -> Memory {
        plain::MEMORY
    }

    /// Makes ready what all connections share. Nothing is accepted yet.
    ///
    /// # Errors
    /// The server cannot start: why.
    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let _ = context;
        Ok(())
    }

    /// Serves one connection to its end, in the task that owns it. The stream has the server's
    /// timeouts.
    ///
    /// # Errors
    /// What ended the connection before its time: the peer's reset, a timeout, the registry's
    /// refusal. It ends this connection and no other.
    fn serve(&self, stream: Stream) -> io::Result<()>;

    /// Somebody was turned away for want of room.
    fn connection_refused(&self, peer: &Address) {
        let _ = peer;
    }

    /// A signal has come that begins the drain.
    fn signal_received(&self, signal: Signal) {
        let _ = signal;
    }

    /// Gives back what all connections shared: the last one has ended.
    fn close(&self) {}

    /// The faults that were committed on purpose so far; see [`Chaos`].
    fn injected(&self) -> Faults {
        Faults::default()
    }
}

/// A buffer of so many bytes, all zero.
///
/// # Errors
/// There is no memory for it: this ends a connection and not the process.
fn buffer(bytes: usize) -> io::Result<Vec<u8>> {
    crate::sys::memory::zeroed(bytes).ok_or_else(|| no_memory(bytes))
}

fn no_memory(bytes: usize) -> io::Error {
    let text = format!("there is no memory for {bytes} bytes");
    io::Error::new(io::ErrorKind::OutOfMemory, text)
}

/// Has a connection reset when it is closed, because it ends by this error with bytes owed: the end
/// means that there are none.
fn reset_by(stream: &Stream, error: io::Error) -> io::Error {
    // Who is refused has nothing to say about this connection; one that is gone needs nothing more.
    if Error::in_io(&error).is_none() {
        let _ = stream.reset_on_close();
    }
    error
}

/// The memory that connections take in a [`Handler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that each takes for itself, at the most.
    pub own: u64,
    /// Bytes that each adds to what all of them share; the handler keeps to [`ServerContext::memory`] in all.
    pub pooled: u64,
}

/// How a handler reaches the server.
pub type SharedHandler = Arc<dyn Handler>;

/// What a handler gets from the server that it works in.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerContext {
    /// Who owns what.
    pub registry: Registry,
    /// Runs the connections' tasks. Its limit counts a handler's own tasks: see
    /// [`tasks_per_connection`](Handler::tasks_per_connection).
    pub pool: Pool,
    /// What is listened on, numeric, as in `127.0.0.1:3000`.
    pub addresses: Vec<String>,
    /// How many connections there can be at a time.
    pub max_connections: usize,
    /// Bytes for what the handler shares among its connections, where something limits them: see
    /// [`Memory::pooled`].
    pub memory: Option<u64>,
}

impl ServerContext {
    /// A server's own.
    #[must_use]
    pub fn new(pool: &Pool, addresses: Vec<String>, max_connections: usize) -> ServerContext {
        ServerContext {
            registry: pool.registry().clone(),
            pool: pool.clone(),
            addresses,
            max_connections,
            memory: None,
        }
    }
}

/// A signal that was received.
pub use crate::stage::Signal;
