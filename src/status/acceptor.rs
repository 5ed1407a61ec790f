//! The accept loop of the status server, and the limit of its clients.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use echown_fd::escape;

use super::{CLIENTS_MAX, REJECTED_MAX, STOP_TIME, Shared, client};
use crate::net::{AcceptBackoff, Address, Listener, PipeReader, Stream};
use crate::ownership::{Error, Give, Resource, TaskError, TaskLabel};
use crate::pool::{Orphans, Pool};
use crate::rate_limited_log::RateLimited;

/// The accept loop; everything with an owner is given to its task.
pub(super) struct Acceptor {
    pub(super) listener: Listener,
    pub(super) stop: PipeReader,
    pub(super) pool: Pool,
    pub(super) shared: Arc<Shared>,
}

impl Give for Acceptor {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.listener.list(resources);
        self.stop.list(resources);
    }
}

type Clients = Orphans<io::Result<()>>;

impl Acceptor {
    /// Accepts until it is stopped, then ends the clients.
    pub(super) fn run(self) {
        let log = RateLimited::default();
        let clients: Clients = Orphans::reaped_by(self.pool.registry(), move |task, outcome| {
            log_end(&log, task, outcome);
        });
        // One reference per client that is being served, and this one.
        let places = Arc::new(());
        let busy_log = RateLimited::default();
        let mut backoff = AcceptBackoff::default();
        while !self.shared.is_stopping() {
            let pause = match self.listener.accept_or_stop(&self.stop) {
                Ok(None) => break,
                Ok(Some((stream, peer))) => {
                    match self.start(&clients, &places, stream, &peer, &busy_log) {
                        Ok(()) => {
                            backoff.record_success();
                            continue;
                        }
                        Err(limit) => backoff.record_exhaustion(limit),
                    }
                }
                Err(error) if Error::in_io(&error).is_some() => break,
                Err(error) => backoff.record_failure(&error),
            };
            // An error means the same as the end: it is noticed by the next accept.
            let _ = self.stop.wait_readable(pause);
        }
        drop(self.listener);
        end(&clients);
    }

    /// Starts a task for a client.
    ///
    /// # Errors
    /// No thread could be started: the limit that was reached. The client is closed.
    fn start(
        &self,
        clients: &Clients,
        places: &Arc<()>,
        stream: Stream,
        peer: &Address,
        busy_log: &RateLimited,
    ) -> Result<(), String> {
        let place = Arc::clone(places);
        // Without this one and the acceptor's.
        let is_full = Arc::strong_count(&place) - 2 >= CLIENTS_MAX;
        if is_full {
            busy_log.info(format_args!(
                "the status was refused to {peer}: {CLIENTS_MAX} clients are connected"
            ));
            if clients.len() >= CLIENTS_MAX + REJECTED_MAX {
                return Ok(());
            }
        }
        let shared = Arc::clone(&self.shared);
        let job = move |stream| {
            if is_full {
                drop(place);
                return client::reject(stream, &shared);
            }
            let served = client::serve(stream, &shared);
            drop(place);
            served
        };
        let name = format!("status client {peer}");
        match self.pool.spawn_named_with(&name, stream, job) {
            Ok(promise) => {
                if let Err(refused) = clients.adopt(promise) {
                    // Only a task other than the parent is rejected, and this task is the parent.
                    tracing::error!("{refused}");
                }
                Ok(())
            }
            // The error contains the client, which closes when it is dropped.
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Lets the clients end: those that still send see the end of their input, viewers get the rest.
fn end(clients: &Clients) {
    let ended = clients.drain().and_then(|()| clients.wait_until(Instant::now() + STOP_TIME));
    if !ended.unwrap_or(false)
        && let Err(error) = clients.cancel()
    {
        tracing::error!("{error}");
    }
}

/// Logs how a client's task ended.
fn log_end(
    log: &RateLimited,
    task: &TaskLabel,
    outcome: Result<io::Result<()>, TaskError<io::Result<()>>>,
) {
    match outcome {
        Ok(Ok(())) | Err(TaskError::Cancelled) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            log.info(format_args!("{task} was disconnected: it did not read"));
        }
        Ok(Err(error)) => tracing::debug!(%task, "{error}"),
        Err(TaskError::Panicked(panic)) => {
            tracing::error!(%task, "panicked: {}", escape::text(panic.message()));
        }
        Err(failure) => tracing::error!(%task, "{failure}"),
    }
}
