//! Who plays the machines: what their actions do.
//!
//! Everything in here happens under one lock, on the thread that delivers a message, and so nothing in
//! here waits.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::client::{Client, Wanted};
use super::tables::{self, Action};
use crate::echo::{EndReason, ServerContext, Signal};
use crate::net::LineStatus;
use crate::ownership::Error;
use crate::rate_limited_log::RateLimited;
use crate::stage::{Cast, Kind, Lent, Line, Load, MachineId, Sink, Source, Stage, Tag, Troupe};

type OurStage = Stage<Action, Client>;

/// The stage with those who play on it.
pub(super) struct Play {
    stage: OurStage,
    troupe: Players,
}

impl Play {
    /// Puts everybody on the stage and begins.
    ///
    /// # Errors
    /// A machine that cannot be a task, because the current one is at its end.
    pub(super) fn open(
        context: &ServerContext,
        sink: Option<Sink>,
        request_timeout: Duration,
        request_bytes_max: usize,
    ) -> Result<Play, Error> {
        let mut stage = Stage::new(sink);
        let mut cast = Cast::new(&context.registry, tables::PROTOCOL);
        let listener = cast.add(&mut stage, &tables::LISTENER, 1)?;
        let mut troupe = Players {
            cast,
            listener,
            places: context.addresses.iter().map(|address| place(address)).collect(),
            timers: HashMap::new(),
            ended: HashMap::new(),
            signal: None,
            request_timeout,
            request_bytes_max,
            too_long: RateLimited::default(),
        };
        let kinds: [&'static Kind<Action>; 3] = [&tables::RX, &tables::TX, &tables::WORKER];
        for kind in kinds {
            for number in 1..=context.max_connections {
                let machine = troupe.cast.add(&mut stage, kind, number)?;
                stage.enter(&mut troupe, machine);
            }
        }
        // Last: with it the doors are open.
        stage.enter(&mut troupe, listener);
        stage.run(&mut troupe);
        Ok(Play { stage, troupe })
    }

    /// A client has come.
    pub(super) fn arrive(&mut self, client: Client) {
        self.deliver(self.troupe.listener, Tag::D(0), Some(client));
    }

    /// A client has come for whom there was no room: it is closed already.
    pub(super) fn turn_away(&mut self) {
        self.deliver(self.troupe.listener, Tag::D(0), None);
    }

    /// A signal has come.
    pub(super) fn signal(&mut self, signal: Signal) {
        self.troupe.signal = Some(signal);
        self.deliver(self.troupe.listener, signal.tag(), None);
    }

    fn deliver(&mut self, to: MachineId, tag: Tag, client: Option<Client>) {
        self.stage.post(to, tag, Source::Os, client);
        self.stage.run(&mut self.troupe);
    }

    /// Lends the machine that waits on this client's account. `None`: the client is closed.
    pub(super) fn lend(&mut self, client: u64) -> Option<Lent<Client>> {
        self.troupe.cast.lend(client)
    }

    /// The machine is back, with what came of its waiting.
    pub(super) fn come_back(&mut self, lent: Lent<Client>, tag: Tag) {
        let machine = lent.machine();
        self.troupe.cast.come_back(lent);
        self.deliver(machine, tag, None);
    }

    /// How a client that is closed ended.
    pub(super) fn outcome(&mut self, client: u64) -> io::Result<()> {
        self.troupe.ended.remove(&client).unwrap_or(Ok(()))
    }

    /// The doors are closed: everybody goes home.
    pub(super) fn close(mut self) {
        let listener = self.troupe.listener;
        self.stage.leave(&mut self.troupe, listener);
    }
}

/// `port 3333` of `127.0.0.1:3333`; a path as it is.
fn place(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((_, port)) if !address.starts_with("unix:") => format!("port {port}"),
        _ => address.to_owned(),
    }
}

struct Players {
    cast: Cast<Client>,
    listener: MachineId,
    /// What is listened on, as the listener says it.
    places: Vec<String>,
    /// When the request must be there that an RX works at.
    timers: HashMap<MachineId, Instant>,
    /// How clients that are closed ended, until their threads ask.
    ended: HashMap<u64, io::Result<()>>,
    /// The signal that is being delivered.
    signal: Option<Signal>,
    request_timeout: Duration,
    request_bytes_max: usize,
    too_long: RateLimited,
}

impl Players {
    /// Finds a WORKER for a client. Where there is no client any more or no WORKER, what is left is
    /// closed.
    fn admit(&mut self, stage: &mut OurStage, me: MachineId) {
        let has_client = self.cast.load(me).is_some();
        if !has_client || !self.cast.ask(stage, me, &tables::WORKER) {
            self.cast.go_on(stage, me);
        }
    }

    fn close(&mut self, me: MachineId) {
        let closed = self.cast.part_with(me, |client| (client.id(), client.close()));
        self.ended.extend(closed);
    }

    /// Waits for bytes, as long as there is time for this request.
    fn wait_for_request(&mut self, me: MachineId) {
        let patience = self.request_timeout;
        let deadline = *self.timers.entry(me).or_insert_with(|| Instant::now() + patience);
        self.cast.wait(me, Wanted::Request(deadline));
    }

    fn receive(&mut self, stage: &mut OurStage, me: MachineId) {
        let bytes_max = self.request_bytes_max;
        let too_long = &self.too_long;
        let progress = self.cast.with(me, |client| {
            let before = client.request.bytes().len();
            let progress = client.with(|request, stream| request.receive(stream, bytes_max));
            let bytes = &client.request.bytes()[before..];
            if !bytes.is_empty() {
                stage.say(&Line::Received { bytes });
            }
            if progress == Some(LineStatus::TooLong) {
                too_long.warn(format_args!(
                    "{} was closed: its request is longer than {bytes_max} bytes (--max-request)",
                    client.peer
                ));
                client.fail(EndReason::Protocol.into_error());
            }
            progress
        });
        match progress.flatten() {
            Some(LineStatus::Complete) => self.cast.answer(stage, me, tables::DONE),
            Some(LineStatus::Partial) => self.wait_for_request(me),
            Some(LineStatus::TooLong | LineStatus::Ended) | None => {
                self.cast.answer(stage, me, tables::FAILED);
            }
        }
    }

    fn send(&mut self, stage: &mut OurStage, me: MachineId) {
        let sent = self.cast.with(me, |client| {
            let sent = client.with(|request, stream| request.send(stream));
            if sent == Some(true) {
                client.request.clear();
            }
            sent
        });
        match sent.flatten() {
            Some(true) => self.cast.answer(stage, me, tables::DONE),
            Some(false) => self.cast.wait(me, Wanted::Room),
            None => self.cast.answer(stage, me, tables::FAILED),
        }
    }
}

impl Troupe for Players {
    type Action = Action;
    type Load = Client;

    fn take(&mut self, me: MachineId, client: Client) {
        self.cast.take(me, client);
    }

    fn perform(&mut self, stage: &mut OurStage, me: MachineId, action: Action) {
        match action {
            Action::Greet => {
                for place in &self.places {
                    stage.say(&Line::Hello { machine: stage.name(me), place });
                }
            }
            Action::Admit => self.admit(stage, me),
            Action::Close => self.close(me),
            Action::Stop => {
                if let Some(Signal { number, pid }) = self.signal.take() {
                    stage.say(&Line::Signal { number, pid });
                }
            }
            Action::Leave => stage.say(&Line::Bye { machine: stage.name(me) }),
            Action::Rest => self.cast.rest(stage, me),
            Action::GoOn => self.cast.go_on(stage, me),
            Action::GiveUp => {
                self.cast.go_on(stage, me);
                self.cast.pass_on(stage, me, self.listener, tables::GO_ON);
            }
            Action::AskRx | Action::AskTx => {
                let helpers = if action == Action::AskRx { &tables::RX } else { &tables::TX };
                let is_helped = self.cast.ask(stage, me, helpers);
                assert!(is_helped, "there are as many RX and TX as WORKERs, and each helps one");
            }
            Action::WaitForRequest => self.wait_for_request(me),
            Action::StopTimer => drop(self.timers.remove(&me)),
            Action::Receive => self.receive(stage, me),
            Action::WaitForRoom => self.cast.wait(me, Wanted::Room),
            Action::Send => self.send(stage, me),
            Action::Fail => self.cast.answer(stage, me, tables::FAILED),
        }
    }
}
