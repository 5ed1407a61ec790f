//! The client with a thread for each connection, which waits for each answer.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use crate::agenda::Schedule;
use crate::net::Stream;
use crate::run::{Run, Window};
use crate::talk::Talk;
use crate::tally::{self, Tally};

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// As much as is sent before anything is read. A client that sends more and does not listen meanwhile
/// waits for a server that waits for it.
const UNHEARD_BYTES_MAX: usize = 32 * 1024;

/// How long one wait is at most, so that the end is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// After so long whoever watches is told of answers.
const TELLING_PERIOD: u64 = 100_000_000;

/// How long nothing is tried after a connection could not be made.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What ends a connection.
type Failed = &'static str;

pub(crate) fn work(run: &Run, share: Range<usize>) -> Tally {
    let mut tally = Tally::new(share.len());
    let Some(connection) = share.into_iter().next() else { return tally };
    let connected = if run.is_stopped() { None } else { Some(connect(run, connection)) };
    let stream = match connected {
        None => None,
        Some(Ok(stream)) => {
            tally.established += 1;
            run.tell_connected();
            Some(stream)
        }
        Some(Err(error)) => {
            tally.failed(tally::name(&error));
            None
        }
    };
    let window = run.wait_for_all();
    // At a rate, what is due is due also without a connection.
    if let Some(window) = window.filter(|_| stream.is_some() || run.plan.rate.is_some()) {
        Asker::new(run, connection, window).talk(stream, &mut tally);
    }
    tally
}

fn connect(run: &Run, connection: usize) -> io::Result<Stream> {
    let stream = run.connect(connection)?;
    stream.set_read_timeout(WAIT_MAX)?;
    Ok(stream)
}

struct Asker<'run> {
    run: &'run Run,
    connection: usize,
    /// How often another connection was made.
    attempts: usize,
    window: Window,
    talk: Talk,
    buffer: Vec<u8>,
    told: (u64, u64),
    /// Whether all that is under way can be sent before anything is read.
    is_short: bool,
    /// Whether the connection works; see [`Tally::left`].
    is_left: bool,
    /// Bytes came after the time was over.
    is_heard_late: bool,
}

impl<'run> Asker<'run> {
    fn new(run: &'run Run, connection: usize, window: Window) -> Asker<'run> {
        let plan = &run.plan;
        let is_short = plan.message_bytes.saturating_mul(plan.pipeline) <= UNHEARD_BYTES_MAX;
        Asker {
            run,
            connection,
            attempts: 0,
            window,
            talk: Talk::new(&run.pattern, plan.message_bytes, connection),
            buffer: vec![0; BUFFER_BYTES.min(plan.message_bytes * plan.pipeline).max(1)],
            told: (window.began, 0),
            is_short,
            is_left: false,
            is_heard_late: false,
        }
    }

    fn talk(&mut self, stream: Option<Stream>, tally: &mut Tally) {
        self.is_left = stream.is_some();
        self.exchange_all(stream, tally);
        tally.left = usize::from(self.is_left);
    }

    fn exchange_all(&mut self, mut stream: Option<Stream>, tally: &mut Tally) {
        let connections = self.run.plan.connections as u64;
        let schedule = self.run.plan.rate.map(|rate| Schedule::new(rate, self.window.began));
        let mut asked = 0;
        loop {
            let now = self.run.now();
            let due = match schedule {
                None => now,
                Some(schedule) => schedule.due(asked * connections + self.connection as u64),
            };
            // At a rate, what was due in time is asked even if it is late by now.
            let is_too_late = due >= self.window.until || now >= self.window.give_up;
            if is_too_late || self.run.is_stopped() {
                break;
            }
            if due > now {
                let until = due.min(self.window.until);
                std::thread::sleep(Duration::from_nanos(until - now).min(WAIT_MAX));
                continue;
            }
            if stream.is_none() && !self.run.plan.churn {
                tally.failed(tally::NO_CONNECTION);
                asked += 1;
                continue;
            }
            if stream.is_none() {
                stream = self.reconnect(tally);
                if stream.is_none() {
                    std::thread::sleep(RETRY_PAUSE);
                    continue;
                }
            }
            self.talk.begin(due);
            asked += 1;
            if schedule.is_none() && !self.run.plan.churn {
                while self.talk.under_way() < self.run.plan.pipeline {
                    self.talk.begin(now);
                }
            }
            let answered = stream.as_ref().map(|stream| self.exchange(stream, tally));
            if let Some(Err(why)) = answered {
                self.fail(why, tally);
                stream = None;
                self.talk.forget();
                if !self.run.plan.churn && schedule.is_none() {
                    return;
                }
            } else if self.run.plan.churn {
                stream = None;
                self.talk.forget();
                tally.connects += u64::from(self.window.counts(self.run.now()));
            }
            self.tell(tally);
        }
        if let Some(schedule) = schedule.filter(|_| !self.run.is_stopped()) {
            let others = connections - 1 - self.connection as u64;
            let own = (schedule.count(self.window.until) + others) / connections;
            tally.failed_times(tally::UNASKED, own.saturating_sub(asked));
        }
        // What is still under way has its time.
        while let Some(stream) = stream.as_ref().filter(|_| self.talk.under_way() > 0) {
            if let Err(why) = self.exchange(stream, tally) {
                self.fail(why, tally);
                return;
            }
        }
    }

    fn fail(&mut self, why: Failed, tally: &mut Tally) {
        self.is_left = why == tally::UNANSWERED && self.is_heard_late;
        // Ended early, an answer was not waited for.
        let lost = self.talk.under_way() as u64;
        if why != tally::UNANSWERED {
            tally.failed(why);
            if self.run.plan.rate.is_some() {
                tally.failed_times(tally::UNANSWERED, lost);
            }
        } else if !self.run.is_stopped() {
            tally.failed_times(tally::UNANSWERED, lost);
        }
    }

    fn reconnect(&mut self, tally: &mut Tally) -> Option<Stream> {
        // Each connection's own sequence of sources.
        self.attempts += 1;
        let turn = self.connection + self.attempts;
        let stream =
            connect(self.run, turn).map_err(|error| tally.failed(tally::name(&error))).ok();
        self.is_left = stream.is_some();
        stream
    }

    /// Sends what is begun, and waits until a message is answered.
    fn exchange(&mut self, stream: &Stream, tally: &mut Tally) -> Result<(), Failed> {
        let mut writer = stream;
        while self.is_short && !self.talk.unsent().is_empty() {
            let bytes = writer.write(self.talk.unsent()).map_err(|error| tally::name(&error))?;
            self.talk.was_sent(bytes);
        }
        loop {
            let bytes = if self.is_short { self.read(stream)? } else { self.go_on(stream)? };
            self.is_heard_late |= self.run.now() >= self.window.until;
            let completed = self.talk.receive(&self.buffer[..bytes]).map_err(|_| tally::LIE)?;
            if completed > 0 {
                let now = self.run.now();
                for _ in 0..completed {
                    let due = self.talk.take_completed();
                    tally.answered(0, &self.window, due, now);
                }
                return Ok(());
            }
        }
    }

    /// Waits for bytes.
    fn read(&mut self, mut stream: &Stream) -> Result<usize, Failed> {
        loop {
            match stream.read(&mut self.buffer) {
                Ok(0) => return Err(tally::CLOSED),
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(tally::name(&error)),
            }
            self.look_at_the_clock()?;
        }
    }

    /// Sends and reads what can be sent and read. How many bytes have come.
    fn go_on(&mut self, stream: &Stream) -> Result<usize, Failed> {
        let failed = |error: &io::Error| tally::name(error);
        loop {
            self.look_at_the_clock()?;
            if !self.talk.unsent().is_empty() {
                match stream.try_write(self.talk.unsent()) {
                    Ok(bytes) => self.talk.was_sent(bytes),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(failed(&error)),
                }
            }
            match stream.try_read(&mut self.buffer) {
                Ok(0) => return Err(tally::CLOSED),
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
            if self.talk.unsent().is_empty() {
                stream.wait_readable(WAIT_MAX).map_err(|error| failed(&error))?;
            } else {
                stream.wait_either(WAIT_MAX).map_err(|error| failed(&error))?;
            }
        }
    }

    fn look_at_the_clock(&self) -> Result<(), Failed> {
        let is_over = self.run.now() > self.window.give_up || self.run.is_stopped();
        if is_over { Err(tally::UNANSWERED) } else { Ok(()) }
    }

    fn tell(&mut self, tally: &Tally) {
        let now = self.run.now();
        if now - self.told.0 >= TELLING_PERIOD {
            self.run.tell_answered(tally.messages - self.told.1);
            self.told = (now, tally.messages);
        }
    }
}
