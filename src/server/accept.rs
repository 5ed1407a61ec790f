//! The accept loop: one per listener, a task that owns it.
//!
//! A socket is owned from the moment it is accepted, given to its connection's task, and is that
//! task's alone from then on. Whatever happens to one connection ends that connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::drain;
use super::gate::{Gate, Place, Tally, count};
use crate::echo;
use crate::net::{Listener, PipeReader, Stream};
use crate::ownership::{Error, ErrorKind, Failure, TaskLabel};
use crate::pool::{Orphans, Pool};

/// How long accepting pauses when the process is out of descriptors or memory: long enough not to
/// spin, short enough that a client hardly notices.
const PAUSE: Duration = Duration::from_millis(50);

/// What an accept loop needs; everything with an owner is given to its task.
pub(super) struct Acceptor {
    pub(super) listener: Listener,
    pub(super) stop: PipeReader,
    pub(super) pool: Pool,
    pub(super) gate: Arc<Gate>,
    pub(super) drain_timeout: Duration,
}

/// How one connection went, as its task tells.
type Went = io::Result<()>;

impl Acceptor {
    /// Accepts until told to stop, then drains.
    pub(super) fn run(self) {
        let gate = Arc::clone(&self.gate);
        let connections: Orphans<Went> =
            Orphans::reaped_by(self.pool.registry(), move |task, outcome| {
                settle(&gate.tally, task, outcome);
            });
        let mut is_pausing = false;
        loop {
            match self.listener.accept_unless(&self.stop) {
                Ok(Some((stream, peer))) => {
                    is_pausing = false;
                    self.serve(&connections, stream, &peer.to_string());
                }
                Ok(None) => break,
                Err(error) if is_exhaustion(&error) => {
                    if !is_pausing {
                        tracing::warn!("accepting pauses: {error}");
                        is_pausing = true;
                    }
                    match self.stop.wait_readable(PAUSE) {
                        Ok(false) => {}
                        Ok(true) => break,
                        Err(error) => return tracing::error!("accepting ends: {error}"),
                    }
                }
                Err(error) => {
                    // Cancelled, or a listener that no longer works: nothing more will come.
                    if !is_cancelled(&error) {
                        tracing::error!("accepting ends: {error}");
                    }
                    break;
                }
            }
        }
        drain::drain(self.listener, &connections, self.drain_timeout);
    }

    /// Starts a task for a connection, or closes it at once.
    fn serve(&self, connections: &Orphans<Went>, stream: Stream, peer: &str) {
        let Some(place) = self.gate.enter() else {
            tracing::debug!(peer, "refused: as many connections as are allowed");
            count(&self.gate.tally.refused, 1);
            return;
        };
        let give = [stream.resource()];
        let job = move || connection(&stream, place);
        match self.pool.spawn_named(&format!("echo {peer}"), give, job) {
            Ok(promise) => {
                count(&self.gate.tally.connections, 1);
                if let Err(refused) = connections.adopt(promise) {
                    // Only a task that is not the parent is refused, and this is the parent.
                    tracing::error!("{refused}");
                }
            }
            Err(error) => {
                // The job comes back with the connection, which is closed as it is dropped.
                tracing::warn!(peer, "refused: {error}");
                count(&self.gate.tally.refused, 1);
            }
        }
    }
}

/// The life of one connection.
fn connection(stream: &Stream, place: Place) -> Went {
    let went = echo::echo(stream);
    let (bytes_in, bytes_out) = stream.traffic();
    place.count_bytes(bytes_in, bytes_out);
    went
}

/// Counts how a connection ended. Its report, if it left something behind, has been delivered.
fn settle(tally: &Tally, task: &TaskLabel, outcome: Result<Went, Failure<Went>>) {
    let went = match outcome {
        Ok(went) => went,
        Err(Failure::Panicked(panic)) => {
            tracing::error!(%task, "panicked: {}", panic.message());
            return count(&tally.panics, 1);
        }
        Err(Failure::Cancelled) => return count(&tally.cancelled, 1),
        Err(failure) => {
            tracing::debug!(%task, "{failure}");
            match failure.into_value() {
                Some(went) => went,
                None => return,
            }
        }
    };
    if let Err(error) = went {
        tracing::debug!(%task, "ended by an error: {error}");
        count(&tally.errors, 1);
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
