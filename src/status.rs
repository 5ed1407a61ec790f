//! The status server: what the program owns and what happens, over HTTP/1.1, for browsers and `curl`.
//!
//! ```text
//! main ── status acceptor (owns its listener) ── status client (owns its socket)
//!    \─ owns the write end of a pipe           └ at most 8, each on its own thread
//!       whose read end the acceptor owns
//! ```
//!
//! It is part of the program that it shows: its sockets are owned in the same registry, by tasks whose
//! names begin with `status`. It has threads and descriptors of its own ([`THREADS`], [`DESCRIPTORS`]), which the limit
//! of connections does not count, so a full server can still be looked at.
//!
//! | file | what |
//! |---|---|
//! | `access.rs` | the resources, and who may read them: addresses, host names, methods |
//! | `acceptor.rs` | the accept loop and the limit of clients |
//! | `client.rs` | one client: request, response, end |
//! | `request.rs`, `response.rs` | the two heads |
//! | `send.rs` | sending in bounded time |
//! | `source.rs`, `recording.rs` | what is shown: a running program or a recording |
//! | `events.rs` | how it is sent |
//! | `metrics.rs` | the two formats of `/metrics` |
//! | `page.rs` | the page that shows it |
//!
//! The failure story: a viewer must not change what it looks at. A viewer that does not read is cut off
//! after 5 s, one that sends nothing after 5 s, the ninth gets an error, and at exit all of them together
//! get [`STOP_TIME`]. The program's own tasks wait for none of them.
//!
//! # Limits
//!
//! - No TLS, no passwords, no HTTP/2; one request per connection. Other machines get only what is public
//!   (`access.rs`); for anything else there are tunnels and reverse proxies.
//! - What the registry finds after the last task has ended is in reports and recordings only.
//! - A snapshot is taken for each request, which costs time in proportion to the open descriptors.

mod acceptor;
mod access;
mod client;
mod events;
mod metrics;
mod page;
mod recording;
mod request;
mod response;
mod send;
mod source;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::bind::{self, Bound, Listening, Planned, Purpose, SocketFile};
use crate::net::{self, Address, Listener, PipeReader, PipeWriter};
use crate::ownership::{Promise, Registry, TaskError};
use crate::pool::Pool;
use acceptor::Acceptor;
pub(crate) use access::HostName;
use access::{Hosts, Reach, Resource};
pub(crate) use metrics::MetricsFormat;
pub(crate) use page::with_recording;
pub(crate) use recording::Recording;
pub(crate) use source::{Lines, Next, Source};

/// The maximum number of clients that are served at a time.
const CLIENTS_MAX: usize = 8;

/// The maximum number of further clients that are being rejected with a response. More are closed at
/// once.
const REJECTED_MAX: usize = 4;

/// When a rejected client may try again.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// How long all clients together may take to receive the rest when the server stops.
const STOP_TIME: Duration = Duration::from_millis(300);

/// The length of the kernel's queue of clients.
const BACKLOG: u32 = 16;

/// The size of the kernel's buffers of each client, which would otherwise grow to megabytes for a client
/// that does not read.
const BUFFER_BYTES: usize = 256 * 1024;

/// The descriptors that the server opens: listener, both ends of the stop pipe, the clients, and one
/// that is accepted to be closed.
pub(crate) const DESCRIPTORS: u64 = (3 + CLIENTS_MAX + REJECTED_MAX + 1) as u64;

/// The threads that the server starts: the acceptor and one per client.
pub(crate) const THREADS: usize = 1 + CLIENTS_MAX + REJECTED_MAX;

/// What the acceptor and the clients share.
struct Shared {
    source: Source,
    hosts: Hosts,
    /// The resources that are served here.
    served: Vec<Resource>,
    url: String,
    /// Set when the server stops.
    stop: OnceLock<()>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stop.get().is_some()
    }
}

/// A status server whose sockets are open and that does not accept yet.
pub(crate) struct StatusServer {
    pool: Pool,
    listener: Listener,
    file: Option<SocketFile>,
    listening: Listening,
    stop: (PipeReader, PipeWriter),
    shared: Arc<Shared>,
}

impl StatusServer {
    /// Listens on a planned address. `others` are further host names that requests may have, and `bound` the
    /// addresses that the program already listens on.
    ///
    /// # Errors
    /// Why not, and what to do.
    #[track_caller]
    pub(crate) fn bind(
        registry: &Registry,
        planned: Planned,
        others: &[HostName],
        bound: &[Bound<'_>],
        option: &str,
        source: Source,
    ) -> Result<StatusServer, String> {
        let _entered = registry.enter();
        let endpoint = &planned.endpoint.clone();
        let failed = |why| format!("failed to listen on {endpoint} ({option}): {why}");
        let (reach, served) =
            access::check_endpoint(endpoint, option, source.resources()).map_err(failed)?;
        // A response is written in large pieces, and its last one should not wait for the one before.
        let options = Listener::options().backlog(BACKLOG).nodelay(true);
        let (mut listeners, file) = bind::listen(planned, &options)
            .map_err(|error| failed(bind::cause(endpoint, &error, bound, option)))?;
        // One is enough: a status server has one socket for each address.
        let mut listener = listeners.swap_remove(0);
        listener.limit_buffers(BUFFER_BYTES).map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        // A host name may lead to another address than it did a moment ago.
        if let Address::Inet(bound) = &address
            && reach == Reach::Machine
            && !bound.ip().to_canonical().is_loopback()
        {
            return Err(failed(format!("{bound} is not an address of this machine only")));
        }
        let stop = net::pipe().map_err(|error| failed(error.to_string()))?;
        let listening = Listening {
            purpose: Purpose::Status,
            endpoint: endpoint.clone(),
            address: address.clone(),
            listeners: vec![listener.resource()],
            file: file.as_ref().map(SocketFile::keeper),
        };
        let url = match &address {
            Address::Inet(address) => format!("http://{address}/"),
            _ => address.to_string(),
        };
        let hosts = Hosts::new(endpoint, others);
        let shared = Arc::new(Shared { source, hosts, served, url, stop: OnceLock::new() });
        let pool = Pool::builder().registry(registry).limit(THREADS).keep_idle(1);
        let pool = pool.thread_name("status").build();
        Ok(StatusServer { pool, listener, file, listening, stop, shared })
    }

    /// Its address, for the cause why another part of the program cannot listen.
    pub(crate) fn bound(&self) -> Bound<'_> {
        Bound { name: &self.shared.url, file: self.file.as_ref(), option: "--status" }
    }

    /// Its address, as another process can take it over.
    pub(crate) fn listening(&self) -> Listening {
        self.listening.clone()
    }

    /// The Unix socket's file, which is removed at exit.
    pub(crate) fn socket_file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Starts to accept.
    ///
    /// # Errors
    /// No thread can be started.
    #[track_caller]
    pub(crate) fn start(self) -> Result<RunningStatus, String> {
        let (reader, writer) = self.stop;
        let shared = Arc::clone(&self.shared);
        if !shared.served.contains(&Resource::Page) {
            let paths: Vec<&str> = shared.served.iter().map(|resource| resource.path()).collect();
            tracing::info!(
                "other machines can connect to the status address, so it serves only {}",
                paths.join(" and ")
            );
        }
        let acceptor =
            Acceptor { listener: self.listener, stop: reader, pool: self.pool.clone(), shared };
        match self.pool.spawn_named_with("status acceptor", acceptor, Acceptor::run) {
            Ok(acceptor) => {
                Ok(RunningStatus { acceptor, stop: writer, file: self.file, shared: self.shared })
            }
            Err(error) => Err(format!("failed to serve the status: {error}")),
        }
    }
}

/// A status server that accepts.
#[must_use = "it serves until `stop`"]
pub(crate) struct RunningStatus {
    acceptor: Promise<()>,
    stop: PipeWriter,
    file: Option<SocketFile>,
    shared: Arc<Shared>,
}

impl RunningStatus {
    /// Where to look: a URL, or `unix:PATH`.
    pub(crate) fn url(&self) -> &str {
        &self.shared.url
    }

    /// Sends viewers the rest, for [`STOP_TIME`] at most, and closes everything.
    pub(crate) fn stop(self) {
        // It is set once.
        let _ = self.shared.stop.set(());
        drop(self.file);
        drop(self.stop);
        match self.acceptor.join() {
            Ok(()) => {}
            Err(TaskError::Refused(acceptor, error)) => {
                tracing::error!("the status acceptor was not joined: {error}");
                // Its task still runs; it cannot be joined any more.
                std::mem::forget(acceptor);
            }
            Err(failure) => tracing::error!("the status acceptor failed: {failure}"),
        }
    }
}
