//! A writer: a task with a thread of its own for a connection whose client does not read.
//!
//! It sends what the worker could not, waiting for the client, and serves the connection while input arrives:
//! a client that sends much also makes its server wait often. Then it parks the connection.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use slotmap::Key;

use super::super::parking_counts::Tally;
use super::connection::Connection;
use super::lot::{BUFFER_BYTES, ConnectionLot, FINAL_SEND_TIMEOUT, Writing};
use crate::echo::{EndReason, Turn, send_back};
use crate::net::{Poller, Trigger};
use crate::ownership::{Give, Resource, TaskError};
use crate::pool::Orphans;

/// How long a writer waits for input before it parks its connection.
const PARK_AFTER: Duration = Duration::from_millis(5);

/// What a worker gives to a writer.
pub(super) struct Job {
    pub(super) lot: Arc<ConnectionLot>,
    pub(super) connection: Arc<Connection>,
    pub(super) poller: Poller,
}

impl Give for Job {
    fn list(&self, resources: &mut Vec<Resource>) {
        resources.push(self.connection.stream.resource());
        self.poller.list(resources);
    }
}

/// What a writer begins with.
pub(super) enum Unsent {
    /// Received, and not sent yet.
    Bytes(Vec<u8>),
    /// Everything is sent, but may not have arrived yet, which may take this long at the end of a drain.
    InKernel(Duration),
}

/// How a writer ended.
pub(super) enum Outcome {
    Parked,
    Ended(io::Result<EndReason>),
}

/// The set of a worker's writers. Counts the ends of their connections.
pub(super) fn reaped(lot: &Arc<ConnectionLot>, writing: &Writing) -> Orphans<Outcome> {
    let (registry, writing) = (lot.pool.registry().clone(), Arc::clone(writing));
    let lot = Arc::clone(lot);
    Orphans::reaped_by(&registry, move |task, outcome| {
        let connection = writing.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.id);
        let Some(connection) = connection else { return };
        lot.limiter.counters.parking.writer_ended();
        match outcome {
            Ok(Outcome::Parked) => {}
            Ok(Outcome::Ended(result)) => lot.end(&connection, result),
            Err(TaskError::Panicked(panic)) => {
                let message = echown_fd::escape::text(panic.message());
                tracing::error!(%task, "panicked: {message}");
                lot.end_silently(&connection, EndReason::Panic);
            }
            Err(TaskError::Cancelled) if connection.is_displaced() => {
                lot.end(&connection, Err(EndReason::Displaced.into_error()));
            }
            // Logged where it is cancelled.
            Err(TaskError::Cancelled) => lot.end_silently(&connection, EndReason::Aborted),
            Err(failure) => {
                tracing::debug!(%task, "{failure}");
                lot.end_silently(&connection, EndReason::Error);
            }
        }
    })
}

impl Job {
    /// The writer's task.
    pub(super) fn run(self, unsent: Unsent) -> Outcome {
        let served = match unsent {
            Unsent::Bytes(unsent) => self.send_and_serve(unsent),
            Unsent::InKernel(timeout) => {
                self.connection.stream.wait_sent(timeout).map(|_| Served::Finished)
            }
        };
        let result = match served {
            Ok(Served::Parked) => return Outcome::Parked,
            Ok(Served::Finished) => self.finish(),
            Err(error) => Err(error),
        };
        // It may be registered: a park that failed.
        let _ = self.poller.remove(&self.connection.stream);
        match (self.connection.stream.close_reporting(), result) {
            (Err(error), Ok(_)) => Outcome::Ended(Err(error.into())),
            (_, result) => Outcome::Ended(result),
        }
    }

    fn finish(&self) -> io::Result<EndReason> {
        if self.lot.is_draining() {
            self.connection.stream.wait_sent(FINAL_SEND_TIMEOUT)?;
        }
        self.lot.finish(&self.connection)
    }

    fn send_and_serve(&self, mut buffer: Vec<u8>) -> io::Result<Served> {
        let stream = &self.connection.stream;
        // A cancellation shuts the socket down, and must not look like the end of a complete echo.
        stream.reset_on_close()?;
        self.send(&buffer)?;
        buffer.resize(BUFFER_BYTES, 0);
        let mut is_registered = false;
        loop {
            if self.lot.is_draining() {
                self.connection.drain()?;
            }
            match self.lot.turns().turn(stream, &mut buffer)? {
                Turn::More => {}
                Turn::Blocked { from, to } => self.send(&buffer[from..to])?,
                Turn::Finished => {
                    stream.set_linger(None)?;
                    return Ok(Served::Finished);
                }
                Turn::Drained => {
                    if stream.wait_readable(Some(PARK_AFTER))? {
                        continue;
                    }
                    stream.set_linger(None)?;
                    if !std::mem::replace(&mut is_registered, true) {
                        let key = self.connection.key.data().as_ffi();
                        self.poller.add(stream, key, Trigger::Edge)?;
                    }
                    if self.lot.park(&self.connection)? {
                        if !self.connection.is_probe() {
                            let mut tally = Tally::default();
                            tally.park();
                            self.lot.limiter.counters.parking.add(&mut tally);
                        }
                        return Ok(Served::Parked);
                    }
                    stream.reset_on_close()?;
                }
            }
        }
    }

    /// Sends bytes, waiting for the client, at most for the write timeout.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.connection.set_blocked(Some(self.lot.now()));
        let sent = send_back(&self.connection.stream, bytes);
        self.connection.set_blocked(None);
        sent
    }
}

/// What became of a writer's connection.
enum Served {
    Parked,
    Finished,
}
