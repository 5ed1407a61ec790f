//! Turns events of the tracer into lines of a recording.
//!
//! A thread is a task. A program that replaces another one by `execve` is a task of its own, which gets
//! the descriptors that survive. The owner of a descriptor is the task that opened it: the kernel knows
//! only tables, so that another thread may close it, and `thread` names that one. A thread that ends
//! leaves its descriptors to the first task of its process.
//!
//! | event | lines |
//! |---|---|
//! | a call creates a descriptor | `acquired` |
//! | `fork`, `unshare` copy a table | `acquired` for each number, in the copy |
//! | `close`, `dup2` over it, close-on-exec | `released` |
//! | a program survives in another one, or a thread ends before its descriptors | `given`, `transferred` |
//! | the last task of a table ends | `finalized` for each number |

use std::collections::BTreeMap;
use std::sync::Arc;

use echown_fd::escape;
use echown_trace::event::{Event, OpenFd, Opened, Tid, What};
use echown_trace::stack::StackId;
use rustc_hash::FxHashMap;

use super::tables::{Slot, Table, Task, kind, path};
use crate::events::{Kind, Line, TaskName};

/// The longest name of a thread, in bytes (`TASK_COMM_LEN` without the zero).
const NAME_MAX: usize = 15;

/// The state of a recording.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    tables: FxHashMap<u32, Table>,
    tasks: FxHashMap<Tid, Task>,
    tasks_made: u64,
    /// The id of the last task of each thread.
    last: FxHashMap<Tid, u64>,
    tables_made: u32,
    resources_made: u64,
    /// The newest name of each task. Lines that were written before have an older one.
    names: FxHashMap<u64, Arc<str>>,
    /// The lines of the current event.
    lines: Vec<(Line, StackId)>,
    time_ns: u64,
    is_replayed: bool,
}

impl Encoder {
    /// The lines of an event, each with the stack of its call.
    pub(super) fn encode(&mut self, event: &Event) -> Vec<(Line, StackId)> {
        self.time_ns = event.time_ns;
        let task = event.task;
        match &event.what {
            What::Started { program, open } => self.started(task, program, open),
            What::Created { child, is_thread, shares_files } => {
                self.created(task, *child, *is_thread, *shares_files);
            }
            What::Executed { former, program, open, .. } => {
                self.executed(task, *former, program, open)
            }
            What::Named { name } => self.named(task, name),
            What::Opened(opened) => self.opened(task, opened),
            What::Closed { number, error: None, stack, .. } => {
                self.release(task, *number, "close", *stack);
            }
            What::ClosedRange { first, last, sets_cloexec, stack } => {
                self.closed_range(task, (*first, *last), *sets_cloexec, *stack);
            }
            What::CloexecSet { number, is_set } => {
                if let Some(slot) = self.slot_mut(task, *number) {
                    slot.is_cloexec = *is_set;
                }
            }
            What::FilesUnshared => self.unshared(task),
            What::Ending { status, .. } => {
                if let Some(task) = self.tasks.get_mut(&task) {
                    task.status = Some(*status);
                }
            }
            What::Ended => self.ended(task, "returned"),
            What::CoverageReduced(gap) => self.message(task, &format!("not followed: {gap:?}")),
            // Neither opens nor closes anything.
            What::Closed { .. }
            | What::Freed { .. }
            | What::Used { .. }
            | What::UsedClosed { .. } => {}
        }
        std::mem::take(&mut self.lines)
    }

    /// The resource that is open as a number.
    pub(super) fn resource(&self, task: Tid, number: i32) -> Option<u64> {
        let table = self.tasks.get(&task)?.table;
        Some(self.tables.get(&table)?.slots.get(&number)?.resource)
    }

    /// The last task of a thread.
    pub(super) fn last_of(&self, tid: Tid) -> Option<TaskName> {
        let id = *self.last.get(&tid)?;
        Some(TaskName { id, name: Arc::clone(self.names.get(&id)?) })
    }

    /// The newest name of each task, by the id in the recording.
    pub(super) fn names(&self) -> &FxHashMap<u64, Arc<str>> {
        &self.names
    }

    fn started(&mut self, task: Tid, program: &str, open: &[OpenFd]) {
        self.is_replayed = true;
        let table = self.add_table(Table::of_one());
        self.process_started(task, None, program);
        self.add_task(task, &base_name(program), task, table, None);
        for fd in open {
            self.acquire(task, fd, None, None, StackId::NONE);
        }
        self.is_replayed = false;
        self.push(Line::new(Kind::Live, 0), task, StackId::NONE);
    }

    fn created(&mut self, parent: Tid, child: Tid, is_thread: bool, shares_files: bool) {
        let Some(made_by) = self.tasks.get(&parent).cloned() else { return };
        let process = if is_thread { made_by.process } else { child };
        let table = if shares_files {
            self.table(made_by.table).users += 1;
            made_by.table
        } else {
            self.add_table(Table::of_one())
        };
        if !is_thread {
            self.process_started(child, Some(&made_by), "");
        }
        let name = without_number(&made_by.name.name).to_owned();
        self.add_task(child, &name, process, table, Some(&made_by.name));
        if !shares_files {
            let slots = self.table(made_by.table).slots.clone();
            self.copy(child, &slots, if is_thread { "clone" } else { "fork" });
        }
    }

    /// Copies descriptors to the table of a task.
    fn copy(&mut self, task: Tid, slots: &BTreeMap<i32, Slot>, call: &'static str) {
        for (&number, slot) in slots {
            let line = Line { call: Some(call.into()), ..Line::new(Kind::Acquired, 0) };
            let slot = Slot { resource: self.next_resource(), ..slot.clone() };
            self.insert(task, number, slot, line, StackId::NONE);
        }
    }

    fn executed(&mut self, task: Tid, former: Tid, program: &str, open: &[OpenFd]) {
        let Some(before) = self.tasks.get(&former).cloned() else { return };
        // The kernel has ended all other threads.
        let others = self.of_process(before.process).into_iter().filter(|tid| *tid != former);
        others.collect::<Vec<_>>().into_iter().for_each(|tid| self.ended(tid, "killed"));
        self.unshared(former);
        let Some(before) = self.tasks.remove(&former) else { return };
        self.add_task(task, &base_name(program), task, before.table, Some(&before.name));
        self.survive(task, &before.name, open);
        self.task_ended(former, before.process, before.name, "executed");
    }

    /// What is open after an exec belongs to the new program; the rest is closed.
    fn survive(&mut self, task: Tid, before: &TaskName, open: &[OpenFd]) {
        let Some((at, to)) = self.tasks.get(&task).map(|it| (it.table, it.name.clone())) else {
            return;
        };
        let known = std::mem::take(&mut self.table(at).slots);
        let mut left = BTreeMap::new();
        for (number, mut slot) in known {
            let survives = open.iter().any(|fd| fd.number == number);
            let kind = if survives { Kind::Given } else { Kind::Released };
            let mut line = Line { call: Some("execve".into()), ..Line::new(kind, 0) };
            line.from = Some(before.clone());
            line.to = survives.then(|| to.clone());
            self.push_step(line, task, at, number, &slot, StackId::NONE);
            if survives {
                slot.owner = task;
                left.insert(number, slot);
            }
        }
        if let Some(task) = self.tasks.get_mut(&task) {
            task.owned = left.len() as u64;
        }
        self.table(at).slots = left;
        for fd in open {
            match self.slot_mut(task, fd.number) {
                Some(slot) => slot.is_cloexec = fd.is_cloexec,
                None => self.acquire(task, fd, None, None, StackId::NONE),
            }
        }
    }

    fn named(&mut self, tid: Tid, name: &str) {
        let Some(task) = self.tasks.get_mut(&tid) else { return };
        task.name.name = with_number(&escape::bytes(name.as_bytes()), tid);
        self.names.insert(task.name.id, Arc::clone(&task.name.name));
    }

    fn opened(&mut self, task: Tid, opened: &Opened) {
        let description =
            opened.duplicate_of.and_then(|of| Some(self.slot_mut(task, of)?.description));
        for fd in &opened.fds {
            self.release(task, fd.number, opened.call, opened.stack);
            self.acquire(task, fd, description, Some(opened.call), opened.stack);
        }
    }

    fn closed_range(
        &mut self,
        task: Tid,
        (first, last): (u32, u32),
        sets_cloexec: bool,
        stack: StackId,
    ) {
        let Some(table) = self.tasks.get(&task).map(|it| it.table) else { return };
        let (Ok(first), last) = (i32::try_from(first), i32::try_from(last).unwrap_or(i32::MAX))
        else {
            return;
        };
        if first > last {
            return;
        }
        if sets_cloexec {
            self.table(table)
                .slots
                .range_mut(first..=last)
                .for_each(|(_, it)| it.is_cloexec = true);
            return;
        }
        let numbers: Vec<i32> =
            self.table(table).slots.range(first..=last).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.release(task, number, "close_range", stack));
    }

    fn unshared(&mut self, task: Tid) {
        let Some(old) = self.tasks.get(&task).map(|it| it.table) else { return };
        if self.table(old).users < 2 {
            return;
        }
        let slots = self.table(old).slots.clone();
        self.table(old).users -= 1;
        let new = self.add_table(Table::of_one());
        // What it opened before stays in the old table, with the first task of the process.
        self.leave_owned(task, "unshare");
        if let Some(task) = self.tasks.get_mut(&task) {
            task.table = new;
        }
        self.copy(task, &slots, "unshare");
    }

    /// Gives what a task owns in its table to another user of the table.
    fn leave_owned(&mut self, task: Tid, call: &'static str) {
        let Some(it) = self.tasks.get(&task).cloned() else { return };
        if it.owned == 0 {
            return;
        }
        let is_heir = |tid: &Tid, other: &Task| *tid != task && other.table == it.table;
        let first = self.tasks.get(&it.process).filter(|other| is_heir(&it.process, other));
        let heir = match first {
            Some(_) => Some(it.process),
            None => self.tasks.iter().find(|(tid, other)| is_heir(tid, other)).map(|(tid, _)| *tid),
        };
        let Some((heir, to)) = heir.and_then(|tid| Some((tid, self.tasks.get(&tid)?.name.clone())))
        else {
            return;
        };
        let mut slots = std::mem::take(&mut self.table(it.table).slots);
        for (&number, slot) in slots.iter_mut().filter(|(_, slot)| slot.owner == task) {
            slot.owner = heir;
            let mut line = Line::new(Kind::Transferred, 0);
            line.call = Some(call.into());
            (line.from, line.to) = (Some(it.name.clone()), Some(to.clone()));
            self.push_step(line, task, it.table, number, slot, StackId::NONE);
        }
        self.table(it.table).slots = slots;
        if let Some(heir) = self.tasks.get_mut(&heir) {
            heir.owned += it.owned;
        }
    }

    fn ended(&mut self, task: Tid, outcome: &'static str) {
        let Some(it) = self.tasks.get(&task).cloned() else { return };
        let table = self.table(it.table);
        table.users = table.users.saturating_sub(1);
        if table.users == 0 {
            let table = self.tables.remove(&it.table).unwrap_or_default();
            for (number, slot) in &table.slots {
                let from = self.tasks.get(&slot.owner).map(|it| it.name.clone());
                let line =
                    Line { call: Some("exit".into()), from, ..Line::new(Kind::Finalized, 0) };
                self.push_step(line, task, it.table, *number, slot, StackId::NONE);
            }
        } else {
            self.leave_owned(task, "exit");
        }
        self.tasks.remove(&task);
        let is_killed = it.status.is_some_and(|status| status & 0x7f != 0);
        let outcome = if is_killed { "killed" } else { outcome };
        self.task_ended(task, it.process, it.name, outcome);
        if it.process == task {
            let status = it.status.map(exit_code);
            self.push_of(Line { status, ..Line::new(Kind::ProcessEnded, 0) }, task, task);
        }
    }

    fn message(&mut self, task: Tid, text: &str) {
        let name = self.tasks.get(&task).map(|it| it.name.clone());
        let line = Line { task: name, text: Some(text.to_owned()), ..Line::new(Kind::Message, 0) };
        self.push(line, task, StackId::NONE);
    }

    fn process_started(&mut self, process: Tid, parent: Option<&Task>, program: &str) {
        let program = (!program.is_empty()).then(|| escape::bytes(program.as_bytes()).into_owned());
        let line = Line {
            parent_process: parent.map(|it| number_of(it.process)),
            table_copied_from: parent.map(|it| it.table),
            program,
            ..Line::new(Kind::ProcessStarted, 0)
        };
        self.push_of(line, process, process);
    }

    /// Adds a task and its line.
    fn add_task(
        &mut self,
        tid: Tid,
        name: &str,
        process: Tid,
        table: u32,
        parent: Option<&TaskName>,
    ) {
        self.tasks_made += 1;
        self.last.insert(tid, self.tasks_made);
        let thread_name = Arc::from(name);
        let name = TaskName { id: self.tasks_made, name: with_number(name, tid) };
        self.names.insert(name.id, Arc::clone(&name.name));
        let task = Task { name: name.clone(), process, table, owned: 0, status: None };
        self.tasks.insert(tid, task);
        let line = Line {
            thread_name: Some(thread_name),
            task: Some(name),
            parent: parent.cloned(),
            ..Line::new(Kind::TaskStarted, 0)
        };
        self.push(line, tid, StackId::NONE);
    }

    fn task_ended(&mut self, tid: Tid, process: Tid, name: TaskName, outcome: &'static str) {
        let line = Line {
            task: Some(name),
            outcome: Some(outcome.into()),
            ..Line::new(Kind::TaskEnded, 0)
        };
        self.push_of(line, tid, process);
    }

    fn acquire(
        &mut self,
        task: Tid,
        fd: &OpenFd,
        description: Option<u64>,
        call: Option<&'static str>,
        stack: StackId,
    ) {
        let resource = self.next_resource();
        let slot = Slot {
            resource,
            description: description.unwrap_or(resource),
            kind: kind(fd, call.unwrap_or_default()),
            path: path(fd),
            owner: task,
            is_cloexec: fd.is_cloexec,
            generation: 0,
        };
        let mut line = Line { call: call.map(Into::into), ..Line::new(Kind::Acquired, 0) };
        if let Some(details) = &fd.details {
            (line.local, line.peer) = (details.local.clone(), details.peer.clone());
        }
        self.insert(task, fd.number, slot, line, stack);
    }

    /// Adds a descriptor to the table of a task, which becomes its owner, and a line.
    fn insert(&mut self, task: Tid, number: i32, slot: Slot, mut line: Line, stack: StackId) {
        let Some(owner) = self.tasks.get_mut(&task) else { return };
        owner.owned += 1;
        line.to = Some(owner.name.clone());
        line.path = slot.path.as_deref().map(str::to_owned);
        let at = owner.table;
        let table = self.table(at);
        let slot = Slot { owner: task, generation: table.next_generation(number), ..slot };
        table.slots.insert(number, slot.clone());
        self.push_step(line, task, at, number, &slot, stack);
    }

    fn release(&mut self, task: Tid, number: i32, call: &'static str, stack: StackId) {
        let Some(at) = self.tasks.get(&task).map(|it| it.table) else { return };
        let Some(slot) = self.table(at).slots.remove(&number) else { return };
        let owner = self.tasks.get_mut(&slot.owner);
        let from = owner.map(|owner| {
            owner.owned = owner.owned.saturating_sub(1);
            owner.name.clone()
        });
        let line = Line { call: Some(call.into()), from, ..Line::new(Kind::Released, 0) };
        self.push_step(line, task, at, number, &slot, stack);
    }

    fn push_step(
        &mut self,
        line: Line,
        task: Tid,
        table: u32,
        number: i32,
        slot: &Slot,
        stack: StackId,
    ) {
        let line = Line {
            resource: Some(slot.resource),
            kind: Some(slot.kind.into()),
            number: Some(number),
            table: Some(table),
            generation: Some(slot.generation),
            description: Some(slot.description),
            ..line
        };
        self.push(line, task, stack);
    }

    /// Adds a line of a task that is known.
    fn push(&mut self, line: Line, task: Tid, stack: StackId) {
        let process = self.tasks.get(&task).map_or(task, |it| it.process);
        self.push_of(line, task, process);
        if let Some((_, of)) = self.lines.last_mut() {
            *of = stack;
        }
    }

    fn push_of(&mut self, mut line: Line, task: Tid, process: Tid) {
        line.time_ns = self.time_ns;
        line.process = Some(number_of(process));
        line.thread = Some(number_of(task));
        line.replayed = self.is_replayed.then_some(true);
        self.lines.push((line, StackId::NONE));
    }

    fn slot_mut(&mut self, task: Tid, number: i32) -> Option<&mut Slot> {
        let table = self.tasks.get(&task)?.table;
        self.tables.get_mut(&table)?.slots.get_mut(&number)
    }

    fn table(&mut self, number: u32) -> &mut Table {
        self.tables.entry(number).or_default()
    }

    fn add_table(&mut self, table: Table) -> u32 {
        self.tables_made += 1;
        self.tables.insert(self.tables_made, table);
        self.tables_made
    }

    fn next_resource(&mut self) -> u64 {
        self.resources_made += 1;
        self.resources_made
    }

    fn of_process(&self, process: Tid) -> Vec<Tid> {
        let mut tids: Vec<Tid> = self
            .tasks
            .iter()
            .filter(|(_, it)| it.process == process)
            .map(|(tid, _)| *tid)
            .collect();
        tids.sort_unstable();
        tids
    }
}

fn number_of(tid: Tid) -> u32 {
    u32::try_from(tid.0).unwrap_or_default()
}

/// The name of a task: that of its thread, and the kernel's id of the thread.
fn with_number(name: &str, tid: Tid) -> Arc<str> {
    format!("{name} {}", tid.0).into()
}

fn without_number(name: &str) -> &str {
    name.rsplit_once(' ').map_or(name, |(name, _)| name)
}

/// The name that the kernel gives a thread that runs a program: the last part of its path.
fn base_name(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or_default();
    let end = (0..=NAME_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    escape::bytes(&name.as_bytes()[..end.unwrap_or_default()]).into_owned()
}

/// The exit status of a shell: 128 and the signal that ended it.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}
