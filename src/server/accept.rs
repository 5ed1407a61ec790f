//! The accept loop: one task per listener, which owns it.
//!
//! The acceptor owns a socket from the moment it is accepted, and gives it to the connection's task.
//! An error of one connection ends only that connection.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use echown_fd::escape;

use super::bind::AcceptorResources;
use super::end_counts::{EndCounter, count};
use super::limiter::{ConnectionLimiter, Permit};
use super::refusals::Limit;
use super::{ControlHandle, ServerSettings, after, client_of, drain};
use crate::echo::{EndReason, SharedHandler};
use crate::net::{AcceptBackoff, AdaptiveSpin, Address, Stream, is_exhaustion};
use crate::ownership::{Error, ErrorKind, Give, Resource, TaskError, TaskLabel};
use crate::pool::{Orphans, Pool};
use crate::rate_limited_log::RateLimited;

/// Initial capacity for the name of a connection's task, `echo 127.0.0.1:40123`, so that it rarely
/// reallocates.
const NAME_BYTES: usize = 32;

/// The state of an accept loop; everything with an owner is given to its task.
pub(super) struct Acceptor {
    pub(super) resources: AcceptorResources,
    pub(super) pool: Pool,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) handler: SharedHandler,
    pub(super) settings: ServerSettings,
    pub(super) control: ControlHandle,
    /// Set when the server may accept.
    pub(super) gate: Arc<OnceLock<()>>,
}

impl Give for Acceptor {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.resources.list(resources);
    }
}

/// How one connection ended, as its task returns it.
pub(super) type ConnectionResult = io::Result<EndReason>;

impl Acceptor {
    /// Accepts until it is stopped, then drains.
    pub(super) fn run(mut self) {
        let limiter = Arc::clone(&self.limiter);
        let connections: Orphans<ConnectionResult> =
            Orphans::reaped_by(self.pool.registry(), move |task, outcome| {
                record_outcome(&limiter.counters.ends, task, outcome);
            });
        let refusal_log = RateLimited::default();
        let mut backoff = AcceptBackoff::default();
        let mut spin = AdaptiveSpin::default();
        self.gate.wait();
        self.take_over_options();
        // In a drain: until the queued connections are accepted, but not beyond the deadline.
        while !self.is_over() {
            let AcceptorResources { listener, stop, .. } = &self.resources;
            let pause = match listener.accept_or_stop_spinning(stop, &mut spin) {
                Ok(Some((stream, peer))) => {
                    match self.serve(&connections, stream, &peer, &refusal_log) {
                        Ok(()) => {
                            backoff.record_success();
                            continue;
                        }
                        Err(limit) => backoff.record_exhaustion(limit),
                    }
                }
                Ok(None) => break,
                // Cancelled: the server aborts. Any other refusal: the listener is gone.
                Err(error) if Error::in_io(&error).is_some() => {
                    if !is_cancelled(&error) {
                        tracing::error!("accept failed, the acceptor stops: {error}");
                    }
                    break;
                }
                // An unknown error may be temporary, too.
                Err(error) => {
                    if is_exhaustion(&error) {
                        self.refuse_one();
                    }
                    backoff.record_failure(&error)
                }
            };
            if self.pause(pause) {
                break;
            }
        }
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        if self.resources.listener.is_handed_over() {
            drain::hand_over(self.resources.listener, &connections, deadline, &self.control);
        } else {
            drain::drain(self.resources.listener, &connections, deadline);
        }
    }

    /// Whether to accept no more, even if connections are queued: at the deadline of a drain, and when
    /// the queue is another process's.
    pub(super) fn is_over(&self) -> bool {
        match self.deadline() {
            Some(deadline) => {
                self.resources.listener.is_handed_over() || Instant::now() >= deadline
            }
            None => false,
        }
    }

    /// Gives a socket that another server had the options of this one.
    pub(super) fn take_over_options(&mut self) {
        let AcceptorResources { listener, later, .. } = &mut self.resources;
        if let Some(later) = later
            && let Err(error) = later.apply_to(listener)
        {
            // Cancelled, for one: then it accepts nothing.
            tracing::warn!("connections have options of the server before: {error}");
        }
    }

    /// The deadline of the drain, if it has started.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(after(self.control.first()?, self.settings.drain_timeout))
    }

    /// Waits for `pause` or until the stop, and returns whether the acceptor is stopped.
    fn pause(&self, pause: Duration) -> bool {
        if let Err(error) = self.resources.stop.wait_readable(pause) {
            tracing::debug!("the pause was interrupted: {error}");
        }
        self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.resources.stop.wait_readable(Duration::ZERO).unwrap_or(true)
    }

    /// Accepts the next connection into the reserve descriptor and closes it.
    pub(super) fn refuse_one(&mut self) {
        let AcceptorResources { listener, stop, reserve, .. } = &mut self.resources;
        // Does not block, because another acceptor may have taken the connection.
        let refused =
            reserve.release_for(stop, || listener.try_accept().is_ok_and(|one| one.is_some()));
        if refused == Some(true) {
            self.limiter.counters.count_refusal(Limit::Descriptors);
        }
    }

    /// Starts a task for a connection, or closes it at once.
    ///
    /// # Errors
    /// No thread could be started: the limit that was reached.
    fn serve(
        &self,
        connections: &Orphans<ConnectionResult>,
        stream: Stream,
        peer: &Address,
        refusal_log: &RateLimited,
    ) -> Result<(), String> {
        let Some(permit) = self.permit(peer, refusal_log) else { return Ok(()) };
        let handler = Arc::clone(&self.handler);
        let job = connection(permit, move |stream| handler.serve(stream), &self.settings);
        self.spawn(connections, stream, peer, job)
    }

    /// A permit for a connection, if no limit is reached. Otherwise the caller closes it.
    pub(super) fn permit(&self, peer: &Address, refusal_log: &RateLimited) -> Option<Permit> {
        match self.limiter.acquire(client_of(peer)) {
            Ok(permit) => Some(permit),
            Err(reached) => {
                self.handler.connection_refused(peer);
                refusal_log.warn(format_args!("{peer} was refused: {reached}"));
                self.limiter.counters.count_refusal(reached.limit());
                None
            }
        }
    }

    /// Starts the task of a connection.
    ///
    /// # Errors
    /// No thread could be started: the limit that was reached.
    pub(super) fn spawn(
        &self,
        connections: &Orphans<ConnectionResult>,
        stream: Stream,
        peer: &Address,
        job: impl FnOnce(Stream) -> ConnectionResult + Send + 'static,
    ) -> Result<(), String> {
        let mut name = String::with_capacity(NAME_BYTES);
        // Writing to a string does not fail.
        let _ = write!(name, "{} {peer}", self.handler.name());
        match self.pool.spawn_named_with(&name, stream, job) {
            Ok(promise) => {
                count(&self.limiter.counters.connections, 1);
                if let Err(refused) = connections.adopt(promise) {
                    // Only a task other than the parent is rejected, and this task is the parent.
                    tracing::error!("{refused}");
                }
                Ok(())
            }
            Err(error) => {
                // The error contains the connection, which closes when it is dropped.
                self.limiter.counters.count_refusal(Limit::Threads);
                Err(error.to_string())
            }
        }
    }
}

/// The job of one connection's task.
pub(super) fn connection(
    permit: Permit,
    serve: impl FnOnce(Stream) -> io::Result<()> + Send + 'static,
    settings: &ServerSettings,
) -> impl FnOnce(Stream) -> ConnectionResult + Send + 'static {
    let idle = settings.idle_timeout;
    move |stream| {
        let counted = TrafficGuard { resource: stream.resource(), permit };
        counted.permit.count_start(counted.resource.age_nanos());
        // Without a timeout the socket stays as accepted, which saves a call per connection.
        if idle.is_some() {
            stream.set_read_timeout(idle)?;
        }
        let registry = counted.resource.registry().clone();
        let result = serve(stream);
        drop(counted);
        let is_drained = || registry.is_draining();
        result.map(|()| if is_drained() { EndReason::Drained } else { EndReason::Finished })
    }
}

/// Counts a connection's bytes when its task ends or unwinds.
struct TrafficGuard {
    resource: Resource,
    permit: Permit,
}

impl Drop for TrafficGuard {
    fn drop(&mut self) {
        let (received, sent) = self.resource.traffic();
        self.permit.count_bytes(received, sent);
    }
}

/// Counts and logs how a connection ended. If it leaked something, the report has already been
/// delivered.
pub(super) fn record_outcome(
    ends: &EndCounter,
    task: &TaskLabel,
    outcome: Result<ConnectionResult, TaskError<ConnectionResult>>,
) {
    let result = match outcome {
        Ok(result) => result,
        Err(TaskError::Panicked(panic)) => {
            tracing::error!(%task, "panicked: {}", escape::text(panic.message()));
            return ends.count(EndReason::Panic);
        }
        // Logged where the connection is cancelled.
        Err(TaskError::Cancelled) => return ends.count(EndReason::Aborted),
        Err(failure) => {
            tracing::debug!(%task, "{failure}");
            match failure.into_value() {
                Some(result) => result,
                None => return ends.count(EndReason::Error),
            }
        }
    };
    match result {
        Ok(reason) => ends.count_and_log(reason, task, None),
        Err(error) => {
            let reason = EndReason::from_error(&error);
            // Do not repeat an error that says no more than the reason.
            let is_more = error.to_string() != reason.to_string();
            ends.count_and_log(reason, task, is_more.then_some(&error as _));
        }
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    Error::in_io(error).is_some_and(|error| error.kind() == ErrorKind::Cancelled)
}
