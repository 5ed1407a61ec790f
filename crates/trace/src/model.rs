//! The model of all descriptor tables: what is open in which process, who opened and closed it.
//!
//! It is pure: events go in, and it makes no calls. A recorded list of events has the same findings as
//! the live program. Wrong events (of an unknown task, a close of a number that was never opened) are
//! counted as [`Gap::Missed`] and never panic.
//!
//! Memory is bounded by what is open, the numbers that were open at the same time, and the places in the
//! program: closed descriptors are counted for each place and not kept.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::{Event, Gap, OpenFd, Tid, What};
use crate::finding::{Finding, Opening, Process, Thread};

mod calls;
mod coverage;
mod exits;
mod failed;
mod lifecycle;
mod numbers;
mod passing;
mod past;
mod programs;
mod record;
mod runs;
mod sites;
#[cfg(test)]
mod size;
mod table;
#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Occurrences};
use passing::{Passings, Told};
use record::Record;
use runs::Run;
use table::{Descriptor, Table};

type TableId = u64;

#[derive(Debug)]
struct TaskState {
    thread: Arc<Thread>,
    table: TableId,
    /// It makes no calls any more.
    is_ending: bool,
    /// Closes that may be part of a loop over all numbers.
    close_run: Option<Box<Run>>,
    /// Uses that may be part of such a loop.
    use_run: Option<Box<Run>>,
}

#[derive(Debug)]
struct ProcessState {
    process: Arc<Process>,
    tasks: Vec<Tid>,
}

/// Where and when an event happened.
#[derive(Clone, Debug)]
struct At {
    time_ns: u64,
    task: Tid,
    table: TableId,
    thread: Arc<Thread>,
}

/// The descriptor tables of all traced processes.
#[derive(Debug, Default)]
pub struct Model {
    /// The position of the current event.
    sequence: u64,
    now_ns: u64,
    tasks: FxHashMap<Tid, TaskState>,
    processes: FxHashMap<i32, ProcessState>,
    tables: FxHashMap<TableId, Table>,
    next_table: TableId,
    next_file: u64,
    passings: Passings,
    record: Record,
    coverage: Coverage,
    opened: u64,
    process_count: u64,
}

impl Model {
    /// A model of no process.
    #[must_use]
    pub fn new() -> Model {
        Model::default()
    }

    /// Takes the next event.
    pub fn apply(&mut self, event: &Event) {
        self.sequence += 1;
        self.now_ns = event.time_ns;
        match &event.what {
            What::Started { program, open } => self.started(event.task, program, open),
            What::Executed { former, program, open, mentioned, hinted } => {
                let told = Told { named: mentioned, hinted };
                self.executed(event.task, *former, program, open, told);
            }
            What::CoverageReduced(gap) => self.gap(event.task, *gap),
            What::Ended => self.ended(event.task),
            what => match self.at(event.task) {
                Some(at) => self.apply_at(&at, what),
                None => self.gap(event.task, Gap::Missed),
            },
        }
    }

    fn apply_at(&mut self, at: &At, what: &What) {
        match what {
            What::Created { child, is_thread, shares_files } => {
                self.created(at, *child, *is_thread, *shares_files);
            }
            What::Named { name } => self.named(at, name),
            What::Opened(opened) => self.opened(at, opened),
            What::Closed { number, error, is_quarantined, stack } => {
                self.closed(at, *number, *error, *is_quarantined, *stack);
            }
            What::Freed { number } => {
                let is_freed = self.tables.get_mut(&at.table).is_some_and(|t| t.free_held(*number));
                if !is_freed {
                    self.gap(at.task, Gap::Missed);
                }
            }
            What::ClosedRange { first, last, sets_cloexec, stack } => {
                self.closed_range(at, *first, *last, *sets_cloexec, *stack);
            }
            What::CloexecSet { number, is_set } => self.cloexec_set(at, *number, *is_set),
            What::FilesUnshared => self.unshared(at),
            What::Used { number } => self.touch(at.table, *number),
            What::UsedClosed { call, number, stack } => self.used_closed(at, call, *number, *stack),
            What::Ending { open, .. } => self.ending(at, open.as_deref()),
            What::Started { .. }
            | What::Executed { .. }
            | What::Ended
            | What::CoverageReduced(_) => {}
        }
    }

    fn at(&self, task: Tid) -> Option<At> {
        let state = self.tasks.get(&task).filter(|state| !state.is_ending)?;
        Some(At {
            time_ns: self.now_ns,
            task,
            table: state.table,
            thread: Arc::clone(&state.thread),
        })
    }

    fn gap(&mut self, task: Tid, gap: Gap) {
        let process = self.tasks.get(&task).map(|state| &state.thread.process);
        self.coverage.gaps.entry(gap).or_default().add(process);
    }

    fn table_of(&self, task: Tid) -> Option<&Table> {
        let state = self.tasks.get(&task).filter(|state| !state.is_ending)?;
        self.tables.get(&state.table)
    }
}

/// What the tracer asks at each stop.
impl Model {
    /// Whether the number is open in the task's table. `None`: the task or its table is unknown. A number
    /// that the quarantine holds is not open.
    #[must_use]
    pub fn is_open(&self, task: Tid, number: i32) -> Option<bool> {
        Some(self.table_of(task)?.open(number).is_some())
    }

    /// Whether the quarantine holds the number.
    #[must_use]
    pub fn is_held(&self, task: Tid, number: i32) -> bool {
        self.table_of(task).is_some_and(|table| table.is_held(number))
    }

    /// How many numbers the quarantine holds in the task's table.
    #[must_use]
    pub fn held_count(&self, task: Tid) -> usize {
        self.table_of(task).map_or(0, Table::held_count)
    }

    /// The number that the quarantine has held for the longest time.
    #[must_use]
    pub fn oldest_held(&self, task: Tid) -> Option<i32> {
        self.table_of(task)?.oldest_held()
    }

    /// The lowest number from `from` on that is neither open nor held: what the kernel returns next. `None`
    /// if the task or its table is unknown.
    pub fn lowest_free(&mut self, task: Tid, from: i32) -> Option<i32> {
        let state = self.tasks.get(&task).filter(|state| !state.is_ending)?;
        Some(self.tables.get_mut(&state.table)?.lowest_free(from))
    }

    /// Whether no other task uses the task's table. A task that is about to end does not use it any more.
    #[must_use]
    pub fn is_sole_user(&self, task: Tid) -> bool {
        self.table_of(task).is_some_and(|table| table.users == 1)
    }

    /// Whether a use of the open number would tell something: another program passed it on, and no process
    /// used it yet.
    #[must_use]
    pub fn wants_use(&self, task: Tid, number: i32) -> bool {
        let passing = self.table_of(task).and_then(|table| table.open(number)?.passing);
        passing.is_some_and(|passing| !self.passings.is_used(passing))
    }

    /// The close-on-exec flag of an open number.
    #[must_use]
    pub fn is_cloexec(&self, task: Tid, number: i32) -> Option<bool> {
        Some(self.table_of(task)?.open(number)?.is_cloexec)
    }

    /// How the open number was opened.
    #[must_use]
    pub fn opening(&self, task: Tid, number: i32) -> Option<&Arc<Opening>> {
        Some(&self.table_of(task)?.open(number)?.opening)
    }

    /// The open numbers of the task's table in ascending order.
    #[must_use]
    pub fn open_numbers(&self, task: Tid) -> Vec<i32> {
        self.table_of(task).map_or_else(Vec::new, Table::open_numbers)
    }

    /// The descriptors of the task's table that stay open at an exec, in ascending order.
    #[must_use]
    pub fn kept_at_exec(&self, task: Tid) -> Vec<OpenFd> {
        let Some(table) = self.table_of(task) else { return Vec::new() };
        let kept = table.iter_open().filter(|(_, descriptor)| !descriptor.is_cloexec);
        let fd = |(number, descriptor): (i32, &Descriptor)| {
            let link = descriptor.opening.link.clone();
            OpenFd { number, link, is_cloexec: false, details: None }
        };
        kept.map(fd).collect()
    }

    /// The task, its name and its process.
    #[must_use]
    pub fn thread(&self, task: Tid) -> Option<&Arc<Thread>> {
        self.tasks.get(&task).map(|state| &state.thread)
    }

    /// Whether the task is known and has not ended.
    #[must_use]
    pub fn is_known(&self, task: Tid) -> bool {
        self.tasks.contains_key(&task)
    }
}

/// Totals, for progress and reports.
impl Model {
    /// How much of the program the model saw.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        Coverage { dropped: self.record.dropped(), ..self.coverage.clone() }
    }

    /// The number of descriptors that were created so far.
    #[must_use]
    pub fn opened_total(&self) -> u64 {
        self.opened
    }

    /// The number of descriptors that are open in all tables.
    #[must_use]
    pub fn open_total(&self) -> usize {
        self.tables.values().map(Table::open_count).sum()
    }

    /// The number of processes so far.
    #[must_use]
    pub fn process_total(&self) -> u64 {
        self.process_count
    }

    /// The processes that have not ended, in no order.
    pub fn processes(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.processes.values().map(|state| &state.process)
    }

    /// The findings so far, in the order of their first occurrence, without those that only the end shows.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.record.findings()
    }

    /// The findings as if all processes ended now, in no useful order.
    #[must_use]
    pub fn findings_at_end(&self) -> Vec<Finding> {
        let mut record = self.record.clone();
        self.pending_failures(&mut record);
        for table in self.tables.values() {
            exits::leftovers(table, self.now_ns, &[], &mut record);
        }
        self.passings.unused(&mut record);
        record.findings().to_vec()
    }
}
