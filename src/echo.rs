//! Connection handlers: how a server serves a connection. One module per protocol; the accept loop,
//! the limits and the drain belong to the server and are the same for all.

// The program's styles: only its options construct them.
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
pub(crate) mod broadcast;
pub mod callback;
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
mod chaos;
mod end;
mod exchange;
mod plain;
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
mod staged;

use std::io;
use std::sync::Arc;

use crate::net::{Address, Stream};
use crate::ownership::{Error, Registry};
use crate::pool::Pool;

pub use chaos::FaultCounts;
pub(crate) use chaos::{ChaosTarget, Fault};
pub use end::EndReason;
pub use plain::Plain;
#[cfg(feature = "cli")]
pub(crate) use {
    broadcast::Broadcast,
    callback::Callback,
    chaos::{Chaos, ChaosRates},
    staged::{REQUEST_BYTES_MAX_DEFAULT, REQUEST_TIMEOUT_DEFAULT, Staged},
};

/// A connection handler.
///
/// The server calls [`open`](Handler::open) first and [`close`](Handler::close) last, each once and in its
/// main task. It calls the other methods in the task of the acceptor or of the connection concerned,
/// several at a time.
///
/// # Examples
/// ```
/// use std::io::{self, Write};
///
/// use echown::echo::Handler;
/// use echown::net::Stream;
///
/// /// Sends a greeting instead of an echo.
/// struct Greeter;
///
/// impl Handler for Greeter {
///     fn name(&self) -> &'static str {
///         "greeter"
///     }
///
///     fn serve(&self, mut stream: Stream) -> io::Result<()> {
///         stream.write_all(b"hello\n")?;
///         Ok(stream.close()?)
///     }
/// }
///
/// let (ours, theirs) = Stream::pair()?;
/// Greeter.serve(theirs)?;
/// assert_eq!(io::read_to_string(ours)?, "hello\n");
/// # Ok::<(), io::Error>(())
/// ```
pub trait Handler: Send + Sync {
    /// The name of its tasks in reports, such as `echo`.
    fn name(&self) -> &'static str;

    /// The number of tasks per connection, including the one that runs [`serve`](Handler::serve).
    fn tasks_per_connection(&self) -> usize {
        1
    }

    /// The maximum memory of a connection, without its threads and the kernel's part. The default
    /// is the figure of the plain echo.
    fn memory(&self) -> Memory {
        plain::MEMORY
    }

    /// Prepares the state that all connections share. Nothing is accepted yet.
    ///
    /// # Errors
    /// The server cannot start.
    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let _ = context;
        Ok(())
    }

    /// Serves one connection to its end, in the task that owns it. The stream has the server's
    /// timeouts.
    ///
    /// # Errors
    /// The connection ended early: the peer's reset, a timeout, a rejection by the registry. The
    /// error ends only this connection.
    fn serve(&self, stream: Stream) -> io::Result<()>;

    /// Called when a connection is rejected because a limit is reached.
    fn connection_refused(&self, peer: &Address) {
        let _ = peer;
    }

    /// Called when a signal starts the drain.
    fn signal_received(&self, signal: Signal) {
        let _ = signal;
    }

    /// Releases the shared state; the last connection has ended.
    fn close(&self) {}

    /// The faults that the handler injected on purpose (`--chaos`). Default: none.
    fn injected(&self) -> FaultCounts {
        FaultCounts::default()
    }
}

/// A zeroed buffer of this many bytes.
///
/// # Errors
/// The allocation failed. This ends a connection and not the process.
fn buffer(bytes: usize) -> io::Result<Vec<u8>> {
    crate::sys::zeroed::zeroed(bytes).ok_or_else(|| no_memory(bytes))
}

fn no_memory(bytes: usize) -> io::Error {
    let text = format!("failed to allocate {bytes} bytes");
    io::Error::new(io::ErrorKind::OutOfMemory, text)
}

/// Makes the close reset the connection, because it ends with this error before everything is sent: an
/// ordinary end would mean that nothing is missing.
fn reset_by(stream: &Stream, error: io::Error) -> io::Error {
    // A registry error concerns the task and not the connection; a closed connection needs no reset.
    if Error::in_io(&error).is_none() {
        let _ = stream.reset_on_close();
    }
    error
}

/// The memory that connections take in a [`Handler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The maximum number of bytes of one connection, unshared.
    pub own: u64,
    /// Bytes that each connection adds to the shared pool; the handler respects
    /// [`ServerContext::memory`] in total.
    pub pooled: u64,
}

/// A shared handler.
pub(crate) type SharedHandler = Arc<dyn Handler>;

/// The server's registry, pool, addresses and limits, for its handler.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerContext {
    /// The registry of the server's resources.
    pub registry: Registry,
    /// Runs the connections' tasks. Its limit includes a handler's own tasks: see
    /// [`tasks_per_connection`](Handler::tasks_per_connection).
    pub pool: Pool,
    /// The bound addresses, numeric, as in `127.0.0.1:3000`.
    pub addresses: Vec<String>,
    /// The maximum number of concurrent connections.
    pub max_connections: usize,
    /// Bytes for buffers that the handler shares among its connections, if memory is limited: see
    /// [`Memory::pooled`].
    pub memory: Option<u64>,
}

impl ServerContext {
    /// The context of a server that uses this pool.
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

/// A received signal.
pub use crate::stage::Signal;
