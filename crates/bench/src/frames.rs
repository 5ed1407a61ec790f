//! The client of a broadcasting server: every connection hears every frame, in one order.
//!
//! A frame says whose it is and which one of theirs; the rest of it is the pattern. It is answered
//! when it has come back to who sent it. That the others hear it, too, whole and in the same order,
//! is looked at for each of them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use crate::agenda::{self, Agenda, Schedule};
use crate::frame::{Frame, FrameDecoder};
use crate::net::{Poller, Stream};
use crate::run::{Run, Window};
use crate::tally::{self, Tally};

/// Bytes of a frame that say whose it is and which.
pub(crate) const LABEL_BYTES: usize = 16;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// How long one wait is at most, so that the end is noticed.
const WAIT_MAX: u64 = 50_000_000;

/// In the place of which frame of theirs it is: who joins.
const GREETING: u64 = u64::MAX;

/// How long it may take until the server has heard who joins.
const JOINING_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that may be under way at a rate, at the most, for they are kept until they are sent; but each
/// connection may have a frame.
const UNSENT_BYTES_MAX: usize = 64 << 20;

/// After so many frames those are forgotten that everybody has heard.
const FORGETTING_PERIOD: usize = 4096;

pub(crate) fn work(run: &Run, share: Range<usize>) -> Tally {
    let mut tally = Tally::new(share.len());
    match Room::connect(run, share, &mut tally) {
        Ok(mut room) => {
            if let Some(window) = run.wait_for_all() {
                room.talk(window, &mut tally);
            }
        }
        Err(error) => {
            tally.failed(tally::name(&error));
            let _ = run.wait_for_all();
        }
    }
    tally
}

/// Whose frame it is, and which of theirs.
type Label = (u64, u64);

struct Member {
    stream: Stream,
    decoder: FrameDecoder,
    /// What is to be sent, and how much of it was.
    unsent: VecDeque<u8>,
    /// When its own frames that are under way were due.
    begun: VecDeque<u64>,
    said: u64,
    heard_of_own: u64,
    /// Its place in the order.
    place: u64,
    /// Frames came after the time was over.
    is_heard_late: bool,
}

impl Member {
    /// Connects, and is heard by the server before the next one comes: from then on each hears every
    /// frame, so that the order begins with the same one for all of them.
    fn join(run: &Run, connection: usize, index: u64) -> Result<Member, &'static str> {
        let failed = |error: io::Error| tally::name(&error);
        let stream = run.connect(connection).map_err(failed)?;
        let mut member = Member {
            stream,
            decoder: FrameDecoder::new(run.plan.message_bytes),
            unsent: VecDeque::new(),
            begun: VecDeque::new(),
            said: 0,
            heard_of_own: 0,
            place: 0,
            is_heard_late: false,
        };
        let greeting = [index.to_be_bytes(), GREETING.to_be_bytes()].concat();
        let mut stream = &member.stream;
        stream.set_read_timeout(JOINING_PATIENCE).map_err(failed)?;
        stream.write_all(Frame::of(&greeting).wire()).map_err(failed)?;
        let mut buffer = [0; 4096];
        loop {
            let bytes = match stream.read(&mut buffer) {
                Ok(0) => return Err(tally::CLOSED),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(tally::UNANSWERED);
                }
                Err(error) => return Err(tally::name(&error)),
            };
            let mut piece = &buffer[..bytes];
            // Nobody says anything else yet, so that nothing follows.
            while let Some(frame) = member.decoder.take(&mut piece).map_err(|_| tally::LIE)? {
                match is_greeting(frame.payload()) {
                    true if frame.payload() == greeting => return Ok(member),
                    true => {}
                    false => return Err(tally::LIE),
                }
            }
        }
    }
}

/// Whether a frame is who joins saying so.
fn is_greeting(payload: &[u8]) -> bool {
    payload.len() == LABEL_BYTES && payload.ends_with(&GREETING.to_be_bytes())
}

/// All connections, and the order that they have to agree on.
struct Room<'run> {
    run: &'run Run,
    poller: Poller,
    members: Vec<Option<Member>>,
    buffer: Vec<u8>,
    order: VecDeque<Label>,
    /// Frames before the first one in `order`.
    forgotten: u64,
    under_way: usize,
    /// The time is over, and what is under way is waited for.
    is_late: bool,
}

impl<'run> Room<'run> {
    fn connect(run: &'run Run, share: Range<usize>, tally: &mut Tally) -> io::Result<Room<'run>> {
        let poller = Poller::new(&run.host)?;
        let mut members = Vec::new();
        for connection in share {
            let index = members.len() as u64;
            let joined = Member::join(run, connection, index).and_then(|member| {
                let added = poller.add(&member.stream, index);
                added.map_err(|error| tally::name(&error)).map(|()| member)
            });
            members.push(match joined {
                Ok(member) => {
                    tally.established += 1;
                    run.tell_connected();
                    Some(member)
                }
                Err(why) => {
                    tally.failed(why);
                    None
                }
            });
            if run.is_stopped() || run.has_none_connected() {
                break;
            }
        }
        let buffer = vec![0; BUFFER_BYTES];
        let order = VecDeque::new();
        Ok(Room { run, poller, members, buffer, order, forgotten: 0, under_way: 0, is_late: false })
    }

    fn talk(&mut self, window: Window, tally: &mut Tally) {
        let run = self.run;
        let mut agenda = run.plan.rate.map(|rate| {
            let schedule = Schedule::new(rate, window.began);
            let by_bytes = UNSENT_BYTES_MAX / run.plan.message_bytes.max(1);
            let least = self.members.len().min(agenda::UNDER_WAY_MAX);
            let under_way_max = by_bytes.clamp(least, agenda::UNDER_WAY_MAX);
            Agenda::new(schedule, window.until, under_way_max)
        });
        if agenda.is_none() {
            for index in 0..self.members.len() {
                for _ in 0..run.plan.pipeline {
                    self.say(index, run.now(), tally);
                }
            }
        }
        loop {
            let now = run.now();
            let is_over = now >= window.until || run.is_stopped();
            if let Some(agenda) = agenda.as_mut().filter(|_| !run.is_stopped()) {
                self.say_what_is_due(agenda, now, tally);
            }
            let is_done = self.under_way == 0 && agenda.is_none_or(|agenda| agenda.is_done());
            if is_over && (is_done || now >= window.give_up || run.is_stopped()) {
                break;
            }
            if self.under_way == 0 && agenda.is_none() {
                // Each connection that stands has a frame under way: there is none left.
                break;
            }
            self.is_late = is_over;
            let wait = agenda.and_then(|agenda| agenda.wait(run.now(), self.under_way));
            let wait = Duration::from_nanos(wait.map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX)));
            let tokens: Vec<u64> = match self.poller.wait(wait) {
                Ok(tokens) => tokens.collect(),
                Err(error) => {
                    tally.failed(tally::name(&error));
                    break;
                }
            };
            let before = tally.messages;
            for index in tokens.into_iter().map(|token| token as usize) {
                let again = agenda.is_none().then_some(window.until);
                let served = self.hear(index, window, again, tally);
                if let Err(why) = served.and_then(|()| self.send(index)) {
                    self.lose(index, why, tally);
                }
            }
            self.forget();
            run.tell_answered(tally.messages - before);
        }
        let members = self.members.iter().flatten();
        tally.left = members.filter(|it| it.begun.is_empty() || it.is_heard_late).count();
        // Ended early, their answers were not waited for.
        if !run.is_stopped() {
            tally.failed_times(tally::UNANSWERED, self.under_way as u64);
            tally.failed_times(tally::UNASKED, agenda.map_or(0, |agenda| agenda.left()));
        }
    }

    /// Begins frames of an open loop that are due by now.
    fn say_what_is_due(&mut self, agenda: &mut Agenda, now: u64, tally: &mut Tally) {
        for _ in 0..agenda::BURST_MAX {
            let Some((message, due)) = agenda.take(now, self.under_way) else { break };
            self.say((message % self.members.len() as u64) as usize, due, tally);
        }
    }

    fn lose(&mut self, index: usize, why: &'static str, tally: &mut Tally) {
        tally.failed(why);
        if let Some(member) = self.members[index].take() {
            self.under_way -= member.begun.len();
            if self.run.plan.rate.is_some() {
                tally.failed_times(tally::UNANSWERED, member.begun.len() as u64);
            }
        }
    }

    fn say(&mut self, index: usize, due: u64, tally: &mut Tally) {
        let payload_bytes = self.run.plan.message_bytes;
        let Some(member) = &mut self.members[index] else {
            tally.failed(tally::NO_CONNECTION);
            return;
        };
        let label = (index as u64, member.said);
        let mut payload = Vec::with_capacity(payload_bytes);
        payload.extend_from_slice(&label.0.to_be_bytes());
        payload.extend_from_slice(&label.1.to_be_bytes());
        while payload.len() < payload_bytes {
            let missing = (payload_bytes - payload.len()) as u64;
            let at = offset(label) + (payload.len() - LABEL_BYTES) as u64;
            payload.extend_from_slice(self.run.pattern.slice(at, missing));
        }
        member.unsent.extend(Frame::of(&payload).wire());
        member.said += 1;
        member.begun.push_back(due);
        self.under_way += 1;
        if let Err(why) = self.send(index) {
            self.lose(index, why, tally);
        }
    }

    fn send(&mut self, index: usize) -> Result<(), &'static str> {
        let Some(member) = &mut self.members[index] else { return Ok(()) };
        while !member.unsent.is_empty() {
            match member.stream.try_write(member.unsent.as_slices().0) {
                Ok(bytes) => drop(member.unsent.drain(..bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(tally::name(&error)),
            }
        }
        Ok(())
    }

    /// Reads what is there. `again`: each frame that came back is followed by one more, until then.
    fn hear(
        &mut self,
        index: usize,
        window: Window,
        again: Option<u64>,
        tally: &mut Tally,
    ) -> Result<(), &'static str> {
        loop {
            let Some(member) = &mut self.members[index] else { return Ok(()) };
            let bytes = match member.stream.try_read(&mut self.buffer) {
                Ok(0) => return Err(tally::CLOSED),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(tally::name(&error)),
            };
            member.is_heard_late |= self.is_late;
            let mut frames = Vec::new();
            let mut piece = &self.buffer[..bytes];
            while let Some(frame) = member.decoder.take(&mut piece).map_err(|_| tally::LIE)? {
                frames.push(frame);
            }
            let now = self.run.now();
            let mut more = 0;
            for frame in frames {
                if is_greeting(frame.payload()) {
                    continue;
                }
                let label = self.check(index, frame.payload()).ok_or(tally::LIE)?;
                let Some(member) = &mut self.members[index] else { return Ok(()) };
                if label.0 != index as u64 {
                    continue;
                }
                if label.1 != member.heard_of_own {
                    return Err(tally::LIE);
                }
                member.heard_of_own += 1;
                let due = member.begun.pop_front().ok_or(tally::LIE)?;
                self.under_way -= 1;
                tally.answered(index, &window, due, now);
                more += u64::from(again.is_some_and(|until| now < until));
            }
            for _ in 0..more {
                self.say(index, now, tally);
            }
            if bytes < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// Whether a frame is one that was sent, and this connection hears it when its turn is.
    fn check(&mut self, index: usize, payload: &[u8]) -> Option<Label> {
        let (whose, rest) = payload.split_first_chunk()?;
        let (which, mut rest) = rest.split_first_chunk()?;
        let label = (u64::from_be_bytes(*whose), u64::from_be_bytes(*which));
        if payload.len() != self.run.plan.message_bytes {
            return None;
        }
        let mut at = offset(label);
        while !rest.is_empty() {
            let wanted = self.run.pattern.slice(at, rest.len() as u64);
            rest = rest.strip_prefix(wanted)?;
            at += wanted.len() as u64;
        }
        let end = self.forgotten + self.order.len() as u64;
        let member = self.members[index].as_mut()?;
        let place = member.place;
        member.place = place + 1;
        if place == end {
            self.order.push_back(label);
        }
        (self.order[(place - self.forgotten) as usize] == label).then_some(label)
    }

    /// Forgets what everybody has heard.
    fn forget(&mut self) {
        if self.order.len() < FORGETTING_PERIOD {
            return;
        }
        let places = self.members.iter().flatten().map(|member| member.place);
        let Some(first) = places.min() else { return };
        self.order.drain(..(first - self.forgotten) as usize);
        self.forgotten = first;
    }
}

/// Where a frame's bytes stand in the pattern.
fn offset(label: Label) -> u64 {
    label.0.wrapping_mul(31).wrapping_add(label.1) % (1 << 32)
}
