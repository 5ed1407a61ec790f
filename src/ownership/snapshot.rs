//! Plain data: tasks and resources at one moment.
//!
//! A snapshot holds every account's lock while it notes who owns what, so that a resource that is
//! changing hands is seen once, on one side. The kernel is asked for addresses afterwards, with the
//! numbers pinned.

use std::sync::Arc;
use std::time::Instant;

use super::account::Phase;
use super::custody::{Custody, Event, Site};
use super::graph::Cycle;
use super::record::{Held, Record, ResourceId};
use super::slot::{Purpose, State, Word};
use super::task::{self, Task, TaskId, TaskLabel};
use crate::sys::fd::{Direction, Identity, Place};

/// One resource, described.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ResourceData {
    /// Never reused.
    pub id: ResourceId,
    /// What it is: `tcp stream`, `file`, or the name of a type.
    pub kind: &'static str,
    /// For a half: the resource that was split.
    pub half_of: Option<ResourceId>,
    /// For a half: `read` or `write`.
    pub half: Option<&'static str>,
    /// The descriptor's number, for descriptors.
    pub number: Option<i32>,
    /// Which open file the number was registered for.
    pub identity: Option<Identity>,
    /// Local address, while the socket is open.
    pub local: Option<String>,
    /// The peer's address, while the socket is open.
    pub peer: Option<String>,
    /// Path, while the file is open.
    pub path: Option<String>,
    /// Where it stands: `held`, `busy`, `offered`, `split`, `closing`, `released`.
    pub state: &'static str,
    /// Who owns it, or on whose account the offer stands.
    pub owner: Option<TaskLabel>,
    /// Where it was acquired.
    pub acquired: Site,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// Bytes received through it.
    pub bytes_in: u64,
    /// Bytes sent through it.
    pub bytes_out: u64,
    /// Through whose hands it went, oldest first.
    pub custody: Vec<CustodyStep>,
    /// Steps in the middle that were not kept.
    pub custody_omitted: u64,
    /// In the report of a leak: the cycle of recorded references that kept it, if there was one.
    pub kept_alive_by: Option<Cycle>,
}

/// One step of a custody.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CustodyStep {
    /// What happened.
    pub event: Event,
    /// Out of whose hands.
    pub from: Option<TaskLabel>,
    /// Into whose hands.
    pub to: Option<TaskLabel>,
    /// Where.
    pub site: Site,
    /// Milliseconds ago.
    pub ago_ms: u64,
    /// The kernel's id of the thread.
    pub thread_id: u32,
    /// At level `full`.
    pub backtrace: Option<String>,
}

/// One task, described.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskData {
    /// Id and name.
    pub task: TaskLabel,
    /// Its parent; `None` for a root.
    pub parent: Option<TaskId>,
    /// `waiting`, `running`, `ending` or `ended`.
    pub state: &'static str,
    /// Whether it was asked to end.
    pub cancelled: bool,
    /// Name of its thread, once it has one.
    pub thread: Option<String>,
    /// The kernel's id of that thread.
    pub thread_id: Option<u32>,
    /// Where it was spawned, unless it is a thread that nobody started as a task.
    pub spawned: Option<Site>,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// What it owns, in order of acquisition.
    pub owns: Vec<ResourceId>,
}

/// A descriptor that a library opened for itself: declared, not owned, and no leak.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Declared {
    /// The descriptor's number.
    pub number: i32,
    /// Whose it is.
    pub name: String,
    /// Why it is open.
    pub reason: String,
    /// Where it was declared.
    pub site: Site,
}

/// One registry at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// Tasks that are at home in this registry or own something in it, oldest first.
    pub tasks: Vec<TaskData>,
    /// Everything that is owned or offered, in order of tasks and of acquisition.
    pub resources: Vec<ResourceData>,
    /// Libraries' own descriptors.
    pub declared: Vec<Declared>,
}

impl Snapshot {
    /// Every descriptor number that the registry knows of, owned or declared, in ascending order.
    #[must_use]
    pub fn numbers(&self) -> Vec<i32> {
        let owned = self.resources.iter().filter_map(|resource| resource.number);
        let declared = self.declared.iter().map(|declared| declared.number);
        let mut numbers: Vec<i32> = owned.chain(declared).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

impl ResourceData {
    /// Describes what the caller is closing, and so has for itself.
    pub(crate) fn of_closing(held: &dyn Held) -> ResourceData {
        let record = held.record();
        let place = if record.stolen().is_none() { place_of(record) } else { Place::default() };
        describe(record, record.slot.look(), place)
    }

    /// Describes what somebody else may own, pinning its number while the kernel is asked.
    pub(crate) fn of_record(record: &Record) -> ResourceData {
        let word = record.slot.look();
        let pin = record.slot.pinned(word.owner(), Purpose::Look);
        let place = pin.as_ref().map(|_| place_of(record)).unwrap_or_default();
        drop(pin);
        describe(record, word, place)
    }
}

fn place_of(record: &Record) -> Place {
    record.descriptor.map(|descriptor| descriptor.number.place()).unwrap_or_default()
}

fn describe(record: &Record, word: Word, place: Place) -> ResourceData {
    let custody = record.custody();
    let (bytes_in, bytes_out) = record.traffic();
    let half = record.descriptor.and_then(|descriptor| match descriptor.direction {
        Direction::Both => None,
        Direction::Read => Some("read"),
        Direction::Write => Some("write"),
    });
    ResourceData {
        id: record.id,
        kind: record.kind,
        half_of: record.half_of(),
        half,
        number: record.descriptor.map(|descriptor| descriptor.number.raw()),
        identity: record.descriptor.map(|descriptor| descriptor.identity),
        local: place.local,
        peer: place.peer,
        path: place.path,
        state: match word.state() {
            State::Released => "released",
            State::Held => "held",
            State::Busy => "busy",
            State::Offered => "offered",
            State::Split => "split",
            State::Closing => "closing",
        },
        owner: task::find(word.owner()).map(|task| task.label()),
        acquired: record.acquired,
        age_ms: millis_since(record.born),
        bytes_in,
        bytes_out,
        custody_omitted: custody.omitted(),
        custody: steps(&custody),
        kept_alive_by: None,
    }
}

fn steps(custody: &Custody) -> Vec<CustodyStep> {
    let step = |step: &super::custody::Step| CustodyStep {
        event: step.event,
        from: step.from.clone(),
        to: step.to.clone(),
        site: step.site,
        ago_ms: millis_since(step.at),
        thread_id: step.thread,
        backtrace: step.backtrace.as_ref().map(ToString::to_string),
    };
    custody.steps().map(step).collect()
}

fn millis_since(moment: Instant) -> u64 {
    u64::try_from(moment.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How often a snapshot begins again because a task was made meanwhile. The window is some
/// microseconds long; after this many in a row a snapshot that misses the newest tasks is better
/// than none.
const ATTEMPTS_MAX: u32 = 100;

/// A resource as it was found on an account, with its number in hand if that could be had.
struct Noted {
    held: Arc<dyn Held>,
    word: Word,
    is_pinned: bool,
}

impl Noted {
    fn new(held: &Arc<dyn Held>, owner: &Task) -> Noted {
        let slot = &held.record().slot;
        let is_pinned = slot.pin(owner.id().get(), Purpose::Look).is_ok();
        Noted { held: Arc::clone(held), word: slot.look(), is_pinned }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.is_pinned {
            self.held.record().slot.unpin();
        }
    }
}

/// Tasks and resources of the registry with this id.
pub(crate) fn take(registry: u64) -> (Vec<TaskData>, Vec<ResourceData>) {
    let (mut all, mut made) = task::all();
    let mut seen = Vec::new();
    {
        let mut attempts_left = ATTEMPTS_MAX;
        let accounts = loop {
            let accounts: Vec<_> = all.iter().map(|task| task.account()).collect();
            // A task that was made while the locks were being taken may have been given what is
            // missing here. One that is made from now on can be given nothing until all is noted.
            let complete = task::made() == made;
            if complete || attempts_left == 0 {
                break accounts;
            }
            attempts_left -= 1;
            drop(accounts);
            (all, made) = task::all();
        };
        for (task, account) in all.iter().zip(&accounts) {
            let mut owned = Vec::new();
            for held in account.entries() {
                let record = held.record();
                if record.registry.id() != registry {
                    continue;
                }
                owned.push(Noted::new(held, task));
            }
            // An ended task that somebody still has a promise of is no part of what is.
            let lives_here = task.home() == registry && account.phase != Phase::Ended;
            if lives_here || !owned.is_empty() {
                seen.push((task, account.phase, account.cancelled, owned));
            }
        }
    }
    let mut resources = Vec::new();
    let mut tasks = Vec::new();
    for (task, phase, cancelled, owned) in seen {
        let mut owns = Vec::new();
        for noted in owned {
            let record = noted.held.record();
            let place = if noted.is_pinned { place_of(record) } else { Place::default() };
            resources.push(describe(record, noted.word, place));
            owns.push(record.id);
        }
        tasks.push(task_data(task, phase, cancelled, owns));
    }
    (tasks, resources)
}

/// Everything that any task owns in any registry: for whoever has a number and no registry.
///
/// Unlike [`take`] it looks at one account after the other.
#[cfg(feature = "macros")]
pub(crate) fn of_all_registries() -> Vec<ResourceData> {
    let owned = |task: &Arc<Task>| task.account().entries().cloned().collect::<Vec<_>>();
    let held: Vec<Arc<dyn Held>> = task::all().0.iter().flat_map(owned).collect();
    held.iter().map(|held| ResourceData::of_record(held.record())).collect()
}

fn task_data(task: &Task, phase: Phase, cancelled: bool, owns: Vec<ResourceId>) -> TaskData {
    let thread = task.thread();
    TaskData {
        task: task.label(),
        parent: task.parent().map(|parent| parent.id()),
        state: match phase {
            Phase::Open if thread.is_none() => "waiting",
            Phase::Open => "running",
            Phase::Ending => "ending",
            Phase::Ended => "ended",
        },
        cancelled,
        thread: thread.as_ref().map(|(name, _)| name.to_string()),
        thread_id: thread.map(|(_, id)| id),
        spawned: task.was_spawned_at(),
        age_ms: millis_since(task.born()),
        owns,
    }
}
