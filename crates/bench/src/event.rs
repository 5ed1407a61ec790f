//! The event client: each thread drives many connections in an event loop.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::error_kind;
use crate::net::{ClientSocket, EventPoller};
use crate::open_loop::{self, OpenLoopQueue, Schedule};
use crate::run_context::{RunContext, Window};
use crate::session::EchoSession;
use crate::worker_stats::WorkerStats;

/// The size of the read buffer.
const BUFFER_BYTES: usize = 256 * 1024;

/// The maximum duration of one wait in nanoseconds, so that the end of the run is noticed.
const WAIT_MAX: u64 = 50_000_000;

/// The pause on a slot after a failed attempt to connect, in nanoseconds.
const RETRY_PAUSE: u64 = 10_000_000;

/// The connections of one thread.
pub(crate) struct EventClient<'run> {
    run: &'run RunContext,
    poller: EventPoller,
    slots: Vec<ConnectionSlot>,
    first: usize,
    buffer: Vec<u8>,
    /// When to try again, on which slots.
    retries: VecDeque<(u64, usize)>,
    /// Connections made so far, by which the next source is chosen.
    made: usize,
    /// Messages in flight, on all connections.
    in_flight: usize,
    /// The measured time has ended; waits for the messages in flight.
    is_late: bool,
}

struct ConnectionSlot {
    stream: Option<ClientSocket>,
    session: EchoSession,
    /// The number of earlier connections: an event may belong to one that is closed.
    generation: u32,
    /// Messages that are due and wait for the previous one, where each has a connection of its own.
    waiting: VecDeque<u64>,
    /// The last connection, or the last attempt to connect, failed.
    has_failed: bool,
    /// Bytes arrived after the measured time.
    received_late: bool,
}

impl ConnectionSlot {
    fn new(session: EchoSession) -> ConnectionSlot {
        let waiting = VecDeque::new();
        ConnectionSlot {
            stream: None,
            session,
            generation: 0,
            waiting,
            has_failed: true,
            received_late: false,
        }
    }

    /// See [`WorkerStats::working_at_end`].
    fn works(&self) -> bool {
        !self.has_failed && (self.session.in_flight() == 0 || self.received_late)
    }
}

/// Why a connection ended.
enum ConnectionEnd {
    /// It carried its one message.
    Done,
    Failed(&'static str),
}

impl<'run> EventClient<'run> {
    pub(crate) fn connect(
        run: &'run RunContext,
        share: Range<usize>,
        stats: &mut WorkerStats,
    ) -> io::Result<EventClient<'run>> {
        let mut all = EventClient {
            run,
            poller: EventPoller::new(&run.host)?,
            slots: Vec::with_capacity(share.len()),
            first: share.start,
            buffer: vec![0; BUFFER_BYTES],
            retries: VecDeque::new(),
            made: share.len(),
            in_flight: 0,
            is_late: false,
        };
        for connection in share {
            let session = EchoSession::new(&run.payload, run.plan.message_bytes, connection);
            let mut slot = ConnectionSlot::new(session);
            let is_hopeless = !stats.errors.is_empty() && run.has_none_connected();
            if !run.is_stopped() && !is_hopeless {
                let index = all.slots.len();
                match run.connect(connection).and_then(|stream| all.watch(index, 0, stream)) {
                    Ok(stream) => {
                        slot.stream = Some(stream);
                        slot.has_failed = false;
                        stats.established += 1;
                        run.count_connected();
                    }
                    Err(error) => stats.record_error(error_kind::of(&error)),
                }
            }
            all.slots.push(slot);
        }
        Ok(all)
    }

    fn watch(
        &self,
        index: usize,
        generation: u32,
        stream: ClientSocket,
    ) -> io::Result<ClientSocket> {
        self.poller.add(&stream, u64::from(generation) << 32 | index as u64)?;
        Ok(stream)
    }

    pub(crate) fn drive(&mut self, window: Window, stats: &mut WorkerStats) {
        let run = self.run;
        let mut queue = run.plan.rate.map(|rate| {
            // Each thread has a share of the rate, by its connections.
            let part = self.slots.len() as f64 / run.plan.connections.max(1) as f64;
            let schedule = Schedule::new(rate * part, window.start);
            OpenLoopQueue::new(schedule, window.until, open_loop::IN_FLIGHT_MAX)
        });
        if queue.is_none() {
            for index in 0..self.slots.len() {
                for _ in 0..run.plan.pipeline {
                    self.send_message(index, run.now(), stats);
                }
            }
        }
        loop {
            let mut now = run.now();
            let is_over = now >= window.until || run.is_stopped();
            if let Some(queue) = queue.as_mut().filter(|_| !run.is_stopped()) {
                self.send_due(queue, now, stats);
                now = run.now();
            }
            let is_done = self.in_flight == 0 && queue.is_none_or(|queue| queue.is_done());
            if is_over && (is_done || now >= window.deadline || run.is_stopped()) {
                break;
            }
            if self.in_flight == 0 && queue.is_none() && !run.plan.churn {
                // Each working connection has a message in flight: there is none left.
                break;
            }
            self.is_late = is_over;
            while let Some((_, index)) = self.retries.pop_front_if(|(at, _)| *at <= now) {
                match self.slots[index].waiting.pop_front() {
                    Some(due) => {
                        self.in_flight -= 1;
                        self.send_message(index, due, stats);
                    }
                    None if queue.is_none() && !is_over && self.is_free(index) => {
                        self.send_message(index, now, stats);
                    }
                    None => {}
                }
            }
            // A whole number of milliseconds costs one call less; only an open loop needs more.
            let wait = queue.and_then(|queue| queue.wait(now, self.in_flight));
            let wait = wait.unwrap_or(WAIT_MAX);
            let wait = match self.retries.front() {
                Some((at, _)) => wait.min(at.saturating_sub(now).max(1_000_000)),
                None => wait,
            };
            let tokens: Vec<u64> = match self.poller.wait(Duration::from_nanos(wait.min(WAIT_MAX)))
            {
                Ok(tokens) => tokens.collect(),
                Err(error) => {
                    stats.record_error(error_kind::of(&error));
                    break;
                }
            };
            let before = stats.messages;
            for token in tokens {
                let (generation, index) = ((token >> 32) as u32, (token & 0xffff_ffff) as usize);
                if self.slots[index].generation == generation {
                    self.serve(index, window, queue.is_some(), stats);
                }
            }
            run.count_replies(stats.messages - before);
        }
        stats.working_at_end = self.slots.iter().filter(|slot| slot.works()).count();
        // A run that is stopped does not wait for replies.
        if !run.is_stopped() {
            let waiting: usize = self.slots.iter().map(|slot| slot.waiting.len()).sum();
            stats.record_errors(error_kind::UNANSWERED, (self.in_flight - waiting) as u64);
            let left = queue.map_or(0, |queue| queue.left());
            stats.record_errors(error_kind::NEVER_SENT, left + waiting as u64);
        }
    }

    /// Sends messages of an open loop that are due.
    fn send_due(&mut self, queue: &mut OpenLoopQueue, now: u64, stats: &mut WorkerStats) {
        for _ in 0..open_loop::BURST_MAX {
            let Some((message, due)) = queue.take(now, self.in_flight) else { break };
            self.send_or_queue((message % self.slots.len() as u64) as usize, due, stats);
        }
    }

    /// Sends a message of an open loop, or queues it if its connection is busy.
    fn send_or_queue(&mut self, index: usize, due: u64, stats: &mut WorkerStats) {
        let slot = &self.slots[index];
        let is_busy = slot.session.in_flight() > 0 || !slot.waiting.is_empty();
        if self.run.plan.churn && is_busy {
            self.slots[index].waiting.push_back(due);
            self.in_flight += 1;
            return;
        }
        if !self.run.plan.churn && self.slots[index].stream.is_none() {
            stats.record_error(error_kind::NO_CONNECTION);
            return;
        }
        self.send_message(index, due, stats);
    }

    /// Whether a slot has no message in flight.
    fn is_free(&self, index: usize) -> bool {
        self.slots[index].session.in_flight() == 0
    }

    /// Schedules a message, and sends as much of it as the socket accepts.
    fn send_message(&mut self, index: usize, due: u64, stats: &mut WorkerStats) {
        if self.slots[index].stream.is_none()
            && !(self.run.plan.churn && self.reconnect(index, stats))
        {
            return;
        }
        self.slots[index].session.schedule(due);
        self.in_flight += 1;
        self.send(index, stats);
    }

    /// Opens a new connection on a slot.
    fn reconnect(&mut self, index: usize, stats: &mut WorkerStats) -> bool {
        let (run, made) = (self.run, self.made);
        self.made += 1;
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        let generation = slot.generation;
        let begun = run.target.begin_connect(&run.host, run.plan.source(self.first + made));
        match begun.and_then(|stream| self.watch(index, generation, stream)) {
            Ok(stream) => {
                self.slots[index].stream = Some(stream);
                self.slots[index].has_failed = false;
                true
            }
            Err(error) => {
                stats.record_error(error_kind::of(&error));
                self.slots[index].has_failed = true;
                self.retries.push_back((run.now() + RETRY_PAUSE, index));
                false
            }
        }
    }

    fn send(&mut self, index: usize, stats: &mut WorkerStats) {
        let ConnectionSlot { stream: Some(stream), session, .. } = &mut self.slots[index] else {
            return;
        };
        while !session.unsent().is_empty() {
            match stream.try_write(session.unsent()) {
                Ok(bytes) => session.mark_sent(bytes),
                // An event follows when the connection is established.
                Err(error) if would_block(&error) => return,
                Err(error) => {
                    self.end(index, &ConnectionEnd::Failed(error_kind::of(&error)), stats);
                    if self.run.plan.churn {
                        self.retries.push_back((self.run.now() + RETRY_PAUSE, index));
                    }
                    return;
                }
            }
        }
    }

    /// Reads, schedules the next messages, and sends as much as the socket accepts.
    fn serve(&mut self, index: usize, window: Window, is_open: bool, stats: &mut WorkerStats) {
        let ended = self.receive(index, window, is_open, stats);
        match ended {
            None => self.send(index, stats),
            Some(end) => {
                self.end(index, &end, stats);
                let is_over = self.run.now() >= window.until || self.run.is_stopped();
                if let Some(due) = self.slots[index].waiting.pop_front() {
                    self.in_flight -= 1;
                    self.send_message(index, due, stats);
                } else if self.run.plan.churn && !is_open && !is_over {
                    self.send_message(index, self.run.now(), stats);
                }
            }
        }
    }

    fn receive(
        &mut self,
        index: usize,
        window: Window,
        is_open: bool,
        stats: &mut WorkerStats,
    ) -> Option<ConnectionEnd> {
        let run = self.run;
        let ConnectionSlot { stream: Some(stream), session, received_late, .. } =
            &mut self.slots[index]
        else {
            return None;
        };
        loop {
            let bytes = match stream.try_read(&mut self.buffer) {
                Ok(0) => return Some(ConnectionEnd::Failed(error_kind::CLOSED)),
                Ok(bytes) => bytes,
                Err(error) if would_block(&error) => return None,
                Err(error) => return Some(ConnectionEnd::Failed(error_kind::of(&error))),
            };
            *received_late |= self.is_late;
            let Ok(completed) = session.receive(&self.buffer[..bytes]) else {
                return Some(ConnectionEnd::Failed(error_kind::WRONG_BYTES));
            };
            if completed > 0 {
                let now = run.now();
                for _ in 0..completed {
                    let due = session.take_completed();
                    self.in_flight -= 1;
                    stats.record_reply(index, &window, due, now);
                    if run.plan.churn {
                        stats.connects += u64::from(window.contains(now));
                        return Some(ConnectionEnd::Done);
                    }
                    if !is_open && now < window.until {
                        session.schedule(now);
                        self.in_flight += 1;
                    }
                }
            }
            if bytes < self.buffer.len() && completed > 0 {
                // That was all; more bytes are another event. After half a reply, read on: the connection
                // may be closed.
                return None;
            }
        }
    }

    /// Closes a slot's connection. Its messages in flight get no reply.
    fn end(&mut self, index: usize, end: &ConnectionEnd, stats: &mut WorkerStats) {
        let slot = &mut self.slots[index];
        slot.stream = None;
        slot.generation = slot.generation.wrapping_add(1);
        let lost = slot.session.in_flight();
        self.in_flight -= lost;
        slot.session.reset();
        if let ConnectionEnd::Failed(why) = end {
            slot.has_failed = true;
            stats.record_error(why);
            if self.run.plan.rate.is_some() {
                stats.record_errors(error_kind::UNANSWERED, lost as u64);
            }
        }
    }
}

/// Nothing to read, no room to write, or not connected yet.
fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
