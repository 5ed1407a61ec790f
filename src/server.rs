//! The server: one task per connection, which is given the accepted socket.
//!
//! ```text
//! main ── acceptor (owns its listener) ── connection (owns its socket)
//!    \─ holds the writing end of a pipe     └ an orphan: reaped when it ends
//!       whose reading end the acceptor owns
//! ```
//!
//! Main holds one end of a pipe for each acceptor. Releasing it is the order to drain: the acceptor
//! sees the hang-up, accepts what is queued, closes its listener, and lets its connections finish
//! (see `drain`).

mod accept;
mod drain;
mod gate;
#[cfg(feature = "cli")]
pub mod signals;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::net::{self, Listener, PipeWriter};
use crate::ownership::{Failure, Promise, Registry};
use crate::pool::{Pool, SpawnError};
use gate::{Gate, Tally};

/// Connections that wait to be accepted, as asked of the kernel, whose own limit
/// (`net.core.somaxconn`) may be lower. Enough for a burst while one connection is set up.
pub const BACKLOG_DEFAULT: u32 = 1024;

/// How a server behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Connections served at a time, over all addresses. One more is accepted, closed at once and
    /// counted: its client learns that it is refused, and does not hang in the backlog.
    pub max_connections: usize,
    /// How long connections may go on after the order to drain, before they are cancelled.
    pub drain_timeout: Duration,
    /// Connections that the kernel queues before they are accepted.
    pub backlog: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_connections: 1024,
            drain_timeout: Duration::from_secs(10),
            backlog: BACKLOG_DEFAULT,
        }
    }
}

/// A server whose sockets are open and which does not accept yet.
pub struct Server {
    registry: Registry,
    settings: Settings,
    pool: Pool,
    listeners: Vec<(Listener, String)>,
    stops: Vec<(PipeWriter, net::PipeReader)>,
}

impl Server {
    /// Opens everything the server needs: a listener for each address, and what stops it.
    ///
    /// # Errors
    /// An address that cannot be had, with its name. What had been opened before is closed.
    #[track_caller]
    pub fn bind(
        registry: &Registry,
        addresses: &[String],
        settings: Settings,
    ) -> Result<Server, BindError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        let mut stops = Vec::with_capacity(addresses.len());
        for address in addresses {
            let failed = |error| BindError { address: address.clone(), error };
            let listener = Listener::options()
                .registry(registry)
                .backlog(settings.backlog)
                .bind(address.as_str())
                .map_err(failed)?;
            let name = listener.local_addr().map_err(failed)?.to_string();
            let (reader, writer) = net::pipe_in(registry).map_err(failed)?;
            listeners.push((listener, name));
            stops.push((writer, reader));
        }
        let pool = Pool::builder()
            .registry(registry)
            .limit(settings.max_connections + addresses.len())
            .build();
        Ok(Server { registry: registry.clone(), settings, pool, listeners, stops })
    }

    /// The addresses that the server listens on, numeric, in the order they were asked for.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|(_, name)| name.as_str())
    }

    /// How many connections the machine can carry at a time: one thread each.
    #[must_use]
    pub fn thread_limit(&self) -> usize {
        self.pool.limit()
    }

    /// What the machine carries, in words.
    #[must_use]
    pub fn ceiling(&self) -> String {
        self.pool.ceiling()
    }

    /// Serves until `stop` returns, then drains, and answers what it has done.
    ///
    /// # Errors
    /// An acceptor could not be started. The others have been drained.
    pub fn serve(self, stop: impl FnOnce()) -> Result<Summary, ServeError> {
        let gate = Arc::new(Gate::new(self.settings.max_connections));
        let mut acceptors: Vec<Promise<()>> = Vec::new();
        let mut writers = Vec::new();
        let mut failed = None;
        for ((listener, name), (writer, reader)) in self.listeners.into_iter().zip(self.stops) {
            let give = [listener.resource(), reader.resource()];
            let acceptor = accept::Acceptor {
                listener,
                stop: reader,
                pool: self.pool.clone(),
                gate: Arc::clone(&gate),
                drain_timeout: self.settings.drain_timeout,
            };
            match self.pool.spawn_named(&format!("accept {name}"), give, move || acceptor.run()) {
                Ok(promise) => {
                    acceptors.push(promise);
                    writers.push(writer);
                }
                Err(error) => {
                    failed = Some(ServeError::from(error));
                    break;
                }
            }
        }
        if failed.is_none() {
            stop();
        }
        // The order to drain. Releasing what is ours cannot be refused.
        drop(writers);
        for acceptor in acceptors {
            let name = acceptor.task();
            match acceptor.join() {
                Ok(()) => {}
                // Its report was delivered when it ended.
                Err(Failure::Leaked((), _)) => {}
                Err(failure) => tracing::error!(task = %name, "{failure}"),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Summary::new(&gate.tally, &self.registry)),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

/// An address that could not be had.
#[derive(Debug)]
pub struct BindError {
    address: String,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { address, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: another program has it; \
                 stop that one or choose another address with --listen"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: not permitted; \
                 ports below 1024 need privileges, choose another with --listen"
            ),
            _ => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A server that could not start to accept.
#[derive(Debug)]
pub struct ServeError(String);

impl<F> From<SpawnError<F>> for ServeError {
    fn from(error: SpawnError<F>) -> ServeError {
        ServeError(error.to_string())
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start to accept: {}", self.0)
    }
}

impl std::error::Error for ServeError {}

/// What a server has done.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Summary {
    /// Connections served.
    pub connections: u64,
    /// Connections closed at once: over the limit, or without a thread or descriptor.
    pub refused: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Connections that ended by an error of theirs: a reset, a timeout.
    pub errors: u64,
    /// Connections cancelled at the drain's deadline.
    pub cancelled: u64,
    /// Connections whose task panicked.
    pub panics: u64,
    /// Resources leaked by tasks.
    pub leaks: u64,
    /// Rules broken.
    pub violations: u64,
    /// Numbers closed or replaced behind the registry's back.
    pub thefts: u64,
}

impl Summary {
    fn new(tally: &Tally, registry: &Registry) -> Summary {
        let verdict = registry.verdict();
        // ord: Relaxed; every task that counted has been joined.
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Summary {
            connections: count(&tally.connections),
            refused: count(&tally.refused),
            bytes_in: count(&tally.bytes_in),
            bytes_out: count(&tally.bytes_out),
            errors: count(&tally.errors),
            cancelled: count(&tally.cancelled),
            panics: count(&tally.panics),
            leaks: verdict.leaks,
            violations: verdict.violations,
            thefts: verdict.thefts,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} refused, {} bytes in, {} bytes out, {} errors, {} cancelled, \
             {} panics, {} leaks, {} violations, {} thefts",
            self.connections,
            self.refused,
            self.bytes_in,
            self.bytes_out,
            self.errors,
            self.cancelled,
            self.panics,
            self.leaks,
            self.violations,
            self.thefts
        )
    }
}
