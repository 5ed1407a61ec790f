//! One connection that another process has accepted, and the end of the server after it.
//!
//! A service manager accepts with `Accept=yes` and starts a server for each connection. The task here has
//! the place of an acceptor: it gives the connection to its task, and is stopped and cancelled like one.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use super::accept::{ConnectionResult, connection, record_outcome};
use super::end_counts::count;
use super::limiter::ConnectionLimiter;
use super::{Control, ControlHandle, Server, ServerError, ServerSettings, after, drain};
use crate::echo::SharedHandler;
use crate::net::{self, PipeReader, Stream};
use crate::ownership::{Give, Resource};
use crate::pool::{Orphans, Pool};

/// What the task needs; everything with an owner is given to it.
pub(super) struct Single {
    pub(super) stream: Stream,
    pub(super) stop: PipeReader,
    pub(super) pool: Pool,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) handler: SharedHandler,
    pub(super) settings: ServerSettings,
    pub(super) control: ControlHandle,
}

impl Server {
    /// Serves this connection, which was accepted elsewhere, and ends with it.
    ///
    /// # Errors
    /// There is no descriptor for the stop pipe.
    #[track_caller]
    pub(crate) fn serve_only(&mut self, stream: Stream) -> Result<(), ServerError> {
        let _entered = self.registry.enter();
        let (stop, order) = net::pipe().map_err(|error| ServerError::new(error.to_string()))?;
        self.single = Some((stream, stop, order));
        Ok(())
    }
}

impl Give for Single {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.stream.list(resources);
        self.stop.list(resources);
    }
}

impl Single {
    /// Serves the connection, until it has ended or the server is stopped.
    pub(super) fn run(self) {
        let Single { stream, stop, pool, limiter, handler, settings, control } = self;
        let (counting, ending) = (Arc::clone(&limiter), control.clone());
        let connections: Orphans<ConnectionResult> =
            Orphans::reaped_by(pool.registry(), move |task, outcome| {
                record_outcome(&counting.counters.ends, task, outcome);
                // There is nothing else to do, so this stops the server.
                ending.send(Control::Drain);
            });
        let mut name = handler.name().to_owned();
        if let Ok(peer) = stream.peer_addr() {
            // Writing to a string does not fail.
            let _ = write!(name, " {peer}");
        }
        let started = limiter.acquire(None).map_err(|reached| reached.to_string());
        let started = started.and_then(|permit| {
            let job = connection(permit, move |stream| handler.serve(stream), &settings);
            pool.spawn_named_with(&name, stream, job).map_err(|error| error.to_string())
        });
        match started {
            Ok(promise) => {
                count(&limiter.counters.connections, 1);
                if let Err(refused) = connections.adopt(promise) {
                    // Only a task other than the parent is rejected, and this task is the parent.
                    tracing::error!("{refused}");
                }
            }
            Err(error) => {
                tracing::error!("failed to serve the connection: {error}");
                control.send(Control::Drain);
            }
        }
        // Until the write end is closed. An error: this task was cancelled.
        while let Ok(false) = stop.wait_readable(settings.drain_timeout) {}
        let deadline = control.first().map(|at| after(at, settings.drain_timeout));
        drain::finish(&connections, deadline.unwrap_or_else(Instant::now));
    }
}
