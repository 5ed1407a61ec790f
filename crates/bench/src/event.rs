//! The client with an event loop: one thread talks on many connections.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::agenda::{self, Agenda, Schedule};
use crate::net::{Poller, Stream};
use crate::run::{Run, Window};
use crate::talk::Talk;
use crate::tally::{self, Tally};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// How long one wait is at most, so that the end is noticed.
const WAIT_MAX: u64 = 50_000_000;

/// How long nothing is tried on a slot whose connection could not be made.
const RETRY_PAUSE: u64 = 10_000_000;

pub(crate) fn work(run: &Run, share: Range<usize>) -> Tally {
    let mut tally = Tally::new(share.len());
    match Loop::connect(run, share, &mut tally) {
        Ok(mut all) => {
            if let Some(window) = run.wait_for_all() {
                all.talk(window, &mut tally);
            }
        }
        Err(error) => {
            tally.failed(tally::name(&error));
            let _ = run.wait_for_all();
        }
    }
    tally
}

/// The connections of one thread.
struct Loop<'run> {
    run: &'run Run,
    poller: Poller,
    slots: Vec<Slot>,
    first: usize,
    buffer: Vec<u8>,
    /// Slots that are to be tried again, and when.
    retries: VecDeque<(u64, usize)>,
    /// Connections made, by which the next one's source is chosen.
    made: usize,
    /// Messages under way, on all of them.
    under_way: usize,
    /// The time is over, and what is under way is waited for.
    is_late: bool,
}

struct Slot {
    stream: Option<Stream>,
    talk: Talk,
    /// How often the slot had another connection: an event may be of one that is gone.
    generation: u32,
    /// Messages that are due and have to wait for the end of the one before, where each has a
    /// connection of its own.
    waiting: VecDeque<u64>,
    /// The last connection, or the last attempt to have one, came to nothing.
    has_failed: bool,
    /// Bytes came after the time was over.
    is_heard_late: bool,
}

impl Slot {
    fn new(talk: Talk) -> Slot {
        let waiting = VecDeque::new();
        Slot { stream: None, talk, generation: 0, waiting, has_failed: true, is_heard_late: false }
    }

    /// Whether it works at the end; see [`Tally::left`].
    fn is_left(&self) -> bool {
        !self.has_failed && (self.talk.under_way() == 0 || self.is_heard_late)
    }
}

/// Why a connection is over.
enum End {
    /// Its message came back, and it was for one.
    Done,
    Failed(&'static str),
}

impl<'run> Loop<'run> {
    fn connect(run: &'run Run, share: Range<usize>, tally: &mut Tally) -> io::Result<Loop<'run>> {
        let mut all = Loop {
            run,
            poller: Poller::new(&run.host)?,
            slots: Vec::with_capacity(share.len()),
            first: share.start,
            buffer: vec![0; BUFFER_BYTES],
            retries: VecDeque::new(),
            made: share.len(),
            under_way: 0,
            is_late: false,
        };
        for connection in share {
            let talk = Talk::new(&run.pattern, run.plan.message_bytes, connection);
            let mut slot = Slot::new(talk);
            let is_hopeless = !tally.errors.is_empty() && run.has_none_connected();
            if !run.is_stopped() && !is_hopeless {
                let index = all.slots.len();
                match run.connect(connection).and_then(|stream| all.watch(index, 0, stream)) {
                    Ok(stream) => {
                        slot.stream = Some(stream);
                        slot.has_failed = false;
                        tally.established += 1;
                        run.tell_connected();
                    }
                    Err(error) => tally.failed(tally::name(&error)),
                }
            }
            all.slots.push(slot);
        }
        Ok(all)
    }

    fn watch(&self, index: usize, generation: u32, stream: Stream) -> io::Result<Stream> {
        self.poller.add(&stream, u64::from(generation) << 32 | index as u64)?;
        Ok(stream)
    }

    fn talk(&mut self, window: Window, tally: &mut Tally) {
        let run = self.run;
        let mut agenda = run.plan.rate.map(|rate| {
            // Each thread has its connections' part of the rate.
            let part = self.slots.len() as f64 / run.plan.connections.max(1) as f64;
            let schedule = Schedule::new(rate * part, window.began);
            Agenda::new(schedule, window.until, agenda::UNDER_WAY_MAX)
        });
        if agenda.is_none() {
            for index in 0..self.slots.len() {
                for _ in 0..run.plan.pipeline {
                    self.ask(index, run.now(), tally);
                }
            }
        }
        loop {
            let mut now = run.now();
            let is_over = now >= window.until || run.is_stopped();
            if let Some(agenda) = agenda.as_mut().filter(|_| !run.is_stopped()) {
                self.ask_what_is_due(agenda, now, tally);
                now = run.now();
            }
            let is_done = self.under_way == 0 && agenda.is_none_or(|agenda| agenda.is_done());
            if is_over && (is_done || now >= window.give_up || run.is_stopped()) {
                break;
            }
            if self.under_way == 0 && agenda.is_none() && !run.plan.churn {
                // Each connection that stands has a message under way: there is none left.
                break;
            }
            self.is_late = is_over;
            while let Some((_, index)) = self.retries.pop_front_if(|(at, _)| *at <= now) {
                match self.slots[index].waiting.pop_front() {
                    Some(due) => {
                        self.under_way -= 1;
                        self.ask(index, due, tally);
                    }
                    None if agenda.is_none() && !is_over && self.is_free(index) => {
                        self.ask(index, now, tally);
                    }
                    None => {}
                }
            }
            // A whole number of milliseconds costs one call less; only an open loop needs more.
            let wait = agenda.and_then(|agenda| agenda.wait(now, self.under_way));
            let wait = wait.unwrap_or(WAIT_MAX);
            let wait = match self.retries.front() {
                Some((at, _)) => wait.min(at.saturating_sub(now).max(1_000_000)),
                None => wait,
            };
            let tokens: Vec<u64> = match self.poller.wait(Duration::from_nanos(wait.min(WAIT_MAX)))
            {
                Ok(tokens) => tokens.collect(),
                Err(error) => {
                    tally.failed(tally::name(&error));
                    break;
                }
            };
            let before = tally.messages;
            for token in tokens {
                let (generation, index) = ((token >> 32) as u32, (token & 0xffff_ffff) as usize);
                if self.slots[index].generation == generation {
                    self.serve(index, window, agenda.is_some(), tally);
                }
            }
            run.tell_answered(tally.messages - before);
        }
        tally.left = self.slots.iter().filter(|slot| slot.is_left()).count();
        // Ended early, their answers were not waited for.
        if !run.is_stopped() {
            let waiting: usize = self.slots.iter().map(|slot| slot.waiting.len()).sum();
            tally.failed_times(tally::UNANSWERED, (self.under_way - waiting) as u64);
            let left = agenda.map_or(0, |agenda| agenda.left());
            tally.failed_times(tally::UNASKED, left + waiting as u64);
        }
    }

    /// Begins messages of an open loop that are due by now.
    fn ask_what_is_due(&mut self, agenda: &mut Agenda, now: u64, tally: &mut Tally) {
        for _ in 0..agenda::BURST_MAX {
            let Some((message, due)) = agenda.take(now, self.under_way) else { break };
            self.ask_when_due((message % self.slots.len() as u64) as usize, due, tally);
        }
    }

    /// Begins a message of an open loop, on whatever connection its turn is.
    fn ask_when_due(&mut self, index: usize, due: u64, tally: &mut Tally) {
        let slot = &self.slots[index];
        let is_busy = slot.talk.under_way() > 0 || !slot.waiting.is_empty();
        if self.run.plan.churn && is_busy {
            self.slots[index].waiting.push_back(due);
            self.under_way += 1;
            return;
        }
        if !self.run.plan.churn && self.slots[index].stream.is_none() {
            tally.failed(tally::NO_CONNECTION);
            return;
        }
        self.ask(index, due, tally);
    }

    /// Whether nothing is under way on a slot.
    fn is_free(&self, index: usize) -> bool {
        self.slots[index].talk.under_way() == 0
    }

    /// Begins a message and sends what can be sent of it.
    fn ask(&mut self, index: usize, due: u64, tally: &mut Tally) {
        if self.slots[index].stream.is_none() && !(self.run.plan.churn && self.renew(index, tally))
        {
            return;
        }
        self.slots[index].talk.begin(due);
        self.under_way += 1;
        self.send(index, tally);
    }

    /// A new connection for a slot.
    fn renew(&mut self, index: usize, tally: &mut Tally) -> bool {
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
                tally.failed(tally::name(&error));
                self.slots[index].has_failed = true;
                self.retries.push_back((run.now() + RETRY_PAUSE, index));
                false
            }
        }
    }

    fn send(&mut self, index: usize, tally: &mut Tally) {
        let Slot { stream: Some(stream), talk, .. } = &mut self.slots[index] else { return };
        while !talk.unsent().is_empty() {
            match stream.try_write(talk.unsent()) {
                Ok(bytes) => talk.was_sent(bytes),
                // A connection that does not stand yet is told of when it does.
                Err(error) if is_not_now(&error) => return,
                Err(error) => {
                    self.end(index, &End::Failed(tally::name(&error)), tally);
                    if self.run.plan.churn {
                        self.retries.push_back((self.run.now() + RETRY_PAUSE, index));
                    }
                    return;
                }
            }
        }
    }

    /// Reads what is there, begins what follows, and sends what can be sent.
    fn serve(&mut self, index: usize, window: Window, is_open: bool, tally: &mut Tally) {
        let ended = self.receive(index, window, is_open, tally);
        match ended {
            None => self.send(index, tally),
            Some(end) => {
                self.end(index, &end, tally);
                let is_over = self.run.now() >= window.until || self.run.is_stopped();
                if let Some(due) = self.slots[index].waiting.pop_front() {
                    self.under_way -= 1;
                    self.ask(index, due, tally);
                } else if self.run.plan.churn && !is_open && !is_over {
                    self.ask(index, self.run.now(), tally);
                }
            }
        }
    }

    fn receive(
        &mut self,
        index: usize,
        window: Window,
        is_open: bool,
        tally: &mut Tally,
    ) -> Option<End> {
        let run = self.run;
        let Slot { stream: Some(stream), talk, is_heard_late, .. } = &mut self.slots[index] else {
            return None;
        };
        loop {
            let bytes = match stream.try_read(&mut self.buffer) {
                Ok(0) => return Some(End::Failed(tally::CLOSED)),
                Ok(bytes) => bytes,
                Err(error) if is_not_now(&error) => return None,
                Err(error) => return Some(End::Failed(tally::name(&error))),
            };
            *is_heard_late |= self.is_late;
            let Ok(completed) = talk.receive(&self.buffer[..bytes]) else {
                return Some(End::Failed(tally::LIE));
            };
            if completed > 0 {
                let now = run.now();
                for _ in 0..completed {
                    let due = talk.take_completed();
                    self.under_way -= 1;
                    tally.answered(index, &window, due, now);
                    if run.plan.churn {
                        tally.connects += u64::from(window.counts(now));
                        return Some(End::Done);
                    }
                    if !is_open && now < window.until {
                        talk.begin(now);
                        self.under_way += 1;
                    }
                }
            }
            if bytes < self.buffer.len() && completed > 0 {
                // That was all; what comes later is an event of its own. Half an answer may have been
                // the last word.
                return None;
            }
        }
    }

    /// Closes a slot's connection. What was under way on it will not be answered.
    fn end(&mut self, index: usize, end: &End, tally: &mut Tally) {
        let slot = &mut self.slots[index];
        slot.stream = None;
        slot.generation = slot.generation.wrapping_add(1);
        let lost = slot.talk.under_way();
        self.under_way -= lost;
        slot.talk.forget();
        if let End::Failed(why) = end {
            slot.has_failed = true;
            tally.failed(why);
            if self.run.plan.rate.is_some() {
                tally.failed_times(tally::UNANSWERED, lost as u64);
            }
        }
    }
}

/// Nothing is there, or there is no room, or the connection does not stand yet.
fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
