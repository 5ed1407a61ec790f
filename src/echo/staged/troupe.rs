//! Who plays the machines: what their actions do.
//!
//! Everything in here happens under one lock, on the thread that delivers a message, and so nothing in
//! here waits. A machine that has to wait says what for; the thread of the client's connection then
//! borrows machine and client, waits in the machine's name without the lock, and comes back with the
//! message that says what came of it.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::client::{Client, Wanted};
use super::request::Progress;
use super::tables::{self, Action};
use crate::echo::{House, Signal};
use crate::ownership::{Actor, Error};
use crate::stage::{Kind, Line, MachineId, Sink, Source, Stage, Tag, Troupe};

/// The stage with those who play on it.
pub(super) struct Play {
    stage: Stage<Action, Client>,
    troupe: Players,
}

/// A machine that waits, with all that it needs for it.
pub(super) struct Lent {
    machine: MachineId,
    actor: Actor,
    client: Client,
    wanted: Wanted,
}

impl Lent {
    /// Waits in the machine's name.
    pub(super) fn wait(&mut self) -> Tag {
        let Lent { actor, client, wanted, .. } = self;
        match actor.act(|| client.wait(*wanted)) {
            Ok(tag) => tag,
            Err(error) => {
                client.fail(error.into());
                Tag::D(2)
            }
        }
    }
}

impl Play {
    /// Puts everybody on the stage and begins.
    ///
    /// # Errors
    /// A machine that cannot be a task, because the current one is at its end.
    pub(super) fn open(
        house: &House,
        sink: Option<Sink>,
        request_timeout: Duration,
        request_bytes_max: usize,
    ) -> Result<Play, Error> {
        let mut stage = Stage::new(sink);
        let listener = stage.add(&tables::LISTENER, 1);
        let mut troupe = Players {
            listener,
            members: vec![Member::new(house, &stage, listener)?],
            places: house.addresses.iter().map(|address| place(address)).collect(),
            idle: Idle::default(),
            waiting: HashMap::new(),
            ended: HashMap::new(),
            signal: None,
            request_timeout,
            request_bytes_max,
        };
        let kinds: [&'static Kind<Action>; 3] = [&tables::RX, &tables::TX, &tables::WORKER];
        for kind in kinds {
            for number in 1..=house.max_connections {
                let machine = stage.add(kind, number);
                troupe.members.push(Member::new(house, &stage, machine)?);
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
        /// SIGINT on every system that there is.
        const INTERRUPT: i32 = 2;
        self.troupe.signal = Some(signal);
        let tag = Tag::S(u8::from(signal.number != INTERRUPT));
        self.deliver(self.troupe.listener, tag, None);
    }

    fn deliver(&mut self, to: MachineId, tag: Tag, client: Option<Client>) {
        self.stage.post(to, tag, Source::Os, client);
        self.stage.run(&mut self.troupe);
    }

    /// Lends the machine that waits on this client's account. `None`: the client is closed.
    pub(super) fn lend(&mut self, client: u64) -> Option<Lent> {
        let (machine, wanted) = self.troupe.waiting.remove(&client)?;
        let member = &mut self.troupe.members[machine.index()];
        let (Some(actor), Some(client)) = (member.actor.take(), member.client.take()) else {
            unreachable!("a machine that waits is at home, with its client");
        };
        Some(Lent { machine, actor, client, wanted })
    }

    /// The machine is back, with what came of its waiting.
    pub(super) fn come_back(&mut self, lent: Lent, tag: Tag) {
        let member = &mut self.troupe.members[lent.machine.index()];
        member.actor = Some(lent.actor);
        member.client = Some(lent.client);
        self.deliver(lent.machine, tag, None);
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
        Some((_, port)) if port.parse::<u16>().is_ok() => format!("port {port}"),
        _ => address.to_owned(),
    }
}

/// One machine's own: the task that it is, and the client that is with it.
struct Member {
    /// Away while a thread waits in its name.
    actor: Option<Actor>,
    client: Option<Client>,
    /// For RX and TX: the WORKER that it works for.
    customer: Option<MachineId>,
    /// For RX: when the request must be there.
    deadline: Option<Instant>,
}

impl Member {
    fn new(
        house: &House,
        stage: &Stage<Action, Client>,
        machine: MachineId,
    ) -> Result<Member, Error> {
        let actor = house.registry.actor(stage.name(machine))?;
        Ok(Member { actor: Some(actor), client: None, customer: None, deadline: None })
    }
}

/// Machines that rest, the latest on top.
#[derive(Default)]
struct Idle {
    workers: Vec<MachineId>,
    rx: Vec<MachineId>,
    tx: Vec<MachineId>,
}

struct Players {
    members: Vec<Member>,
    listener: MachineId,
    /// What is listened on, as the listener says it.
    places: Vec<String>,
    idle: Idle,
    /// Which machine waits on which client's account, and what for.
    waiting: HashMap<u64, (MachineId, Wanted)>,
    /// How clients that are closed ended, until their threads ask.
    ended: HashMap<u64, io::Result<()>>,
    /// The signal that is being delivered.
    signal: Option<Signal>,
    request_timeout: Duration,
    request_bytes_max: usize,
}

type OurStage = Stage<Action, Client>;

impl Players {
    fn member(&mut self, machine: MachineId) -> &mut Member {
        &mut self.members[machine.index()]
    }

    /// Does something with a machine's client, in the machine's name. `None`: it has none.
    fn with_client<R>(&mut self, me: MachineId, act: impl FnOnce(&mut Client) -> R) -> Option<R> {
        let Member { actor: Some(actor), client: Some(client), .. } = self.member(me) else {
            return None;
        };
        match actor.act(|| act(client)) {
            Ok(answer) => Some(answer),
            // Its parent has ended it: the server is going down.
            Err(error) => {
                client.fail(error.into());
                None
            }
        }
    }

    /// Sends this machine's client on.
    fn pass_on(&mut self, stage: &mut OurStage, me: MachineId, to: MachineId, tag: Tag) {
        self.with_client(me, Client::let_go);
        let client = self.member(me).client.take();
        stage.post(to, tag, Source::Peer(me), client);
    }

    /// Sends the client to the WORKER that asked, and goes back to rest.
    fn answer(&mut self, stage: &mut OurStage, me: MachineId, tag: Tag) {
        let Some(customer) = self.member(me).customer.take() else {
            unreachable!("{} works for somebody", stage.name(me));
        };
        stage.post(me, tables::GO_ON, Source::Own, None);
        self.pass_on(stage, me, customer, tag);
    }

    fn wait(&mut self, me: MachineId, wanted: Wanted) {
        let Some(client) = &self.member(me).client else {
            unreachable!("who waits has a client");
        };
        let id = client.id;
        self.waiting.insert(id, (me, wanted));
    }

    fn admit(&mut self, stage: &mut OurStage, me: MachineId) {
        let has_client = self.member(me).client.is_some();
        match self.idle.workers.pop() {
            Some(worker) if has_client => self.pass_on(stage, me, worker, tables::CLIENT),
            worker => {
                self.idle.workers.extend(worker);
                stage.post(me, tables::GO_ON, Source::Own, None);
            }
        }
    }

    fn close(&mut self, me: MachineId) {
        let Member { actor: Some(actor), client, .. } = &mut self.members[me.index()] else {
            return;
        };
        let Some(client) = client.take() else { return };
        let id = client.id;
        let outcome = actor.act(|| client.close()).unwrap_or_else(|error| Err(error.into()));
        self.ended.insert(id, outcome);
    }

    fn receive(&mut self, stage: &mut OurStage, me: MachineId) {
        let bytes_max = self.request_bytes_max;
        let progress = self.with_client(me, |client| {
            let before = client.request.bytes().len();
            let progress = client.with(|request, stream| request.receive(stream, bytes_max));
            let bytes = &client.request.bytes()[before..];
            if !bytes.is_empty() {
                stage.say(&Line::Received { bytes });
            }
            if progress == Some(Progress::TooLong) {
                let peer = &client.peer;
                tracing::warn!(
                    "{peer} was closed: its request is longer than {bytes_max} bytes \
                     (--max-request)"
                );
                client.fail(io::Error::other("a request was too long"));
            }
            progress
        });
        match progress.flatten() {
            Some(Progress::Complete) => self.answer(stage, me, tables::DONE),
            Some(Progress::Partial) => self.wait_for_request(me),
            Some(Progress::TooLong | Progress::Ended) | None => {
                self.answer(stage, me, tables::FAILED);
            }
        }
    }

    /// Waits for more, as long as there is time for this request.
    fn wait_for_request(&mut self, me: MachineId) {
        let patience = self.request_timeout;
        let deadline = *self.member(me).deadline.get_or_insert_with(|| Instant::now() + patience);
        self.wait(me, Wanted::Request(deadline));
    }

    fn send(&mut self, stage: &mut OurStage, me: MachineId) {
        let sent =
            self.with_client(me, |client| client.with(|request, stream| request.send(stream)));
        match sent.flatten() {
            Some(true) => {
                if let Some(client) = &mut self.member(me).client {
                    client.request.clear();
                }
                self.answer(stage, me, tables::DONE);
            }
            Some(false) => self.wait(me, Wanted::Room),
            None => self.answer(stage, me, tables::FAILED),
        }
    }

    /// Takes a machine out of a pool, and sends it the client.
    fn ask(
        &mut self,
        stage: &mut OurStage,
        me: MachineId,
        pool: impl FnOnce(&mut Idle) -> &mut Vec<MachineId>,
    ) {
        let Some(helper) = pool(&mut self.idle).pop() else {
            unreachable!("there are as many RX and TX as WORKERs, and each helps one");
        };
        self.member(helper).customer = Some(me);
        self.pass_on(stage, me, helper, tables::CLIENT);
    }

    /// Where machines of this one's kind rest.
    fn resting_place(&mut self, stage: &OurStage, me: MachineId) -> &mut Vec<MachineId> {
        match stage.kind(me).name {
            "RX" => &mut self.idle.rx,
            "TX" => &mut self.idle.tx,
            _ => &mut self.idle.workers,
        }
    }
}

impl Troupe for Players {
    type Action = Action;
    type Load = Client;

    fn take(&mut self, me: MachineId, client: Client) {
        self.member(me).client = Some(client);
        self.with_client(me, Client::take_up);
    }

    fn perform(&mut self, stage: &mut OurStage, me: MachineId, action: Action, _: Source) {
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
            Action::Rest => self.resting_place(stage, me).push(me),
            Action::GoOn => stage.post(me, tables::GO_ON, Source::Own, None),
            Action::GiveUp => {
                stage.post(me, tables::GO_ON, Source::Own, None);
                self.pass_on(stage, me, self.listener, tables::GO_ON);
            }
            Action::AskRx => self.ask(stage, me, |idle| &mut idle.rx),
            Action::AskTx => self.ask(stage, me, |idle| &mut idle.tx),
            Action::WaitForRequest => self.wait_for_request(me),
            Action::StopTimer => self.member(me).deadline = None,
            Action::Receive => self.receive(stage, me),
            Action::WaitForRoom => self.wait(me, Wanted::Room),
            Action::Send => self.send(stage, me),
            Action::Fail => self.answer(stage, me, tables::FAILED),
        }
    }
}
