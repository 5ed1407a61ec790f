//! A worker: waits for events, and serves the connections that have them, in turns.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use slotmap::{DefaultKey, Key, KeyData};

use super::super::parking_counts::Tally;
use super::WaitResources;
use super::connection::Connection;
use super::lot::{BUFFER_BYTES, ConnectionLot, FINAL_SEND_TIMEOUT, Writing, is_cancelled};
use super::writer::{self, Job, Unsent};
use crate::echo::{EndReason, Turn, reset_by};
use crate::net::{AdaptiveSpin, Events, Poller, Stream, Trigger};
use crate::ownership::closing::catch_panic;
use crate::ownership::{TaskId, Unparked};
use crate::pool::Orphans;

/// Keys of what is no connection. The index of a connection's key is not the maximum.
pub(super) const LISTENER: u64 = u64::MAX;
pub(super) const STOP: u64 = u64::MAX - (1 << 32);
/// Of all wake sockets.
const WAKE: u64 = STOP - (1 << 32);

/// What a look at the epoll instance found, in addition to connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) listener: bool,
    pub(super) stop: bool,
}

/// A worker. Belongs to its task.
pub(super) struct Worker {
    pub(super) lot: Arc<ConnectionLot>,
    pub(super) wait: WaitResources,
    /// Where connections are registered, if this worker does not wait for them.
    connections: Option<Poller>,
    events: Events,
    /// The keys of one look, and their connections.
    found: Vec<Arc<Connection>>,
    spin: AdaptiveSpin,
    /// The key of the last event.
    last: u64,
    /// Connections that have input, all held by this task.
    queue: VecDeque<Arc<Connection>>,
    buffer: Vec<u8>,
    pub(super) writers: Orphans<writer::Outcome>,
    writing: Writing,
    tally: Tally,
}

impl Worker {
    /// A worker of a lot. If it does not wait for connections itself, it registers new ones with
    /// `connections`.
    ///
    /// # Errors
    /// It cannot be woken: errors of `epoll_ctl(2)` and of the registry.
    pub(super) fn new(
        lot: Arc<ConnectionLot>,
        wait: WaitResources,
        connections: Option<Poller>,
    ) -> io::Result<Worker> {
        wait.poller.add(&wait.wake, WAKE, Trigger::Level)?;
        let writing = Writing::default();
        let writers = writer::reaped(&lot, &writing);
        Ok(Worker {
            lot,
            wait,
            connections,
            events: Events::new(),
            found: Vec::new(),
            spin: AdaptiveSpin::of_poller(),
            last: STOP,
            queue: VecDeque::new(),
            buffer: vec![0; BUFFER_BYTES],
            writers,
            writing,
            tally: Tally::default(),
        })
    }

    /// Serves until the task is cancelled.
    pub(super) fn run(mut self) {
        loop {
            match self.round(None) {
                Ok(_) => {}
                Err(error) if is_cancelled(&error) => return,
                Err(error) => {
                    tracing::error!("a worker stops: {error}");
                    return;
                }
            }
        }
    }

    /// Waits for events, at most for `timeout`, and gives every connection that has input a turn.
    ///
    /// # Errors
    /// This task was cancelled, or `epoll_wait(2)` failed.
    pub(super) fn round(&mut self, timeout: Option<Duration>) -> io::Result<Seen> {
        // Before the wait: what happened since the last one is in it.
        self.publish();
        let seen = self.look(timeout)?;
        for _ in 0..self.queue.len() {
            let Some(connection) = self.queue.pop_front() else { break };
            self.serve(connection);
        }
        Ok(seen)
    }

    /// Claims the connections that have input.
    fn look(&mut self, timeout: Option<Duration>) -> io::Result<Seen> {
        let timeout = if self.queue.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.wait.poller.wait_spinning(&mut self.events, timeout, self.last, &mut self.spin)?;
        self.last = self.events.iter().last().map_or(self.last, |event| event.key);
        let mut seen = Seen::default();
        let keys = self.events.iter().filter_map(|event| {
            match event.key {
                LISTENER => seen.listener = true,
                STOP => seen.stop = true,
                // A worker was cancelled. If it is this one, the next call returns that.
                WAKE => {}
                key => return Some((KeyData::from_ffi(key).into(), event)),
            }
            None
        });
        let found = &mut self.found;
        self.lot.find(keys, |connection, event| {
            if event.is_at_end {
                connection.set_at_end();
            }
            if event.is_urgent {
                connection.set_short_reads();
            }
            found.push(Arc::clone(connection));
        });
        let mut found = std::mem::take(&mut self.found);
        for connection in found.drain(..) {
            // Marked: the task that has it reads again. Gone: it was closed. Errors: this task was cancelled, and the
            // next wait returns that.
            if let Ok(Unparked::Claimed) = connection.stream.unpark(&self.lot.lot) {
                self.enqueue(connection);
            }
        }
        self.found = found;
        Ok(seen)
    }

    /// Adds what this worker has counted to the numbers of the server.
    pub(super) fn publish(&mut self) {
        self.lot.limiter.counters.parking.add(&mut self.tally);
    }

    pub(super) fn count_unparked(&mut self, connection: &Connection) {
        if !connection.is_probe() {
            self.tally.unpark();
        }
    }

    /// Serves a connection that this task has claimed in this round.
    pub(super) fn enqueue(&mut self, connection: Arc<Connection>) {
        self.count_unparked(&connection);
        self.queue.push_back(connection);
    }

    /// Registers a new connection and parks it.
    pub(super) fn admit(&mut self, connection: Arc<Connection>) {
        let key = connection.key.data().as_ffi();
        match self.connections().add(&connection.stream, key, Trigger::Edge) {
            Ok(()) => {
                connection.count_start();
                self.park(connection);
            }
            Err(error) => self.close(&connection, Err(error)),
        }
    }

    /// One turn.
    fn serve(&mut self, connection: Arc<Connection>) {
        if self.lot.is_draining()
            && let Err(error) = connection.drain()
        {
            return self.close(&connection, Err(error));
        }
        let turn = catch_panic(|| self.lot.turns().turn(&connection.stream, &mut self.buffer));
        match turn {
            Ok(Ok(Turn::Drained)) if self.may_have_more(&connection) => {
                self.queue.push_back(connection);
            }
            Ok(Ok(Turn::Drained)) => self.park(connection),
            Ok(Ok(Turn::More)) => self.queue.push_back(connection),
            Ok(Ok(Turn::Finished)) => self.finish(connection),
            Ok(Ok(Turn::Blocked { from, to })) => match unsent(&self.buffer[from..to]) {
                Some(unsent) => self.start_writer(connection, Unsent::Bytes(unsent)),
                None => {
                    let error = io::ErrorKind::OutOfMemory.into();
                    let error = reset_by(&connection.stream, error);
                    self.close(&connection, Err(error));
                }
            },
            Ok(Err(error)) => self.close(&connection, Err(error)),
            Err(panic) => {
                tracing::error!(task = %connection, "panicked: {}", echown_fd::escape::text(&panic));
                let _ = connection.stream.reset_on_close();
                self.leave(&connection);
                self.lot.end_silently(&connection, EndReason::Panic);
            }
        }
    }

    /// Whether there may be more to read after a read that left room in the buffer.
    fn may_have_more(&self, connection: &Connection) -> bool {
        if connection.is_at_end() {
            return true;
        }
        (self.lot.has_faults || connection.has_short_reads()) && may_be_read(&connection.stream)
    }

    fn park(&mut self, connection: Arc<Connection>) {
        match self.lot.park(&connection) {
            Ok(true) if connection.is_probe() => {}
            Ok(true) => self.tally.park(),
            // Input came after the last read.
            Ok(false) => self.queue.push_back(connection),
            Err(error) => self.close(&connection, Err(error.into())),
        }
    }

    /// Ends a connection whose peer has finished.
    fn finish(&mut self, connection: Arc<Connection>) {
        if self.lot.is_draining() && !connection.stream.wait_sent(Duration::ZERO).unwrap_or(true) {
            return self.start_writer(connection, Unsent::InKernel(FINAL_SEND_TIMEOUT));
        }
        let result = self.lot.finish(&connection);
        self.close(&connection, result);
    }

    /// Closes a connection and counts its end.
    pub(super) fn close(&mut self, connection: &Connection, result: io::Result<EndReason>) {
        self.leave(connection);
        self.lot.end(connection, result);
    }

    /// Takes a connection out of the epoll instance and closes it.
    fn leave(&self, connection: &Connection) {
        self.unregister(connection);
        self.release(connection);
    }

    fn release(&self, connection: &Connection) {
        if let Err(error) = connection.stream.close_reporting() {
            tracing::debug!(task = %connection, "failed to close: {error}");
        }
    }

    fn unregister(&self, connection: &Connection) {
        if let Err(error) = self.connections().remove(&connection.stream) {
            tracing::debug!(task = %connection, "failed to unregister: {error}");
        }
    }

    /// Gives a connection to a task with a thread of its own, which waits for the client.
    fn start_writer(&mut self, connection: Arc<Connection>, unsent: Unsent) {
        if self.writing().len() >= self.lot.writers_max {
            self.displace_one();
        }
        if let Unsent::Bytes(_) = unsent {
            // Before the writer runs: a cancellation must not look like the end of a complete echo.
            let _ = connection.stream.reset_on_close();
        }
        self.unregister(&connection);
        let started = self.connections().duplicate().map_err(|error| error.to_string());
        let started = started.and_then(|poller| {
            let job =
                Job { lot: Arc::clone(&self.lot), connection: Arc::clone(&connection), poller };
            let pool = &self.lot.pool;
            let name = connection.to_string();
            let run = move |job: Job| job.run(unsent);
            pool.spawn_named_with(&name, job, run).map_err(|error| error.to_string())
        });
        match started {
            Ok(promise) => {
                // First: the writer may have ended before it is adopted, and is then reaped at once.
                self.writing().insert(promise.task().id, connection);
                self.lot.limiter.counters.parking.writer_started();
                if let Err(refused) = self.writers.adopt(promise) {
                    // Only a task other than the parent is rejected, and this task is the parent.
                    tracing::error!("{refused}");
                }
            }
            Err(error) => {
                let error = io::Error::new(io::ErrorKind::OutOfMemory, error);
                let error = reset_by(&connection.stream, error);
                self.release(&connection);
                self.lot.end(&connection, Err(error));
            }
        }
    }

    /// Closes the connection that has waited longest for its client, to make room for another.
    fn displace_one(&self) {
        let writing = self.writing();
        let waiting = writing.iter().filter(|(_, one)| !one.is_displaced());
        let longest = waiting
            .filter_map(|(task, one)| Some((one.blocked_since()?, *task, one)))
            .min_by_key(|(since, ..)| *since);
        let Some((_, task, connection)) = longest else { return };
        connection.set_displaced();
        drop(writing);
        // Fails only in another task than the parent, and for a task that has ended.
        let _ = self.writers.request_cancel_of(task);
    }

    /// Where connections are registered.
    fn connections(&self) -> &Poller {
        self.connections.as_ref().unwrap_or(&self.wait.poller)
    }

    /// Closes the connections of this task that have input. The caller counts their ends.
    pub(super) fn abort_queued(&mut self) {
        while let Some(connection) = self.queue.pop_front() {
            self.abort(&connection);
        }
    }

    /// Closes a connection of this task that is not complete.
    pub(super) fn abort(&self, connection: &Connection) {
        // An ordinary end would mean that everything was sent.
        let _ = connection.stream.reset_on_close();
        self.leave(connection);
    }

    fn writing(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Connection>>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends an idle connection, unless there was a turn within the timeout: returns the time of the next check.
    pub(super) fn end_if_idle(&mut self, key: DefaultKey, timeout: u64) -> Option<u64> {
        let mut found = None;
        self.lot.find(std::iter::once((key, ())), |one, ()| found = Some(Arc::clone(one)));
        let connection = found?;
        let now = self.lot.now();
        let due = connection.last_turn().saturating_add(timeout);
        if due > now {
            return Some(due);
        }
        match connection.stream.unpark(&self.lot.lot) {
            // Input arrived in time, and no worker was free to look.
            Ok(Unparked::Claimed) if may_be_read(&connection.stream) => {
                self.enqueue(connection);
                Some(now.saturating_add(timeout))
            }
            Ok(Unparked::Claimed) => {
                self.count_unparked(&connection);
                let result = Err(EndReason::IdleTimeout.into_error());
                self.close(&connection, result);
                None
            }
            // It has a turn or a writer at this moment.
            Ok(Unparked::Marked) => Some(now.saturating_add(timeout)),
            Ok(Unparked::Gone) | Err(_) => None,
        }
    }
}

/// A copy of the bytes, with room for a whole buffer; `None` if there is no memory for it.
fn unsent(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(BUFFER_BYTES).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

/// Whether there is input, the end of the stream, or an error.
fn may_be_read(stream: &Stream) -> bool {
    stream.wait_readable(Some(Duration::ZERO)).unwrap_or(true)
}
