//! Who plays the machines: what their actions do. Nothing in here waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use echown_fd::escape;

use super::tables::{self, Action};
use super::talk::{Errand, Talk, Wanted};
use super::{Settings, Stop, Summary};
use crate::net::LineStatus;
use crate::ownership::{Error, Registry};
use crate::stage::{Cast, Kind, Lent, Line, MachineId, Signal, Sink, Source, Stage, Tag, Troupe};

type OurStage = Stage<Action, Talk>;

/// The stage with those who play on it.
pub(super) struct Play {
    stage: OurStage,
    troupe: Players,
    terminator: MachineId,
}

impl Play {
    /// Puts everybody on the stage and begins.
    ///
    /// # Errors
    /// A machine that cannot be a task, because the current one is at its end.
    pub(super) fn open(
        registry: &Registry,
        settings: &Settings,
        sink: Option<Sink>,
        stop: &Stop,
    ) -> Result<Play, Error> {
        let mut stage = Stage::new(sink);
        let mut cast = Cast::new(registry, tables::PROTOCOL);
        let terminator = cast.add(&mut stage, &tables::TERMINATOR, 1)?;
        let mut troupe = Players {
            cast,
            workers: Vec::new(),
            server: settings.server.to_string(),
            settings: settings.clone(),
            timers: HashMap::new(),
            summary: Summary::default(),
        };
        stage.enter(&mut troupe, terminator);
        let helpers: [&'static Kind<Action>; 2] = [&tables::RX, &tables::TX];
        for kind in helpers {
            for number in 1..=settings.workers.get() {
                let machine = troupe.cast.add(&mut stage, kind, number)?;
                stage.enter(&mut troupe, machine);
            }
        }
        let server = Arc::new(settings.server.clone());
        for number in 1..=settings.workers.get() {
            let machine = troupe.cast.add(&mut stage, &tables::WORKER, number)?;
            let talk = Talk::new(troupe.workers.len() as u64, registry, &server, stop);
            troupe.cast.take(machine, talk);
            troupe.workers.push(Worker { machine, sequence: 0, left: settings.count });
            stage.enter(&mut troupe, machine);
        }
        stage.run(&mut troupe);
        Ok(Play { stage, troupe, terminator })
    }

    /// A signal has come.
    pub(super) fn signal(&mut self, signal: Signal) {
        self.troupe.summary.is_stopped = true;
        let Signal { number, pid } = signal;
        self.stage.post(self.terminator, signal.tag(), Source::Os, None);
        self.stage.run(&mut self.troupe);
        self.stage.say(&Line::Signal { number, pid });
    }

    /// Lends the machine that waits on a WORKER's account. `None`: the WORKER is done.
    pub(super) fn lend(&mut self, talk: u64) -> Option<Lent<Talk>> {
        self.troupe.cast.lend(talk)
    }

    /// The machine is back, with what came of its waiting.
    pub(super) fn come_back(&mut self, lent: Lent<Talk>, tag: Tag) {
        let machine = lent.machine();
        self.troupe.cast.come_back(lent);
        self.stage.post(machine, tag, Source::Os, None);
        self.stage.run(&mut self.troupe);
    }

    /// The machine is back, and goes no further.
    pub(super) fn retire(&mut self, lent: Lent<Talk>) {
        let machine = lent.machine();
        self.troupe.cast.come_back(lent);
        self.troupe.cast.part_with(machine, |mut talk| talk.hang_up());
    }

    /// What was done.
    pub(super) fn into_summary(self) -> Summary {
        self.troupe.summary
    }
}

struct Worker {
    machine: MachineId,
    /// Of the latest request; counted from 1, over all connections.
    sequence: u64,
    /// Requests or attempts to connect that it may still make.
    left: Option<u64>,
}

struct Players {
    cast: Cast<Talk>,
    workers: Vec<Worker>,
    server: String,
    settings: Settings,
    /// When the reply must be there that an RX works at.
    timers: HashMap<MachineId, Instant>,
    summary: Summary,
}

impl Players {
    fn worker(&mut self, me: MachineId) -> &mut Worker {
        let found = self.workers.iter_mut().find(|worker| worker.machine == me);
        found.unwrap_or_else(|| unreachable!("only a WORKER does what WORKERs do"))
    }

    /// Sends a helper.
    fn ask(&mut self, stage: &mut OurStage, me: MachineId, errand: Errand) {
        if let Some(talk) = self.cast.load(me) {
            talk.errand = errand;
        }
        let helpers = if errand == Errand::Receive { &tables::RX } else { &tables::TX };
        let is_helped = self.cast.ask(stage, me, helpers);
        assert!(is_helped, "there are as many RX and TX as WORKERs, and each helps one");
    }

    fn ask_to_send(&mut self, stage: &mut OurStage, me: MachineId) {
        let worker = self.worker(me);
        worker.sequence += 1;
        let request = format!("{}-{}\n", stage.name(me), worker.sequence).into_bytes();
        self.summary.requests += 1;
        if let Some(talk) = self.cast.load(me) {
            talk.line.set(&request);
            talk.request = request;
        }
        self.ask(stage, me, Errand::Send);
    }

    fn compare(&mut self, stage: &mut OurStage, me: MachineId) {
        let Some(talk) = self.cast.load(me) else { return };
        let line = talk.line.bytes();
        let reply = escape::bytes(line.strip_suffix(b"\n").unwrap_or(line));
        if line == talk.request {
            stage.say(&Line::Reply { text: &reply });
            self.summary.replies += 1;
            self.cast.go_on(stage, me);
        } else {
            let request = talk.request.strip_suffix(b"\n").unwrap_or(&talk.request);
            let (name, request) = (stage.name(me), escape::bytes(request));
            tracing::error!("{name} asked \"{request}\" and got \"{reply}\"");
            self.summary.wrong += 1;
            stage.post(me, tables::DESPAIR, Source::Own, None);
        }
    }

    fn despair(&mut self, stage: &mut OurStage, me: MachineId) {
        if let Some(error) = self.cast.load(me).and_then(|talk| talk.error.as_ref()) {
            tracing::warn!("{} lost its connection: {error}", stage.name(me));
        }
        self.summary.lost += 1;
        stage.post(me, tables::DESPAIR, Source::Own, None);
    }

    /// Waits, unless the WORKER has done all that it was to do; then it hangs up.
    fn wait(&mut self, me: MachineId, moment: Instant) {
        let left = &mut self.worker(me).left;
        if let Some(left) = left {
            *left = left.saturating_sub(1);
        }
        if *left == Some(0) {
            self.cast.with(me, Talk::hang_up);
        } else {
            self.cast.wait(me, Wanted::Moment(moment));
        }
    }

    fn receive(&mut self, stage: &mut OurStage, me: MachineId) {
        // A longer reply than the request is a wrong one; there is no need to hear all of it.
        let progress = self.cast.with(me, |talk| {
            let bytes_max = talk.request.len();
            talk.with(|line, stream| line.receive(stream, bytes_max))
        });
        match progress.flatten() {
            Some(LineStatus::Complete | LineStatus::TooLong) => {
                self.cast.answer(stage, me, tables::DONE);
            }
            Some(LineStatus::Partial) => self.wait_for_reply(me),
            Some(LineStatus::Ended) | None => self.cast.answer(stage, me, tables::FAILED),
        }
    }

    /// Waits for bytes, as long as there is time for this reply.
    fn wait_for_reply(&mut self, me: MachineId) {
        let patience = self.settings.reply_timeout;
        let deadline = *self.timers.entry(me).or_insert_with(|| Instant::now() + patience);
        self.cast.wait(me, Wanted::Reply(deadline));
    }

    fn send(&mut self, stage: &mut OurStage, me: MachineId) {
        let sent = self.cast.with(me, |talk| match talk.errand {
            Errand::Connect => Some(true),
            _ => talk.with(|line, stream| line.send(stream)),
        });
        match sent.flatten() {
            Some(true) => {
                self.cast.with(me, |talk| talk.line.clear());
                self.cast.answer(stage, me, tables::DONE);
            }
            Some(false) => self.cast.wait(me, Wanted::Room),
            None => self.cast.answer(stage, me, tables::FAILED),
        }
    }

    fn wait_for_room(&mut self, me: MachineId) {
        let errand = self.cast.load(me).map(|talk| talk.errand);
        let wanted =
            if errand == Some(Errand::Connect) { Wanted::Connection } else { Wanted::Room };
        self.cast.wait(me, wanted);
    }
}

impl Troupe for Players {
    type Action = Action;
    type Load = Talk;

    fn take(&mut self, me: MachineId, talk: Talk) {
        self.cast.take(me, talk);
    }

    fn perform(&mut self, stage: &mut OurStage, me: MachineId, action: Action) {
        match action {
            // Who stops is told apart from who says so: the threads are.
            Action::Stop => {}
            Action::GoOn => self.cast.go_on(stage, me),
            Action::Rest => self.cast.rest(stage, me),
            Action::AskToConnect => self.ask(stage, me, Errand::Connect),
            Action::Connected => {
                stage.say(&Line::Connected { worker: stage.name(me), to: &self.server });
                self.summary.connections += 1;
                self.cast.go_on(stage, me);
            }
            Action::NotConnected => {
                stage.say(&Line::CannotConnect { worker: stage.name(me), to: &self.server });
                if let Some(error) = self.cast.load(me).and_then(|talk| talk.error.as_ref()) {
                    tracing::debug!("{}: {error}", stage.name(me));
                }
                self.summary.failed_attempts += 1;
                stage.post(me, tables::DESPAIR, Source::Own, None);
            }
            Action::AskToSend => self.ask_to_send(stage, me),
            Action::AskForReply => self.ask(stage, me, Errand::Receive),
            Action::Compare => self.compare(stage, me),
            Action::Despair => self.despair(stage, me),
            Action::Pause => self.wait(me, Instant::now() + self.settings.pause),
            Action::Wait => {
                self.cast.with(me, Talk::hang_up);
                self.wait(me, Instant::now() + self.settings.retry);
            }
            Action::WaitForReply => self.wait_for_reply(me),
            Action::StopTimer => drop(self.timers.remove(&me)),
            Action::Receive => self.receive(stage, me),
            Action::WaitForRoom => self.wait_for_room(me),
            Action::Send => self.send(stage, me),
            Action::Fail => self.cast.answer(stage, me, tables::FAILED),
        }
    }
}
