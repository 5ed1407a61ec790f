//! A worker: waits for events, and serves the connections that have them, in turns.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use slotmap::{DefaultKey, Key, KeyData};

use super::super::drain::SLICE;
use super::super::parking_counts::Tally;
use super::WaitResources;
use super::connection::{Connection, Unsent};
use super::lot::{BUFFER_BYTES, ConnectionLot, is_cancelled};
use super::timeouts::{Awaited, Timeouts};
use crate::echo::{EndReason, Turn, reset_by};
use crate::net::{AdaptiveSpin, Events, Poller, Stream, Trigger};
use crate::ownership::Unparked;
use crate::ownership::closing::catch_panic;

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
    pub(super) timeouts: Timeouts,
    /// At the end of a drain: connections of this task that have sent everything, which has not arrived yet.
    finishing: Vec<Arc<Connection>>,
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
            timeouts: Timeouts::new(),
            finishing: Vec::new(),
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
                    return self.abort_held();
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
        let due = self.timeouts.next().map(|at| self.lot.until(at));
        // No event tells that what was sent has arrived.
        let slice = (!self.finishing.is_empty()).then_some(SLICE);
        let seen = self.look([timeout, due, slice].into_iter().flatten().min())?;
        for _ in 0..self.queue.len() {
            let Some(connection) = self.queue.pop_front() else { break };
            self.serve(connection);
        }
        self.end_due();
        self.finish_arrived();
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

    /// Sends what could not be sent before, and then has one turn.
    fn serve(&mut self, connection: Arc<Connection>) {
        if self.lot.is_draining()
            && let Err(error) = connection.drain()
        {
            return self.close(&connection, Err(error));
        }
        if connection.is_blocked() {
            match self.send_unsent(&connection) {
                Ok(true) => {}
                Ok(false) => return self.park(connection),
                Err(error) => return self.close(&connection, Err(error)),
            }
        }
        let turn = catch_panic(|| self.lot.turns().turn(&connection.stream, &mut self.buffer));
        match turn {
            Ok(Ok(Turn::Drained)) if self.may_have_more(&connection) => {
                self.queue.push_back(connection);
            }
            Ok(Ok(Turn::Drained)) => self.park(connection),
            Ok(Ok(Turn::More)) => self.queue.push_back(connection),
            Ok(Ok(Turn::Finished)) => self.finish(connection),
            Ok(Ok(Turn::Blocked { from, to })) => match self.block(&connection, from, to) {
                // It is sent first, before the next event tells that there is room.
                Ok(()) => self.queue.push_back(connection),
                Err(error) => self.close(&connection, Err(error)),
            },
            Ok(Err(error)) => self.close(&connection, Err(error)),
            Err(panic) => {
                tracing::error!(task = %connection, "panicked: {}", echown_fd::escape::text(&panic));
                self.abort(&connection);
                self.lot.end_silently(&connection, EndReason::Panic);
            }
        }
    }

    /// Keeps what could not be sent of the buffer until the client has read.
    ///
    /// # Errors
    /// There is no memory for it.
    fn block(&mut self, connection: &Arc<Connection>, from: usize, to: usize) -> io::Result<()> {
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(to - from).is_err() {
            return Err(reset_by(&connection.stream, io::ErrorKind::OutOfMemory.into()));
        }
        bytes.extend_from_slice(&self.buffer[from..to]);
        if !connection.reports_room() {
            let key = connection.key.data().as_ffi();
            self.connections().report_room(&connection.stream, key)?;
        }
        let (place, longest) = self.lot.block(connection);
        let since = self.lot.now();
        *connection.unsent() = Some(Unsent { bytes, sent: 0, place, since });
        connection.set_blocked(true);
        self.watch_blocked(connection, since);
        longest.into_iter().for_each(|key| self.displace(key));
        Ok(())
    }

    /// Sends what could not be sent before, until it would have to wait. Returns whether all of it is sent.
    fn send_unsent(&self, connection: &Connection) -> io::Result<bool> {
        let mut place = connection.unsent();
        let Some(unsent) = &mut *place else { return Ok(true) };
        while unsent.sent < unsent.bytes.len() {
            match connection.stream.try_write(&unsent.bytes[unsent.sent..]) {
                Ok(sent) => {
                    unsent.sent += sent;
                    unsent.since = self.lot.now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // An injected error is followed by no event.
                    if self.lot.has_faults
                        && connection.stream.wait_writable(Some(Duration::ZERO))?
                    {
                        continue;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(reset_by(&connection.stream, error)),
            }
        }
        self.lot.unblock(unsent.place);
        *place = None;
        connection.set_blocked(false);
        Ok(true)
    }

    /// Closes a connection that has waited longest for its client, because too many wait.
    fn displace(&mut self, key: DefaultKey) {
        let Some(connection) = self.lot.get(key) else { return };
        // If a worker has it at this moment, it may be about to continue.
        if let Ok(Unparked::Claimed) = connection.stream.unpark(&self.lot.lot) {
            self.count_unparked(&connection);
            let error = reset_by(&connection.stream, EndReason::Displaced.into_error());
            self.close(&connection, Err(error));
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
        if self.lot.is_draining() && !has_arrived(&connection) {
            return self.finishing.push(connection);
        }
        let result = self.lot.finish(&connection);
        self.close(&connection, result);
    }

    /// Ends the connections whose clients have got everything.
    fn finish_arrived(&mut self) {
        let arrived: Vec<_> = self.finishing.extract_if(.., |one| has_arrived(one)).collect();
        for connection in arrived {
            let result = self.lot.finish(&connection);
            self.close(&connection, result);
        }
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

    /// Where connections are registered.
    fn connections(&self) -> &Poller {
        self.connections.as_ref().unwrap_or(&self.wait.poller)
    }

    /// Closes the connections that this task has, which are not complete.
    pub(super) fn abort_held(&mut self) {
        let held = self.queue.drain(..).chain(self.finishing.drain(..)).collect::<Vec<_>>();
        for connection in held {
            self.abort(&connection);
            self.lot.end_silently(&connection, EndReason::Aborted);
        }
    }

    /// Closes a connection of this task that is not complete.
    pub(super) fn abort(&self, connection: &Connection) {
        // An ordinary end would mean that everything was sent.
        let _ = connection.stream.reset_on_close();
        self.leave(connection);
    }

    /// Ends a new connection if there is no input for too long.
    pub(super) fn watch_idle(&mut self, connection: &Connection) {
        if let Some(timeout) = self.lot.timeouts.idle {
            connection.set_last_turn(self.lot.now());
            let at = self.lot.now().saturating_add(timeout);
            self.watch(at, connection.key, Awaited::Input);
        }
    }

    /// Ends a connection that is blocked since then, if its client reads nothing for too long.
    fn watch_blocked(&mut self, connection: &Connection, since: u64) {
        if let Some(timeout) = self.lot.timeouts.write
            && !connection.set_write_timeout(true)
        {
            self.watch(since.saturating_add(timeout), connection.key, Awaited::Room);
        }
    }

    fn watch(&mut self, at: u64, key: DefaultKey, awaited: Awaited) {
        self.timeouts.watch(at, key, awaited);
        if self.timeouts.is_to_be_pruned() {
            self.lot.prune(&mut self.timeouts);
        }
    }

    /// Ends the connections that have waited for too long.
    fn end_due(&mut self) {
        if self.timeouts.next().is_none() {
            return;
        }
        while let Some((key, awaited)) = self.timeouts.due(self.lot.now()) {
            let Some(connection) = self.lot.get(key) else { continue };
            match awaited {
                Awaited::Input => self.end_if_idle(&connection),
                Awaited::Room => self.end_if_blocked(&connection),
            }
        }
    }

    /// Ends an idle connection, unless there was a turn within the timeout.
    fn end_if_idle(&mut self, connection: &Arc<Connection>) {
        let Some(timeout) = self.lot.timeouts.idle else { return };
        let now = self.lot.now();
        let later = now.saturating_add(timeout);
        let due = connection.last_turn().saturating_add(timeout);
        let (key, awaited) = (connection.key, Awaited::Input);
        if due > now {
            return self.watch(due, key, awaited);
        }
        if connection.is_blocked() {
            // Its write timeout counts.
            return self.watch(later, key, awaited);
        }
        match connection.stream.unpark(&self.lot.lot) {
            // Input arrived in time, and no worker was free to look.
            Ok(Unparked::Claimed) if may_be_read(&connection.stream) => {
                self.enqueue(Arc::clone(connection));
                self.watch(later, key, awaited);
            }
            Ok(Unparked::Claimed) => {
                self.count_unparked(connection);
                self.close(connection, Err(EndReason::IdleTimeout.into_error()));
            }
            // It has a turn at this moment.
            Ok(Unparked::Marked) => self.watch(later, key, awaited),
            Ok(Unparked::Gone) | Err(_) => {}
        }
    }

    /// Ends a blocked connection, unless its client has read something within the timeout.
    fn end_if_blocked(&mut self, connection: &Arc<Connection>) {
        connection.set_write_timeout(false);
        let Some(timeout) = self.lot.timeouts.write else { return };
        if !connection.is_blocked() {
            return;
        }
        let now = self.lot.now();
        match connection.stream.unpark(&self.lot.lot) {
            Ok(Unparked::Claimed) => {
                let since = connection.unsent().as_ref().map(|unsent| unsent.since);
                match since.map(|since| since.saturating_add(timeout)) {
                    Some(due) if due <= now => {
                        self.count_unparked(connection);
                        let error = EndReason::WriteTimeout.into_error();
                        let error = reset_by(&connection.stream, error);
                        self.close(connection, Err(error));
                    }
                    Some(_) => {
                        self.watch_blocked(connection, since.unwrap_or(now));
                        self.enqueue(Arc::clone(connection));
                    }
                    None => self.enqueue(Arc::clone(connection)),
                }
            }
            // It has a turn at this moment.
            Ok(Unparked::Marked) => self.watch_blocked(connection, now),
            Ok(Unparked::Gone) | Err(_) => {}
        }
    }
}

/// Whether the client's system has everything that was sent, or will never get it.
fn has_arrived(connection: &Connection) -> bool {
    connection.stream.wait_sent(Duration::ZERO).unwrap_or(true)
}

/// Whether there is input, the end of the stream, or an error.
fn may_be_read(stream: &Stream) -> bool {
    stream.wait_readable(Some(Duration::ZERO)).unwrap_or(true)
}
