//! The client of a broadcasting server: every connection receives every frame, in one order.
//!
//! A frame starts with its sender and its number; the rest is payload. Its latency ends when it has come
//! back to its sender. Every connection verifies that it receives all frames, unchanged and in the same
//! order.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use crate::error_kind;
use crate::frame::{WireDecoder, WireFrame};
use crate::net::{ClientSocket, EventPoller};
use crate::open_loop::{self, OpenLoopQueue, Schedule};
use crate::run_context::{RunContext, Window};
use crate::worker_stats::WorkerStats;

/// Bytes of a frame for its sender and number.
pub(crate) const LABEL_BYTES: usize = 16;

/// The size of the read buffer.
const BUFFER_BYTES: usize = 256 * 1024;

/// The maximum duration of one wait in nanoseconds, so that the end of the run is noticed.
const WAIT_MAX: u64 = 50_000_000;

/// The number of the frame with which a connection joins.
const JOIN_MARKER: u64 = u64::MAX;

/// How long the echo of the joining frame may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of bytes in flight in an open loop, because they are kept until they are
/// sent. Each connection may have at least one frame.
const UNSENT_BYTES_MAX: usize = 64 << 20;

/// After this many frames, those that all connections have received are removed from the order.
const PRUNE_INTERVAL: usize = 4096;

/// The sender of a frame, and its number.
type Label = (u64, u64);

struct BroadcastConnection {
    stream: ClientSocket,
    decoder: WireDecoder,
    /// Bytes to send.
    unsent: VecDeque<u8>,
    /// When its own frames in flight were due.
    due: VecDeque<u64>,
    sent: u64,
    received_own: u64,
    /// The number of frames that it has received.
    place: u64,
    /// Frames arrived after the measured time.
    received_late: bool,
}

impl BroadcastConnection {
    /// Connects, and waits for the echo of its joining frame before the next one connects. From then on
    /// each receives every frame, so that the order starts with the same one for all of them.
    fn join(
        run: &RunContext,
        connection: usize,
        index: u64,
    ) -> Result<BroadcastConnection, &'static str> {
        let failed = |error: io::Error| error_kind::of(&error);
        let stream = run.connect(connection).map_err(failed)?;
        let mut connection = BroadcastConnection {
            stream,
            decoder: WireDecoder::new(run.plan.message_bytes),
            unsent: VecDeque::new(),
            due: VecDeque::new(),
            sent: 0,
            received_own: 0,
            place: 0,
            received_late: false,
        };
        let marker = [index.to_be_bytes(), JOIN_MARKER.to_be_bytes()].concat();
        let mut stream = &connection.stream;
        stream.set_read_timeout(JOIN_TIMEOUT).map_err(failed)?;
        stream.write_all(WireFrame::of(&marker).wire()).map_err(failed)?;
        let mut buffer = [0; 4096];
        loop {
            let bytes = match stream.read(&mut buffer) {
                Ok(0) => return Err(error_kind::CLOSED),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(error_kind::UNANSWERED);
                }
                Err(error) => return Err(error_kind::of(&error)),
            };
            let mut piece = &buffer[..bytes];
            // No other frames are sent yet, so nothing follows.
            while let Some(frame) =
                connection.decoder.take(&mut piece).map_err(|_| error_kind::WRONG_BYTES)?
            {
                match is_join_marker(frame.payload()) {
                    true if frame.payload() == marker => return Ok(connection),
                    true => {}
                    false => return Err(error_kind::WRONG_BYTES),
                }
            }
        }
    }
}

/// Whether a frame is the one with which a connection joins.
fn is_join_marker(payload: &[u8]) -> bool {
    payload.len() == LABEL_BYTES && payload.ends_with(&JOIN_MARKER.to_be_bytes())
}

/// All connections, and the order of frames that they have to agree on.
pub(crate) struct BroadcastClients<'run> {
    run: &'run RunContext,
    poller: EventPoller,
    connections: Vec<Option<BroadcastConnection>>,
    buffer: Vec<u8>,
    order: VecDeque<Label>,
    /// Frames before the first one in `order`.
    pruned: u64,
    in_flight: usize,
    /// The measured time has ended; waits for the messages in flight.
    is_late: bool,
}

impl<'run> BroadcastClients<'run> {
    pub(crate) fn connect(
        run: &'run RunContext,
        share: Range<usize>,
        stats: &mut WorkerStats,
    ) -> io::Result<BroadcastClients<'run>> {
        let poller = EventPoller::new(&run.host)?;
        let mut connections = Vec::new();
        for connection in share {
            let index = connections.len() as u64;
            let joined = BroadcastConnection::join(run, connection, index).and_then(|connection| {
                let added = poller.add(&connection.stream, index);
                added.map_err(|error| error_kind::of(&error)).map(|()| connection)
            });
            connections.push(match joined {
                Ok(connection) => {
                    stats.established += 1;
                    run.count_connected();
                    Some(connection)
                }
                Err(why) => {
                    stats.record_error(why);
                    None
                }
            });
            if run.is_stopped() || run.has_none_connected() {
                break;
            }
        }
        let buffer = vec![0; BUFFER_BYTES];
        let order = VecDeque::new();
        Ok(BroadcastClients {
            run,
            poller,
            connections,
            buffer,
            order,
            pruned: 0,
            in_flight: 0,
            is_late: false,
        })
    }

    pub(crate) fn drive(&mut self, window: Window, stats: &mut WorkerStats) {
        let run = self.run;
        let mut queue = run.plan.rate.map(|rate| {
            let schedule = Schedule::new(rate, window.start);
            let by_bytes = UNSENT_BYTES_MAX / run.plan.message_bytes.max(1);
            let least = self.connections.len().min(open_loop::IN_FLIGHT_MAX);
            let in_flight_max = by_bytes.clamp(least, open_loop::IN_FLIGHT_MAX);
            OpenLoopQueue::new(schedule, window.until, in_flight_max)
        });
        if queue.is_none() {
            for index in 0..self.connections.len() {
                for _ in 0..run.plan.pipeline {
                    self.send_frame(index, run.now(), stats);
                }
            }
        }
        loop {
            let now = run.now();
            let is_over = now >= window.until || run.is_stopped();
            if let Some(queue) = queue.as_mut().filter(|_| !run.is_stopped()) {
                self.send_due(queue, now, stats);
            }
            let is_done = self.in_flight == 0 && queue.is_none_or(|queue| queue.is_done());
            if is_over && (is_done || now >= window.deadline || run.is_stopped()) {
                break;
            }
            if self.in_flight == 0 && queue.is_none() {
                // Each working connection has a frame in flight: there is none left.
                break;
            }
            self.is_late = is_over;
            let wait = queue.and_then(|queue| queue.wait(run.now(), self.in_flight));
            let wait = Duration::from_nanos(wait.map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX)));
            let tokens: Vec<u64> = match self.poller.wait(wait) {
                Ok(tokens) => tokens.collect(),
                Err(error) => {
                    stats.record_error(error_kind::of(&error));
                    break;
                }
            };
            let before = stats.messages;
            for index in tokens.into_iter().map(|token| token as usize) {
                let again = queue.is_none().then_some(window.until);
                let served = self.receive(index, window, again, stats);
                if let Err(why) = served.and_then(|()| self.send(index)) {
                    self.close(index, why, stats);
                }
            }
            self.prune();
            run.count_replies(stats.messages - before);
        }
        let connections = self.connections.iter().flatten();
        stats.working_at_end =
            connections.filter(|it| it.due.is_empty() || it.received_late).count();
        // A run that is stopped does not wait for replies.
        if !run.is_stopped() {
            stats.record_errors(error_kind::UNANSWERED, self.in_flight as u64);
            stats.record_errors(error_kind::NEVER_SENT, queue.map_or(0, |queue| queue.left()));
        }
    }

    /// Sends frames of an open loop that are due.
    fn send_due(&mut self, queue: &mut OpenLoopQueue, now: u64, stats: &mut WorkerStats) {
        for _ in 0..open_loop::BURST_MAX {
            let Some((message, due)) = queue.take(now, self.in_flight) else { break };
            self.send_frame((message % self.connections.len() as u64) as usize, due, stats);
        }
    }

    fn close(&mut self, index: usize, why: &'static str, stats: &mut WorkerStats) {
        stats.record_error(why);
        if let Some(connection) = self.connections[index].take() {
            self.in_flight -= connection.due.len();
            if self.run.plan.rate.is_some() {
                stats.record_errors(error_kind::UNANSWERED, connection.due.len() as u64);
            }
        }
    }

    fn send_frame(&mut self, index: usize, due: u64, stats: &mut WorkerStats) {
        let payload_bytes = self.run.plan.message_bytes;
        let Some(connection) = &mut self.connections[index] else {
            stats.record_error(error_kind::NO_CONNECTION);
            return;
        };
        let label = (index as u64, connection.sent);
        let mut payload = Vec::with_capacity(payload_bytes);
        payload.extend_from_slice(&label.0.to_be_bytes());
        payload.extend_from_slice(&label.1.to_be_bytes());
        while payload.len() < payload_bytes {
            let missing = (payload_bytes - payload.len()) as u64;
            let at = offset(label) + (payload.len() - LABEL_BYTES) as u64;
            payload.extend_from_slice(self.run.payload.slice(at, missing));
        }
        connection.unsent.extend(WireFrame::of(&payload).wire());
        connection.sent += 1;
        connection.due.push_back(due);
        self.in_flight += 1;
        if let Err(why) = self.send(index) {
            self.close(index, why, stats);
        }
    }

    fn send(&mut self, index: usize) -> Result<(), &'static str> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        while !connection.unsent.is_empty() {
            match connection.stream.try_write(connection.unsent.as_slices().0) {
                Ok(bytes) => drop(connection.unsent.drain(..bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error_kind::of(&error)),
            }
        }
        Ok(())
    }

    /// Reads. `again`: until then, each own frame that comes back is followed by another one.
    fn receive(
        &mut self,
        index: usize,
        window: Window,
        again: Option<u64>,
        stats: &mut WorkerStats,
    ) -> Result<(), &'static str> {
        loop {
            let Some(connection) = &mut self.connections[index] else { return Ok(()) };
            let bytes = match connection.stream.try_read(&mut self.buffer) {
                Ok(0) => return Err(error_kind::CLOSED),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error_kind::of(&error)),
            };
            connection.received_late |= self.is_late;
            let mut frames = Vec::new();
            let mut piece = &self.buffer[..bytes];
            while let Some(frame) =
                connection.decoder.take(&mut piece).map_err(|_| error_kind::WRONG_BYTES)?
            {
                frames.push(frame);
            }
            let now = self.run.now();
            let mut more = 0;
            for frame in frames {
                if is_join_marker(frame.payload()) {
                    continue;
                }
                let label = self.check(index, frame.payload()).ok_or(error_kind::WRONG_BYTES)?;
                let Some(connection) = &mut self.connections[index] else { return Ok(()) };
                if label.0 != index as u64 {
                    continue;
                }
                if label.1 != connection.received_own {
                    return Err(error_kind::WRONG_BYTES);
                }
                connection.received_own += 1;
                let due = connection.due.pop_front().ok_or(error_kind::WRONG_BYTES)?;
                self.in_flight -= 1;
                stats.record_reply(index, &window, due, now);
                more += u64::from(again.is_some_and(|until| now < until));
            }
            for _ in 0..more {
                self.send_frame(index, now, stats);
            }
            if bytes < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// Verifies a frame: it was sent, and it is the next one in the order.
    fn check(&mut self, index: usize, payload: &[u8]) -> Option<Label> {
        let (whose, rest) = payload.split_first_chunk()?;
        let (which, mut rest) = rest.split_first_chunk()?;
        let label = (u64::from_be_bytes(*whose), u64::from_be_bytes(*which));
        if payload.len() != self.run.plan.message_bytes {
            return None;
        }
        let mut at = offset(label);
        while !rest.is_empty() {
            let wanted = self.run.payload.slice(at, rest.len() as u64);
            rest = rest.strip_prefix(wanted)?;
            at += wanted.len() as u64;
        }
        let end = self.pruned + self.order.len() as u64;
        let connection = self.connections[index].as_mut()?;
        let place = connection.place;
        connection.place = place + 1;
        if place == end {
            self.order.push_back(label);
        }
        (self.order[(place - self.pruned) as usize] == label).then_some(label)
    }

    /// Removes frames from the order that all connections have received.
    fn prune(&mut self) {
        if self.order.len() < PRUNE_INTERVAL {
            return;
        }
        let places = self.connections.iter().flatten().map(|connection| connection.place);
        let Some(first) = places.min() else { return };
        self.order.drain(..(first - self.pruned) as usize);
        self.pruned = first;
    }
}

/// The offset of a frame's bytes in the payload.
fn offset(label: Label) -> u64 {
    label.0.wrapping_mul(31).wrapping_add(label.1) % (1 << 32)
}
