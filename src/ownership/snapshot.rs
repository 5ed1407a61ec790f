//! Snapshots: the tasks and resources of a registry at one moment.
//!
//! A snapshot locks all accounts while it records the owners, so that a resource that is being moved
//! appears exactly once. Afterwards it reads the addresses from the kernel, with one number pinned at a
//! time: a close waits at most for the description of its own resource, and not for the others. A
//! resource that was moved or closed meanwhile is described as recorded, without its addresses.

use std::sync::Arc;

use echown_fd::fd::FdAddresses;
use echown_report::{
    CustodyStep, RegistrySummary, ResourceData, ResourceId, SCHEMA_VERSION, Snapshot, TaskData,
};

use super::account::TaskPhase;
use super::custody::Custody;
use super::moment::Moment;
use super::record::{Managed, Record, direction_name};
use super::registry::Registry;
use super::slot::{PinPurpose, SlotState, Word};
use super::task::{self, Task};

/// Describes a resource that the caller is closing and therefore has exclusively.
pub(super) fn of_closing(held: &dyn Managed) -> ResourceData {
    let record = held.record();
    let addresses =
        if record.replacement().is_none() { addresses_of(record) } else { FdAddresses::default() };
    describe(record, record.slot.load(), addresses, Moment::now())
}

/// Describes a resource that another task may own. Pins its number while reading from the kernel.
pub(super) fn of_record(record: &Record) -> ResourceData {
    let word = record.slot.load();
    let addresses = pinned_addresses_of(record, word.owner());
    describe(record, word, addresses, Moment::now())
}

/// The addresses or path of a number, if `owner` still has it. The pin is held only for this.
pub(super) fn pinned_addresses_of(record: &Record, owner: u64) -> FdAddresses {
    let pin = record.slot.pin_guard(owner, PinPurpose::Inspect);
    pin.as_ref().map(|_| addresses_of(record)).unwrap_or_default()
}

fn addresses_of(record: &Record) -> FdAddresses {
    record.descriptor.map(|descriptor| descriptor.number.addresses()).unwrap_or_default()
}

/// Builds the description from the recorded state, with the custody until that moment.
fn describe(record: &Record, word: Word, addresses: FdAddresses, recorded: Moment) -> ResourceData {
    let custody = record.custody();
    let (bytes_in, bytes_out) = record.traffic();
    let half = record.descriptor.and_then(|descriptor| direction_name(descriptor.direction));
    ResourceData {
        id: record.id,
        kind: record.kind,
        half_of: record.half_of(),
        half,
        number: record.descriptor.map(|descriptor| descriptor.number.raw()),
        identity: record.descriptor.map(|descriptor| descriptor.identity),
        local: addresses.local,
        peer: addresses.peer,
        path: addresses.path,
        state: match word.state() {
            SlotState::Released => "released",
            SlotState::Held => "held",
            SlotState::Busy => "busy",
            SlotState::Offered => "offered",
            SlotState::Split => "split",
            SlotState::Closing => "closing",
            SlotState::Parked => "parked",
        },
        owner: task::find(word.owner()).map(|task| task.label()),
        acquired: record.acquired,
        age_ms: record.created_at.elapsed_ms(),
        bytes_in,
        bytes_out,
        custody_omitted: custody.omitted(),
        custody: steps(&custody, recorded),
        kept_alive_by: None,
    }
}

fn steps(custody: &Custody, until: Moment) -> Vec<CustodyStep> {
    let step =
        |(index, (step, times)): (usize, (&super::custody::RecordedStep, u64))| CustodyStep {
            event: step.event,
            times,
            from: step.from.as_deref().cloned(),
            to: step.to.as_deref().cloned(),
            site: step.site,
            ago_ms: step.at.elapsed_ms(),
            thread_id: step.thread,
            backtrace: custody.backtrace(index).map(|backtrace| {
                // Without memory for its symbols, printing it would not fail but end or hang the process.
                if crate::sys::memory::has_room_for_symbols() {
                    backtrace.to_string()
                } else {
                    "not shown: a limit of memory leaves no room for the program's symbols"
                        .to_owned()
                }
            }),
        };
    // What stands for several steps stands for those until then, too, whenever the last one was.
    let is_included = |(_, (step, times)): &(usize, (&super::custody::RecordedStep, u64))| {
        step.at <= until || *times > 1
    };
    custody.counted_steps().enumerate().filter(is_included).map(step).collect()
}

impl Registry {
    /// Tasks, resources, owners and custody at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (tasks, resources) = take(self.id());
        Snapshot { schema_version: SCHEMA_VERSION, tasks, resources, declared: self.declared() }
    }

    /// How many descriptors of this registry have an owner. Faster than a snapshot.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn owned_descriptors(&self) -> usize {
        super::fd_table::count(self)
    }

    /// The summary so far. Ends no task.
    #[must_use]
    pub fn summary(&self) -> RegistrySummary {
        self.count_up(self.snapshot().resources)
    }
}

/// How often a snapshot restarts because a task was created meanwhile. The window is a few microseconds
/// long. After this many restarts, a snapshot that misses the newest tasks is better than none.
const ATTEMPTS_MAX: u32 = 100;

/// A task as recorded, with the resources on its account.
pub(super) struct RecordedTask {
    pub(super) task: Arc<Task>,
    phase: TaskPhase,
    cancelled: bool,
    pub(super) owned: Vec<(Arc<dyn Managed>, Word)>,
}

/// Tasks and resources of the registry with this id.
fn take(registry: u64) -> (Vec<TaskData>, Vec<ResourceData>) {
    let (recorded, at) = record_owners(registry);
    describe_all(recorded, at)
}

/// Records the owners at one moment, and returns that moment, too.
pub(super) fn record_owners(registry: u64) -> (Vec<RecordedTask>, Moment) {
    let (mut all, mut made) = task::all();
    let mut attempts_left = ATTEMPTS_MAX;
    let accounts = loop {
        let accounts: Vec<_> = all.iter().map(|task| task.account()).collect();
        // A task that was created while the locks were being taken may have been given resources that
        // are missing here. One that is created from now on can be given nothing until all are recorded.
        let complete = task::created() == made;
        if complete || attempts_left == 0 {
            break accounts;
        }
        attempts_left -= 1;
        drop(accounts);
        (all, made) = task::all();
    };
    let mut recorded = Vec::new();
    for (task, account) in all.iter().zip(&accounts) {
        let here = account.entries().filter(|held| held.record().registry.id() == registry);
        let owned: Vec<_> =
            here.map(|held| (Arc::clone(held), held.record().slot.load())).collect();
        // An ended task whose promise still exists is not part of the snapshot.
        let lives_here = task.registry_id() == registry && account.phase != TaskPhase::Ended;
        if lives_here || !owned.is_empty() {
            let (phase, cancelled) = (account.phase, account.cancelled);
            recorded.push(RecordedTask { task: Arc::clone(task), phase, cancelled, owned });
        }
    }
    (recorded, Moment::now())
}

fn describe_all(recorded: Vec<RecordedTask>, at: Moment) -> (Vec<TaskData>, Vec<ResourceData>) {
    let mut resources = Vec::new();
    let mut tasks = Vec::new();
    for RecordedTask { task, phase, cancelled, owned } in recorded {
        let mut owns = Vec::new();
        for (held, word) in owned {
            let record = held.record();
            let addresses = pinned_addresses_of(record, word.owner());
            resources.push(describe(record, word, addresses, at));
            owns.push(record.id);
        }
        tasks.push(task_data(&task, phase, cancelled, owns));
    }
    (tasks, resources)
}

/// Everything that any task owns in any registry: for a caller with a number and no registry.
///
/// Unlike [`take`] it locks one account after the other.
#[cfg(feature = "macros")]
pub(crate) fn of_all_registries() -> Vec<ResourceData> {
    let owned = |task: &Arc<Task>| task.account().entries().cloned().collect::<Vec<_>>();
    let held: Vec<Arc<dyn Managed>> = task::all().0.iter().flat_map(owned).collect();
    held.iter().map(|held| of_record(held.record())).collect()
}

fn task_data(task: &Task, phase: TaskPhase, cancelled: bool, owns: Vec<ResourceId>) -> TaskData {
    let thread = task.thread();
    TaskData {
        task: task.label(),
        parent: task.parent().map(|parent| parent.id()),
        state: match phase {
            TaskPhase::Open if thread.is_none() => "waiting",
            TaskPhase::Open => "running",
            TaskPhase::Ending => "exiting",
            TaskPhase::Ended => "ended",
        },
        cancelled,
        thread: thread.as_ref().map(|(name, _)| name.to_string()),
        thread_id: thread.map(|(_, id)| id),
        spawned: task.explicit_spawn_site(),
        age_ms: task.created_at().elapsed_ms(),
        owns,
    }
}

#[cfg(all(test, not(echown_loom)))]
mod tests {
    use super::*;
    use crate::ownership::Registry;
    use crate::ownership::slot::pins;
    use echown_report::Event;
    use std::net::TcpListener;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").expect("loopback has a free port")
    }

    #[test]
    fn a_snapshot_holds_no_more_than_one_pin_at_a_time() {
        let registry = Registry::new();
        let outcome = registry.run("owner", || {
            let own = |_| registry.own_fd(listener()).expect("it is open and nobody owns it");
            let owned: Vec<_> = (0..20).map(own).collect();
            let (most, snapshot) = owned[0].with(|_| pins::most(|| registry.snapshot())).unwrap();
            assert_eq!(most, 1);
            assert!(snapshot.resources.iter().all(|resource| resource.local.is_some()));
            assert_eq!(snapshot.resources.len(), owned.len());
        });
        outcome.expect("it leaves nothing");
    }

    #[test]
    fn a_resource_that_moved_or_closed_after_recording_is_described_as_recorded() {
        let registry = Registry::new();
        let outcome = registry.run("parent", || {
            let (mut parts, mut moved) = (None, None);
            let ended = registry.run_inline("child", [], || {
                let own = || registry.own_fd(listener()).expect("it is open and nobody owns it");
                let all = [own(), own(), own()];
                parts = Some((record_owners(registry.id()), all.each_ref().map(|one| one.id())));
                let [released, transferred, offered] = all;
                released.release().expect("it is its own");
                transferred.transfer().expect("the parent is running");
                moved = Some((transferred, offered.offer().expect("it is its own")));
            });
            ended.expect("it leaves nothing");
            // Its task has ended, too; only the record remains.
            let ((recorded, at), ids) = parts.expect("the child ran");
            let (tasks, resources) = describe_all(recorded, at);
            assert_eq!(resources.iter().map(|resource| resource.id).collect::<Vec<_>>(), ids);
            for resource in &resources {
                assert_eq!((resource.state, &resource.local), ("held", &None));
                assert_eq!(&*resource.owner.as_ref().expect("it had one").name, "child");
                let events: Vec<_> = resource.custody.iter().map(|step| step.event).collect();
                assert_eq!(events, [Event::Acquired]);
            }
            let child =
                tasks.iter().find(|task| &*task.task.name == "child").expect("it was there");
            assert_eq!((child.state, &*child.owns), ("running", &ids[..]));
            let (transferred, offered) = moved.expect("the child ran");
            drop((transferred, offered.claim().expect("it is offered to all")));
        });
        outcome.expect("it leaves nothing");
    }
}
