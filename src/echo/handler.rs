//! The interface of a connection handler, and what the server tells it.

use std::io;
use std::sync::Arc;

use super::turns::Turns;
use crate::faults::FaultInjector;
use crate::net::{Address, Stream};
use crate::ownership::Registry;
use crate::pool::Pool;
use crate::stage::Signal;

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

    /// The maximum number of bytes that one connection takes and does not share, without its threads
    /// and the kernel's part. The default is the figure of the plain echo: a connection's buffer at its
    /// largest, and the smaller one that it replaces.
    fn memory(&self) -> u64 {
        80 * 1024
    }

    /// The bytes that each connection adds to the pool of memory that all connections share. The
    /// handler respects [`ServerContext::memory`] in total. Default: 0.
    fn pooled_memory(&self) -> u64 {
        0
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

    /// Serves a connection of the server to itself, which shows a watchdog that clients would be served, and
    /// of which no client and no count may notice anything. Default: [`serve`](Handler::serve).
    ///
    /// # Errors
    /// See [`serve`](Handler::serve).
    fn serve_probe(&self, stream: Stream) -> io::Result<()> {
        self.serve(stream)
    }

    /// What the server sends on such a connection, and must get back before the end of the stream. Default:
    /// a line.
    fn probe_message(&self) -> Vec<u8> {
        b"echown watchdog\n".to_vec()
    }

    /// The handler's way to serve connections in turns, so that those that wait can be parked. Default:
    /// none, because what a connection needs between two reads is on the stack of its thread.
    fn turns(&self) -> Option<&dyn Turns> {
        None
    }

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

    /// What injects faults into its connections on purpose (`--chaos`). Default: nothing.
    fn injector(&self) -> Option<&FaultInjector> {
        None
    }
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
    /// [`pooled_memory`](Handler::pooled_memory).
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
