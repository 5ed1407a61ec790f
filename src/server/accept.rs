//! The accept loop: one per listener, a task that owns it.
//!
//! A socket is owned from the moment it is accepted, given to its connection's task, and is that
//! task's alone from then on. Whatever happens to one connection ends that connection.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echown_fd::escape;

use super::backoff::Backoff;
use super::bind::AcceptorResources;
use super::end_counts::EndCounter;
use super::limiter::{ConnectionLimiter, Permit, count};
use super::{ControlHandle, ServerSettings, after, drain, ip_of};
use crate::echo::{EndReason, Handler, SharedHandler};
use crate::net::{AdaptiveSpin, Address, Stream};
use crate::ownership::{Error, ErrorKind, Failure, Resource, TaskLabel};
use crate::pool::{Orphans, Pool};
use crate::rate_limited_log::RateLimited;

/// How long accepting pause_log when the process is out of descriptors, threads or memory: long enough
/// not to spin, short enough that a client hardly notices.
const PAUSE: Duration = Duration::from_millis(50);

/// Capacity for the name of a connection's task, `echo 127.0.0.1:40123`, so that it need not grow piece by
/// piece. Longer ones grow.
const NAME_BYTES: usize = 32;

/// What an accept loop needs; everything with an owner is given to its task.
pub(super) struct Acceptor {
    pub(super) resources: AcceptorResources,
    pub(super) pool: Pool,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) handler: SharedHandler,
    pub(super) settings: ServerSettings,
    pub(super) control: ControlHandle,
}

/// How one connection ended, as its task reports it.
type ConnectionResult = io::Result<EndReason>;

/// How the process stands with what connections are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResourceState {
    Available,
    /// Something has run out; one line has said so.
    Exhausted,
}

impl Acceptor {
    /// Accepts until told to stop, then drains.
    pub(super) fn run(mut self) {
        let limiter = Arc::clone(&self.limiter);
        let connections: Orphans<ConnectionResult> =
            Orphans::reaped_by(self.pool.registry(), move |task, outcome| {
                record_outcome(&limiter.counters.ends, task, outcome);
            });
        let refusal_log = RateLimited::default();
        let (pause_log, recovery_log) = (RateLimited::default(), RateLimited::default());
        let mut state = ResourceState::Available;
        let mut backoff = Backoff::default();
        let mut spin = AdaptiveSpin::default();
        // In a drain until what is queued has been accepted, but not beyond its deadline.
        while self.deadline().is_none_or(|deadline| Instant::now() < deadline) {
            let AcceptorResources { listener, stop, .. } = &self.resources;
            let now = match listener.accept_or_stop_spinning(stop, &mut spin) {
                Ok(Some((stream, peer))) => {
                    backoff.reset();
                    self.serve(&connections, stream, &peer, &refusal_log)
                }
                Ok(None) => break,
                // Cancelled: the order to cut. Another refusal: there is no listener any more.
                Err(error) if Error::in_io(&error).is_some() => {
                    if !is_cancelled(&error) {
                        tracing::error!("accepting ends: {error}");
                    }
                    break;
                }
                Err(error) if is_exhaustion(&error) => {
                    self.refuse_one();
                    Err(error.to_string())
                }
                // What is unknown may pass as well.
                Err(error) => {
                    if self.pause(backoff.after(&error)) {
                        break;
                    }
                    continue;
                }
            };
            match (state, now) {
                (ResourceState::Available, Ok(())) => {}
                (ResourceState::Exhausted, Ok(())) => {
                    recovery_log.info("accepting goes on");
                    state = ResourceState::Available;
                }
                (_, Err(what)) => {
                    // At the limit the two take turns; one line a second is enough.
                    pause_log.warn(format_args!(
                        "accepting pauses until others let go of theirs: {what}"
                    ));
                    state = ResourceState::Exhausted;
                    if self.pause(PAUSE) {
                        break;
                    }
                }
            }
        }
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        drain::drain(self.resources.listener, &connections, deadline);
    }

    /// When the drain has to end, if it has begun.
    fn deadline(&self) -> Option<Instant> {
        Some(after(self.control.first()?, self.settings.drain_timeout))
    }

    /// Waits, at most until the order to stop; whether that has come.
    fn pause(&self, pause: Duration) -> bool {
        if let Err(error) = self.resources.stop.wait_readable(pause) {
            tracing::debug!("the pause was cut: {error}");
        }
        self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.resources.stop.wait_readable(Duration::ZERO).unwrap_or(true)
    }

    /// Closes the connection in hand, with the descriptor that was kept for that.
    fn refuse_one(&mut self) {
        let AcceptorResources { listener, stop, reserve } = &mut self.resources;
        // Waits for nobody: a connection was there a moment ago, or another acceptor has it.
        let refused =
            reserve.release_for(stop, || listener.try_accept().is_ok_and(|one| one.is_some()));
        if refused == Some(true) {
            self.limiter.counters.ends.count(EndReason::Refused);
        }
    }

    /// Starts a task for a connection, or closes it at once.
    ///
    /// # Errors
    /// No thread could be had: which limit it was.
    fn serve(
        &self,
        connections: &Orphans<ConnectionResult>,
        stream: Stream,
        peer: &Address,
        refusal_log: &RateLimited,
    ) -> Result<(), String> {
        let permit = match self.limiter.acquire(ip_of(peer)) {
            Ok(permit) => permit,
            Err(full) => {
                self.handler.connection_refused(peer);
                refusal_log.warn(format_args!("{peer} was refused: {full}"));
                self.limiter.counters.ends.count(EndReason::Refused);
                return Ok(());
            }
        };
        let give = [stream.resource()];
        let mut name = String::with_capacity(NAME_BYTES);
        // A string takes whatever it is given.
        let _ = write!(name, "{} {peer}", self.handler.name());
        let job = connection(stream, permit, Arc::clone(&self.handler), &self.settings);
        match self.pool.spawn_named(&name, give, job) {
            Ok(promise) => {
                count(&self.limiter.counters.connections, 1);
                if let Err(refused) = connections.adopt(promise) {
                    // Only a task that is not the parent is refused, and this is the parent.
                    tracing::error!("{refused}");
                }
                Ok(())
            }
            Err(error) => {
                // The job comes back with the connection, which is closed as it is dropped.
                self.limiter.counters.ends.count(EndReason::Refused);
                Err(error.to_string())
            }
        }
    }
}

/// The life of one connection.
fn connection(
    stream: Stream,
    permit: Permit,
    handler: Arc<dyn Handler>,
    settings: &ServerSettings,
) -> impl FnOnce() -> ConnectionResult + Send + 'static {
    let idle = settings.idle_timeout;
    move || {
        let counted = TrafficGuard { resource: stream.resource(), permit };
        // Without one it is as it was accepted: a call less for each connection.
        if idle.is_some() {
            stream.set_read_timeout(idle)?;
        }
        let registry = counted.resource.registry().clone();
        let result = handler.serve(stream);
        drop(counted);
        let is_drained = || registry.is_draining();
        result.map(|()| if is_drained() { EndReason::Drained } else { EndReason::Finished })
    }
}

/// Counts a connection's bytes when it is over, also when its task unwinds.
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

/// Counts and logs how a connection ended. Its report, if it left something behind, has been
/// delivered.
fn record_outcome(
    ends: &EndCounter,
    task: &TaskLabel,
    outcome: Result<ConnectionResult, Failure<ConnectionResult>>,
) {
    let result = match outcome {
        Ok(result) => result,
        Err(Failure::Panicked(panic)) => {
            tracing::error!(%task, "panicked: {}", escape::text(panic.message()));
            return ends.count(EndReason::Panic);
        }
        // Whoever cuts says whom.
        Err(Failure::Cancelled) => return ends.count(EndReason::Cut),
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
            let reason = EndReason::of(&error);
            // An error that is nothing but the reason has nothing to add.
            let is_more = error.to_string() != reason.to_string();
            ends.count_and_log(reason, task, is_more.then_some(&error as _));
        }
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    Error::in_io(error).is_some_and(|error| error.kind() == ErrorKind::Cancelled)
}

/// Out of descriptors, buffers or memory: it passes when others let go of theirs.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}
