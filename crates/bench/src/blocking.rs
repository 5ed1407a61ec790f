//! The blocking client: a thread for each connection, which waits for each reply.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use crate::error_kind;
use crate::net::ClientSocket;
use crate::open_loop::Schedule;
use crate::run_context::{RunContext, Window};
use crate::session::EchoSession;
use crate::worker_stats::WorkerStats;

/// The size of the read buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// The maximum number of bytes that are sent before any are read. A client that sends more without
/// reading deadlocks with a server that waits for it to read.
const UNREAD_BYTES_MAX: usize = 32 * 1024;

/// The maximum duration of one wait, so that the end of the run is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// How often replies are counted for the progress, in nanoseconds.
const PROGRESS_INTERVAL: u64 = 100_000_000;

/// The pause after a failed attempt to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Why a connection ended.
type EndReason = &'static str;

pub(crate) fn work(run: &RunContext, share: Range<usize>) -> WorkerStats {
    let mut stats = WorkerStats::new(share.len());
    let Some(connection) = share.into_iter().next() else { return stats };
    let connected = if run.is_stopped() { None } else { Some(connect(run, connection)) };
    let stream = match connected {
        None => None,
        Some(Ok(stream)) => {
            stats.established += 1;
            run.count_connected();
            Some(stream)
        }
        Some(Err(error)) => {
            stats.record_error(error_kind::of(&error));
            None
        }
    };
    let window = run.wait_for_all();
    // In an open loop, messages are due also without a connection.
    if let Some(window) = window.filter(|_| stream.is_some() || run.plan.rate.is_some()) {
        BlockingClient::new(run, connection, window).drive(stream, &mut stats);
    }
    stats
}

fn connect(run: &RunContext, connection: usize) -> io::Result<ClientSocket> {
    let stream = run.connect(connection)?;
    stream.set_read_timeout(WAIT_MAX)?;
    Ok(stream)
}

struct BlockingClient<'run> {
    run: &'run RunContext,
    connection: usize,
    /// The number of reconnects.
    attempts: usize,
    window: Window,
    session: EchoSession,
    buffer: Vec<u8>,
    reported: (u64, u64),
    /// Whether all messages in flight can be sent before anything is read.
    is_short: bool,
    /// See [`WorkerStats::working_at_end`].
    works: bool,
    /// Bytes arrived after the measured time.
    received_late: bool,
}

impl<'run> BlockingClient<'run> {
    fn new(run: &'run RunContext, connection: usize, window: Window) -> BlockingClient<'run> {
        let plan = &run.plan;
        let is_short = plan.message_bytes.saturating_mul(plan.pipeline) <= UNREAD_BYTES_MAX;
        BlockingClient {
            run,
            connection,
            attempts: 0,
            window,
            session: EchoSession::new(&run.payload, plan.message_bytes, connection),
            buffer: vec![0; BUFFER_BYTES.min(plan.message_bytes * plan.pipeline).max(1)],
            reported: (window.start, 0),
            is_short,
            works: false,
            received_late: false,
        }
    }

    fn drive(&mut self, stream: Option<ClientSocket>, stats: &mut WorkerStats) {
        self.works = stream.is_some();
        self.exchange_all(stream, stats);
        stats.working_at_end = usize::from(self.works);
    }

    fn exchange_all(&mut self, mut stream: Option<ClientSocket>, stats: &mut WorkerStats) {
        let connections = self.run.plan.connections as u64;
        let schedule = self.run.plan.rate.map(|rate| Schedule::new(rate, self.window.start));
        let mut sent = 0;
        loop {
            let now = self.run.now();
            let due = match schedule {
                None => now,
                Some(schedule) => schedule.due(sent * connections + self.connection as u64),
            };
            // In an open loop, a message that was due in time is sent even if it is late.
            let is_too_late = due >= self.window.until || now >= self.window.deadline;
            if is_too_late || self.run.is_stopped() {
                break;
            }
            if due > now {
                let until = due.min(self.window.until);
                std::thread::sleep(Duration::from_nanos(until - now).min(WAIT_MAX));
                continue;
            }
            if stream.is_none() && !self.run.plan.churn {
                stats.record_error(error_kind::NO_CONNECTION);
                sent += 1;
                continue;
            }
            if stream.is_none() {
                stream = self.reconnect(stats);
                if stream.is_none() {
                    std::thread::sleep(RETRY_PAUSE);
                    continue;
                }
            }
            self.session.schedule(due);
            sent += 1;
            if schedule.is_none() && !self.run.plan.churn {
                while self.session.in_flight() < self.run.plan.pipeline {
                    self.session.schedule(now);
                }
            }
            let exchanged = stream.as_ref().map(|stream| self.exchange(stream, stats));
            if let Some(Err(why)) = exchanged {
                self.fail(why, stats);
                stream = None;
                self.session.reset();
                if !self.run.plan.churn && schedule.is_none() {
                    return;
                }
            } else if self.run.plan.churn {
                stream = None;
                self.session.reset();
                stats.connects += u64::from(self.window.contains(self.run.now()));
            }
            self.report_progress(stats);
        }
        if let Some(schedule) = schedule.filter(|_| !self.run.is_stopped()) {
            let others = connections - 1 - self.connection as u64;
            let own = (schedule.count(self.window.until) + others) / connections;
            stats.record_errors(error_kind::NEVER_SENT, own.saturating_sub(sent));
        }
        // Wait for the messages in flight.
        while let Some(stream) = stream.as_ref().filter(|_| self.session.in_flight() > 0) {
            if let Err(why) = self.exchange(stream, stats) {
                self.fail(why, stats);
                return;
            }
        }
    }

    fn fail(&mut self, why: EndReason, stats: &mut WorkerStats) {
        self.works = why == error_kind::UNANSWERED && self.received_late;
        // A run that is stopped does not wait for replies.
        let lost = self.session.in_flight() as u64;
        if why != error_kind::UNANSWERED {
            stats.record_error(why);
            if self.run.plan.rate.is_some() {
                stats.record_errors(error_kind::UNANSWERED, lost);
            }
        } else if !self.run.is_stopped() {
            stats.record_errors(error_kind::UNANSWERED, lost);
        }
    }

    fn reconnect(&mut self, stats: &mut WorkerStats) -> Option<ClientSocket> {
        // Each connection has its own sequence of sources.
        self.attempts += 1;
        let turn = self.connection + self.attempts;
        let stream = connect(self.run, turn)
            .map_err(|error| stats.record_error(error_kind::of(&error)))
            .ok();
        self.works = stream.is_some();
        stream
    }

    /// Sends scheduled messages, and waits for a reply.
    fn exchange(
        &mut self,
        stream: &ClientSocket,
        stats: &mut WorkerStats,
    ) -> Result<(), EndReason> {
        let mut writer = stream;
        while self.is_short && !self.session.unsent().is_empty() {
            let bytes =
                writer.write(self.session.unsent()).map_err(|error| error_kind::of(&error))?;
            self.session.mark_sent(bytes);
        }
        loop {
            let bytes =
                if self.is_short { self.read(stream)? } else { self.send_and_read(stream)? };
            self.received_late |= self.run.now() >= self.window.until;
            let completed =
                self.session.receive(&self.buffer[..bytes]).map_err(|_| error_kind::WRONG_BYTES)?;
            if completed > 0 {
                let now = self.run.now();
                for _ in 0..completed {
                    let due = self.session.take_completed();
                    stats.record_reply(0, &self.window, due, now);
                }
                return Ok(());
            }
        }
    }

    /// Reads, and waits for bytes.
    fn read(&mut self, mut stream: &ClientSocket) -> Result<usize, EndReason> {
        loop {
            match stream.read(&mut self.buffer) {
                Ok(0) => return Err(error_kind::CLOSED),
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error_kind::of(&error)),
            }
            self.check_deadline()?;
        }
    }

    /// Sends and reads at the same time. Returns the number of bytes read.
    fn send_and_read(&mut self, stream: &ClientSocket) -> Result<usize, EndReason> {
        let failed = |error: &io::Error| error_kind::of(error);
        loop {
            self.check_deadline()?;
            if !self.session.unsent().is_empty() {
                match stream.try_write(self.session.unsent()) {
                    Ok(bytes) => self.session.mark_sent(bytes),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(failed(&error)),
                }
            }
            match stream.try_read(&mut self.buffer) {
                Ok(0) => return Err(error_kind::CLOSED),
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
            if self.session.unsent().is_empty() {
                stream.wait_readable(WAIT_MAX).map_err(|error| failed(&error))?;
            } else {
                stream.wait_either(WAIT_MAX).map_err(|error| failed(&error))?;
            }
        }
    }

    fn check_deadline(&self) -> Result<(), EndReason> {
        let is_over = self.run.now() > self.window.deadline || self.run.is_stopped();
        if is_over { Err(error_kind::UNANSWERED) } else { Ok(()) }
    }

    fn report_progress(&mut self, stats: &WorkerStats) {
        let now = self.run.now();
        if now - self.reported.0 >= PROGRESS_INTERVAL {
            self.run.count_replies(stats.messages - self.reported.1);
            self.reported = (now, stats.messages);
        }
    }
}
