//! The accept loop: one per listener, a task that owns it.
//!
//! A socket is owned from the moment it is accepted, given to its connection's task, and is that
//! task's alone from then on. Whatever happens to one connection ends that connection.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::bind::Seat;
use super::ends::EndTally;
use super::gate::{Admission, Gate, count};
use super::{Orders, Settings, after, drain, ip_of};
use crate::echo::{EndReason, SharedStyle, Style};
use crate::net::{Address, Eagerness, Stream};
use crate::ownership::{Error, ErrorKind, Failure, Resource, TaskLabel};
use crate::pool::{Orphans, Pool};
use crate::seldom::Seldom;
use crate::sys::escape;

/// How long accepting pauses when the process is out of descriptors, threads or memory: long enough
/// not to spin, short enough that a client hardly notices.
const PAUSE: Duration = Duration::from_millis(50);

/// Room for the name of a connection's task, `echo 127.0.0.1:40123`, so that it need not grow piece by
/// piece. Longer ones grow.
const NAME_BYTES: usize = 32;

/// What an accept loop needs; everything with an owner is given to its task.
pub(super) struct Acceptor {
    pub(super) seat: Seat,
    pub(super) pool: Pool,
    pub(super) gate: Arc<Gate>,
    pub(super) style: SharedStyle,
    pub(super) settings: Settings,
    pub(super) orders: Orders,
}

/// How one connection ended, as its task reports it.
type Went = io::Result<EndReason>;

/// How the process stands with what connections are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    Ample,
    /// Something has run out; one line has said so.
    Exhausted,
}

impl Acceptor {
    /// Accepts until told to stop, then drains.
    pub(super) fn run(mut self) {
        let gate = Arc::clone(&self.gate);
        let connections: Orphans<Went> =
            Orphans::reaped_by(self.pool.registry(), move |task, outcome| {
                settle(&gate.tally.ends, task, outcome);
            });
        let refusals = Seldom::default();
        let (pauses, recoveries) = (Seldom::default(), Seldom::default());
        let mut means = Means::Ample;
        let mut backoff = Backoff::default();
        let mut eagerness = Eagerness::default();
        // In a drain until what is queued has been accepted, but not beyond its deadline.
        while self.deadline().is_none_or(|deadline| Instant::now() < deadline) {
            let Seat { listener, stop, .. } = &self.seat;
            let now = match listener.accept_eagerly_unless(stop, &mut eagerness) {
                Ok(Some((stream, peer))) => {
                    backoff.reset();
                    self.serve(&connections, stream, &peer, &refusals)
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
            match (means, now) {
                (Means::Ample, Ok(())) => {}
                (Means::Exhausted, Ok(())) => {
                    recoveries.info("accepting goes on");
                    means = Means::Ample;
                }
                (_, Err(what)) => {
                    // At the limit the two take turns; one line a second is enough.
                    pauses.warn(format_args!(
                        "accepting pauses until others let go of theirs: {what}"
                    ));
                    means = Means::Exhausted;
                    if self.pause(PAUSE) {
                        break;
                    }
                }
            }
        }
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        drain::drain(self.seat.listener, &connections, deadline);
    }

    /// When the drain has to end, if it has begun.
    fn deadline(&self) -> Option<Instant> {
        Some(after(self.orders.first()?, self.settings.drain_timeout))
    }

    /// Waits, at most until the order to stop; whether that has come.
    fn pause(&self, pause: Duration) -> bool {
        if let Err(error) = self.seat.stop.wait_readable(pause) {
            tracing::debug!("the pause was cut: {error}");
        }
        self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.seat.stop.wait_readable(Duration::ZERO).unwrap_or(true)
    }

    /// Closes the connection in hand, with the descriptor that was kept for that.
    fn refuse_one(&mut self) {
        let Seat { listener, stop, spare } = &mut self.seat;
        // Waits for nobody: a connection was there a moment ago, or another acceptor has it.
        let refused = spare.lend(stop, || listener.accept_if_any().is_ok_and(|one| one.is_some()));
        if refused == Some(true) {
            self.gate.tally.ends.count(EndReason::Refused);
        }
    }

    /// Starts a task for a connection, or closes it at once.
    ///
    /// # Errors
    /// No thread could be had: which limit it was.
    fn serve(
        &self,
        connections: &Orphans<Went>,
        stream: Stream,
        peer: &Address,
        refusals: &Seldom,
    ) -> Result<(), String> {
        let admission = match self.gate.enter(ip_of(peer)) {
            Ok(admission) => admission,
            Err(full) => {
                self.style.refused(peer);
                refusals.warn(format_args!("{peer} was refused: {full}"));
                self.gate.tally.ends.count(EndReason::Refused);
                return Ok(());
            }
        };
        let give = [stream.resource()];
        let mut name = String::with_capacity(NAME_BYTES);
        // A string takes whatever it is given.
        let _ = write!(name, "{} {peer}", self.style.name());
        let job = connection(stream, admission, Arc::clone(&self.style), &self.settings);
        match self.pool.spawn_named(&name, give, job) {
            Ok(promise) => {
                count(&self.gate.tally.connections, 1);
                if let Err(refused) = connections.adopt(promise) {
                    // Only a task that is not the parent is refused, and this is the parent.
                    tracing::error!("{refused}");
                }
                Ok(())
            }
            Err(error) => {
                // The job comes back with the connection, which is closed as it is dropped.
                self.gate.tally.ends.count(EndReason::Refused);
                Err(error.to_string())
            }
        }
    }
}

/// The life of one connection.
fn connection(
    stream: Stream,
    admission: Admission,
    style: Arc<dyn Style>,
    settings: &Settings,
) -> impl FnOnce() -> Went + Send + 'static {
    let idle = settings.idle_timeout;
    move || {
        let counted = Counted { resource: stream.resource(), admission };
        // Without one it is as it was accepted: a call less for each connection.
        if idle.is_some() {
            stream.set_read_timeout(idle)?;
        }
        let registry = counted.resource.registry().clone();
        let went = style.serve(stream);
        drop(counted);
        let is_drained = || registry.is_draining();
        went.map(|()| if is_drained() { EndReason::Drained } else { EndReason::Finished })
    }
}

/// Counts a connection's bytes when it is over, also when its task unwinds.
struct Counted {
    resource: Resource,
    admission: Admission,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (received, sent) = self.resource.traffic();
        self.admission.count_bytes(received, sent);
    }
}

/// Counts and logs how a connection ended. Its report, if it left something behind, has been
/// delivered.
fn settle(ends: &EndTally, task: &TaskLabel, outcome: Result<Went, Failure<Went>>) {
    let went = match outcome {
        Ok(went) => went,
        Err(Failure::Panicked(panic)) => {
            tracing::error!(%task, "panicked: {}", escape::text(panic.message()));
            return ends.count(EndReason::Panic);
        }
        // Whoever cuts says whom.
        Err(Failure::Cancelled) => return ends.count(EndReason::Cut),
        Err(failure) => {
            tracing::debug!(%task, "{failure}");
            match failure.into_value() {
                Some(went) => went,
                None => return ends.count(EndReason::Error),
            }
        }
    };
    match went {
        Ok(reason) => ends.note(reason, task, None),
        Err(error) => {
            let reason = EndReason::of(&error);
            // An error that is nothing but the reason has nothing to add.
            let is_more = error.to_string() != reason.to_string();
            ends.note(reason, task, is_more.then_some(&error as _));
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
