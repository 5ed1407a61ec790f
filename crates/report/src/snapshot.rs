//! Snapshots: tasks and resources at one moment, as plain data.

use echown_fd::identity::Identity;

use super::event::Event;
use super::graph::Cycle;
use super::ids::{ResourceId, TaskId, TaskLabel};
use super::site::Site;

/// The description of one resource.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct ResourceData {
    /// Never reused.
    pub id: ResourceId,
    /// The kind: `tcp stream`, `file`, or the name of a type.
    pub kind: &'static str,
    /// For a half: the resource that was split.
    pub half_of: Option<ResourceId>,
    /// For a half: `read` or `write`.
    pub half: Option<&'static str>,
    /// The descriptor's number, for descriptors.
    pub number: Option<i32>,
    /// The identity of the open file at registration.
    pub identity: Option<Identity>,
    /// Local address, while the socket is open.
    pub local: Option<String>,
    /// The peer's address, while the socket is open.
    pub peer: Option<String>,
    /// Path, while the file is open.
    pub path: Option<String>,
    /// The state: `held`, `busy`, `offered`, `parked`, `split`, `closing`, `released`.
    pub state: &'static str,
    /// The owner, or the task whose account has the offer or the parked resource.
    pub owner: Option<TaskLabel>,
    /// Where it was acquired.
    pub acquired: Site,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// Bytes received through it.
    pub bytes_in: u64,
    /// Bytes sent through it.
    pub bytes_out: u64,
    /// The chain of custody, oldest step first.
    pub custody: Vec<CustodyStep>,
    /// The number of steps in the middle that were not kept.
    pub custody_omitted: u64,
    /// In a leak report: the cycle of recorded references that kept it alive, if there was one.
    pub kept_alive_by: Option<Cycle>,
}

impl ResourceData {
    /// Its addresses and its path.
    #[must_use]
    pub fn places(&self) -> Vec<&str> {
        [&self.local, &self.peer, &self.path].into_iter().flatten().map(String::as_str).collect()
    }
}

/// One step of a custody.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct CustodyStep {
    /// What happened.
    pub event: Event,
    /// How many steps it stands for: a resource that was parked and unparked in turn has the last step of
    /// either kind.
    #[cfg_attr(feature = "json", serde(skip_serializing_if = "is_one"))]
    pub times: u64,
    /// The owner before the step.
    pub from: Option<TaskLabel>,
    /// The owner after the step.
    pub to: Option<TaskLabel>,
    /// Where the step was made.
    pub site: Site,
    /// Age of the step in milliseconds.
    pub ago_ms: u64,
    /// The kernel's id of the thread.
    pub thread_id: u32,
    /// The backtrace; only at level `full`.
    pub backtrace: Option<String>,
}

#[cfg(feature = "json")]
fn is_one(times: &u64) -> bool {
    *times == 1
}

/// The description of one task.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TaskData {
    /// Id and name.
    pub task: TaskLabel,
    /// Its parent; `None` for a root.
    pub parent: Option<TaskId>,
    /// `waiting`, `running`, `exiting` or `ended`.
    pub state: &'static str,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// Name of its thread, once it has one.
    pub thread: Option<String>,
    /// The kernel's id of that thread.
    pub thread_id: Option<u32>,
    /// Where it was spawned, unless it is a thread that was not started as a task.
    pub spawned: Option<Site>,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// Its resources, in order of acquisition.
    pub owns: Vec<ResourceId>,
}

/// A descriptor that a library opened for its own use: declared, not owned, and not a leak.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Declared {
    /// The descriptor's number.
    pub number: i32,
    /// The library.
    pub name: String,
    /// Why it is open.
    pub reason: String,
    /// Where it was declared.
    pub site: Site,
}

/// The state of a registry at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Snapshot {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// Tasks that were spawned for this registry or own a resource in it, oldest first.
    pub tasks: Vec<TaskData>,
    /// All owned and offered resources, ordered by task and acquisition.
    pub resources: Vec<ResourceData>,
    /// Declared descriptors of libraries.
    pub declared: Vec<Declared>,
}

impl Snapshot {
    /// All descriptor numbers of the registry, owned or declared, in ascending order.
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
