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
pub use chaos::{Chaos, Fault, Faults, Plan, PlanError};
pub use end::EndReason;
pub use plain::Plain;
pub use staged::{REQUEST_BYTES_MAX_DEFAULT, REQUEST_TIMEOUT_DEFAULT, Staged};

/// A way of serving connections.
///
/// [`open`](Style::open) comes first and [`close`](Style::close) last, each once and in the server's
/// main task; everything between in the task of the acceptor or of the connection that it is about,
/// several at a time.
pub trait Style: Send + Sync {
    /// The name of its tasks in reports: `echo`.
    fn name(&self) -> &'static str;

    /// How many tasks a connection needs, the one that [`serve`](Style::serve) runs in among them.
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
    fn open(&self, house: &House) -> io::Result<()> {
        let _ = house;
        Ok(())
    }

    /// Serves one connection to its end, in the task that owns it. The stream has the server's
    /// timeouts.
    ///
    /// # Errors
    /// What ended the connection before its time: the peer's reset, a timeout, the registry's
    /// refusal. It ends this connection and no other.
    fn serve(&self, stream: Stream) -> io::Result<()>;

    /// Answers what comes first and no more, so that something can be done to a connection that has
    /// begun; [`serve`](Style::serve) goes on from there. False when the peer has finished without
    /// having sent anything that is answered.
    ///
    /// # Errors
    /// As [`serve`](Style::serve).
    fn answer_first(&self, stream: &Stream) -> io::Result<bool> {
        plain::answer(stream, &mut plain::buffer()?, &mut crate::net::Eagerness::default())
            .map(|answered| answered > 0)
    }

    /// Serves one connection as [`serve`](Style::serve) does, but for one thing: where this way of
    /// echoing ties a cycle of references that it cuts in the end, the cycle stays, and with it the
    /// connection. `count` is called when that is certain. A style that ties none gives the stream
    /// back.
    ///
    /// # Errors
    /// The stream: this way of echoing has no cycle of its own.
    fn serve_in_a_cycle(&self, stream: Stream, count: &dyn Fn()) -> Result<io::Result<()>, Stream> {
        let _ = count;
        Err(stream)
    }

    /// Somebody was turned away for want of room.
    fn refused(&self, peer: &Address) {
        let _ = peer;
    }

    /// A signal has come that begins the drain.
    fn signalled(&self, signal: Signal) {
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

/// The memory that connections take in a [`Style`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that each takes for itself, at the most.
    pub own: u64,
    /// Bytes that each adds to what all of them share; the style keeps to [`House::memory`] in all.
    pub pooled: u64,
}

/// How a style reaches the server.
pub type SharedStyle = Arc<dyn Style>;

/// What a style gets from the server that it works in.
#[derive(Debug)]
#[non_exhaustive]
pub struct House {
    /// Who owns what.
    pub registry: Registry,
    /// Runs the connections' tasks. Its limit counts a style's own tasks: see
    /// [`tasks_per_connection`](Style::tasks_per_connection).
    pub pool: Pool,
    /// What is listened on, numeric, as in `127.0.0.1:3000`.
    pub addresses: Vec<String>,
    /// How many connections there can be at a time.
    pub max_connections: usize,
    /// Bytes for what the style shares among its connections, where something limits them: see
    /// [`Memory::pooled`].
    pub memory: Option<u64>,
}

impl House {
    /// A server's own.
    #[must_use]
    pub fn new(pool: &Pool, addresses: Vec<String>, max_connections: usize) -> House {
        House {
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
