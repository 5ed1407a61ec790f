//! The cast: machines as tasks that own, hand on what they have, and lend themselves to a thread.
//!
//! Reactions happen on the thread that delivers a message, under whatever lock the stage is behind, and
//! must not wait. A machine that has to wait says so ([`Cast::wait`]); a thread then borrows the
//! machine with its load ([`Cast::lend`]), waits in the machine's name without the lock, and brings
//! both back ([`Cast::come_back`]) before it delivers what came of it.

use std::collections::HashMap;
use std::fmt;

use super::{Kind, MachineId, Source, Stage, Tag};
use crate::ownership::{Actor, Error, Registry};

/// What a machine has in hand and sends to the next: the same at any one moment with one machine.
pub trait Load {
    /// What a thread may be asked to wait for.
    type Wanted: Copy;

    /// Tells the loads apart, and so the threads that wait on their account.
    fn id(&self) -> u64;

    /// It is about to be sent on: its present machine gives up what it owns of it.
    fn let_go(&mut self);

    /// It has come: its new machine takes what it owns of it.
    fn take_up(&mut self);

    /// The machine that has it has ended, and can do nothing for it any more.
    fn strand(&mut self, error: Error);
}

/// The messages between machines that work for each other.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// To oneself: go on.
    pub go_on: Tag,
    /// To a machine that rests: here is work.
    pub work: Tag,
}

/// Those who are on the stage, with what they have.
pub struct Cast<L: Load> {
    registry: Registry,
    protocol: Protocol,
    members: Vec<Member<L>>,
    /// Machines that rest, by kind, the latest on top.
    resting: HashMap<&'static str, Vec<MachineId>>,
    /// Which machine waits on which load's account, and what for.
    waiting: HashMap<u64, (MachineId, L::Wanted)>,
}

/// One machine: the task that it is, and what is with it.
struct Member<L> {
    /// Away while a thread waits in its name.
    actor: Option<Actor>,
    load: Option<L>,
    /// For whom it works.
    customer: Option<MachineId>,
}

/// A machine on loan, with its load.
pub struct Lent<L: Load> {
    machine: MachineId,
    actor: Actor,
    load: L,
    wanted: L::Wanted,
}

impl<L: Load> Lent<L> {
    /// The machine.
    #[must_use]
    pub fn machine(&self) -> MachineId {
        self.machine
    }

    /// What it has: its [`Load::id`].
    #[must_use]
    pub fn load(&self) -> u64 {
        self.load.id()
    }

    /// Waits in the machine's name. `None`: the machine has ended.
    pub fn wait<R>(&mut self, wait: impl FnOnce(&mut L, L::Wanted) -> R) -> Option<R> {
        let Lent { actor, load, wanted, .. } = self;
        match actor.act(|| wait(load, *wanted)) {
            Ok(answer) => Some(answer),
            Err(error) => {
                load.strand(error);
                None
            }
        }
    }
}

impl<L: Load> Cast<L> {
    /// Nobody yet. Machines will be children of the task that makes them.
    #[must_use]
    pub fn new(registry: &Registry, protocol: Protocol) -> Cast<L> {
        Cast {
            registry: registry.clone(),
            protocol,
            members: Vec::new(),
            resting: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// Puts a machine on the stage and makes it a task.
    ///
    /// # Errors
    /// The current task was cancelled or is at its end.
    #[track_caller]
    pub fn add<A: Copy + fmt::Debug + 'static>(
        &mut self,
        stage: &mut Stage<A, L>,
        kind: &'static Kind<A>,
        number: usize,
    ) -> Result<MachineId, Error> {
        let machine = stage.add(kind, number);
        let actor = self.registry.actor(stage.name(machine))?;
        debug_assert_eq!(machine.index(), self.members.len(), "one cast to a stage");
        self.members.push(Member { actor: Some(actor), load: None, customer: None });
        Ok(machine)
    }

    fn member(&mut self, machine: MachineId) -> &mut Member<L> {
        &mut self.members[machine.index()]
    }

    /// A load has come: the machine has it from now on.
    pub fn take(&mut self, me: MachineId, load: L) {
        self.member(me).load = Some(load);
        self.with(me, L::take_up);
    }

    /// What the machine has, to look at; using it is for [`with`](Cast::with).
    pub fn load(&mut self, me: MachineId) -> Option<&mut L> {
        self.member(me).load.as_mut()
    }

    /// Does something with what the machine has, in its name. `None`: it has nothing, or has ended.
    pub fn with<R>(&mut self, me: MachineId, act: impl FnOnce(&mut L) -> R) -> Option<R> {
        let Member { actor: Some(actor), load: Some(load), .. } = self.member(me) else {
            return None;
        };
        match actor.act(|| act(load)) {
            Ok(answer) => Some(answer),
            Err(error) => {
                load.strand(error);
                None
            }
        }
    }

    /// Takes what the machine has, and does away with it in the machine's name.
    pub fn part_with<R>(&mut self, me: MachineId, act: impl FnOnce(L) -> R) -> Option<R> {
        let Member { actor: Some(actor), load, .. } = self.member(me) else { return None };
        let load = load.take()?;
        actor.act(|| act(load)).ok()
    }

    /// Sends what the machine has to another one.
    pub fn pass_on<A: Copy + fmt::Debug + 'static>(
        &mut self,
        stage: &mut Stage<A, L>,
        me: MachineId,
        to: MachineId,
        tag: Tag,
    ) {
        self.with(me, L::let_go);
        let load = self.member(me).load.take();
        stage.post(to, tag, Source::Peer(me), load);
    }

    /// Goes on: a message to oneself.
    pub fn go_on<A: Copy + fmt::Debug + 'static>(&self, stage: &mut Stage<A, L>, me: MachineId) {
        stage.post(me, self.protocol.go_on, Source::Own, None);
    }

    /// Rests until somebody has work.
    pub fn rest<A: Copy + fmt::Debug + 'static>(&mut self, stage: &Stage<A, L>, me: MachineId) {
        self.resting.entry(stage.kind(me).name).or_default().push(me);
    }

    /// Sends what the machine has to one that rests, as work. False: none rests.
    pub fn ask<A: Copy + fmt::Debug + 'static>(
        &mut self,
        stage: &mut Stage<A, L>,
        me: MachineId,
        kind: &Kind<A>,
    ) -> bool {
        let Some(helper) = self.resting.get_mut(kind.name).and_then(Vec::pop) else {
            return false;
        };
        self.member(helper).customer = Some(me);
        self.pass_on(stage, me, helper, self.protocol.work);
        true
    }

    /// Goes back to rest, and sends what the machine has to whoever had asked.
    ///
    /// # Panics
    /// Nobody had asked: the tables are wrong.
    pub fn answer<A: Copy + fmt::Debug + 'static>(
        &mut self,
        stage: &mut Stage<A, L>,
        me: MachineId,
        tag: Tag,
    ) {
        let Some(customer) = self.member(me).customer.take() else {
            panic!("{} answers, and nobody has asked", stage.name(me));
        };
        self.go_on(stage, me);
        self.pass_on(stage, me, customer, tag);
    }

    /// The machine has to wait, on its load's account.
    ///
    /// # Panics
    /// It has no load: the tables are wrong.
    pub fn wait(&mut self, me: MachineId, wanted: L::Wanted) {
        let id = self.load(me).map(|load| load.id());
        let Some(id) = id else { panic!("who waits has something to wait for") };
        self.waiting.insert(id, (me, wanted));
    }

    /// Lends the machine that waits on this load's account. `None`: nobody does, and nobody will
    /// before something else is delivered.
    ///
    /// # Panics
    /// It is lent already: one thread waits on the account of one load.
    pub fn lend(&mut self, load: u64) -> Option<Lent<L>> {
        let (machine, wanted) = self.waiting.remove(&load)?;
        let member = self.member(machine);
        let (Some(actor), Some(load)) = (member.actor.take(), member.load.take()) else {
            panic!("a machine that waits is at home, with its load");
        };
        Some(Lent { machine, actor, load, wanted })
    }

    /// The machine is back.
    pub fn come_back(&mut self, lent: Lent<L>) {
        let member = self.member(lent.machine);
        member.actor = Some(lent.actor);
        member.load = Some(lent.load);
    }
}
