//! Tasks and processes: creation, exec, end, and the comparison with `/proc/PID/fd`.

use std::sync::Arc;

use super::passing::{Passing, Told};
use super::programs::{is_profile, opens_for_others};
use super::table::{Descriptor, Origin, Table};
use super::{At, Model, ProcessState, TableId, TaskState, exits};
use crate::event::{Gap, OpenFd, Tid};
use crate::finding::{Doubt, Opening, Process, StepKind, Thread};
use crate::stack::StackId;

/// The kernel keeps this many bytes of a thread's name.
const NAME_MAX: usize = 15;

/// Descriptors 0 to 2 are given to each program on purpose.
const LAST_STANDARD: i32 = 2;

impl Model {
    pub(super) fn started(&mut self, task: Tid, program: &str, open: &[OpenFd]) {
        self.remove_task(task);
        let at = self.new_process(task, program);
        self.adopt(&at, open);
    }

    /// A process with an empty table.
    fn new_process(&mut self, task: Tid, program: &str) -> At {
        let process = process_of(task.0, program);
        let thread = Arc::new(Thread {
            tid: task,
            name: Arc::clone(&process.name),
            process: Arc::clone(&process),
        });
        let table = self.new_table(Table::new(self.sequence));
        self.processes.insert(task.0, ProcessState { process, tasks: Vec::new() });
        self.process_count += 1;
        self.insert_task(task, Arc::clone(&thread), table);
        At { time_ns: self.now_ns, task, table, thread }
    }

    fn insert_task(&mut self, task: Tid, thread: Arc<Thread>, table: TableId) {
        if let Some(process) = self.processes.get_mut(&thread.process.pid) {
            process.tasks.push(task);
        }
        let state = TaskState { thread, table, is_ending: false, close_run: None, use_run: None };
        self.tasks.insert(task, state);
    }

    fn new_table(&mut self, table: Table) -> TableId {
        self.next_table += 1;
        self.tables.insert(self.next_table, table);
        self.next_table
    }

    fn copy_table(&mut self, table: TableId, is_forked: bool) -> TableId {
        let mut copy = match self.tables.get(&table) {
            Some(table) => table.copy(self.sequence, is_forked || table.is_forked),
            None => Table::default(),
        };
        copy.users = 1;
        for (_, descriptor) in copy.iter_open() {
            if let Some(passing) = descriptor.passing {
                self.passings.hold(passing);
            }
        }
        self.new_table(copy)
    }

    pub(super) fn created(&mut self, at: &At, child: Tid, is_thread: bool, shares_files: bool) {
        if self.tasks.contains_key(&child) {
            // Its end was not seen.
            self.gap(child, Gap::Missed);
            self.remove_task(child);
        }
        let name = Arc::clone(&at.thread.name);
        let process = if is_thread {
            Arc::clone(&at.thread.process)
        } else {
            let program = Arc::clone(&at.thread.process.program);
            let process = Arc::new(Process { pid: child.0, program, name: Arc::clone(&name) });
            let state = ProcessState { process: Arc::clone(&process), tasks: Vec::new() };
            self.processes.insert(child.0, state);
            self.process_count += 1;
            process
        };
        let table = if shares_files {
            if let Some(table) = self.tables.get_mut(&at.table) {
                table.users += 1;
            }
            at.table
        } else {
            self.copy_table(at.table, !is_thread)
        };
        self.insert_task(child, Arc::new(Thread { tid: child, name, process }), table);
    }

    pub(super) fn named(&mut self, at: &At, name: &str) {
        let name: Arc<str> = name.into();
        let old = &at.thread.process;
        if at.task.0 != old.pid {
            let process = Arc::clone(old);
            self.set_thread(Thread { tid: at.task, name, process });
            return;
        }
        let program = Arc::clone(&old.program);
        let process = Arc::new(Process { pid: old.pid, program, name: Arc::clone(&name) });
        let Some(state) = self.processes.get_mut(&process.pid) else { return };
        state.process = Arc::clone(&process);
        for tid in state.tasks.clone() {
            let own = self.tasks.get(&tid).map(|task| Arc::clone(&task.thread.name));
            let name = if tid == at.task { Arc::clone(&name) } else { own.unwrap_or_default() };
            self.set_thread(Thread { tid, name, process: Arc::clone(&process) });
        }
    }

    fn set_thread(&mut self, thread: Thread) {
        if let Some(task) = self.tasks.get_mut(&thread.tid) {
            task.thread = Arc::new(thread);
        }
    }

    pub(super) fn unshared(&mut self, at: &At) {
        self.end_runs(at);
        self.own_table(at.task);
    }

    /// Gives the task a copy of its table if other tasks use it, too.
    fn own_table(&mut self, task: Tid) -> Option<TableId> {
        let shared = self.tasks.get(&task)?.table;
        let table = self.tables.get_mut(&shared)?;
        if table.users <= 1 {
            return Some(shared);
        }
        table.users -= 1;
        let own = self.copy_table(shared, false);
        self.tasks.get_mut(&task)?.table = own;
        Some(own)
    }

    pub(super) fn executed(
        &mut self,
        task: Tid,
        former: Tid,
        program: &str,
        open: &[OpenFd],
        told: Told<'_>,
    ) {
        let Some(at) = self.at(former) else {
            self.remove_task(former);
            self.remove_task(task);
            let at = self.new_process(task, program);
            self.gap(task, Gap::Missed);
            self.adopt(&at, open);
            return;
        };
        self.end_runs(&at);
        let pid = at.thread.process.pid;
        let others = self.processes.get(&pid).map_or_else(Vec::new, |state| state.tasks.clone());
        for other in others.into_iter().filter(|other| *other != former) {
            self.remove_task(other);
        }
        let Some(table) = self.own_table(former) else { return };
        // The task continues under the id of the process.
        self.tasks.remove(&former);
        if task != former {
            self.remove_task(task);
        }
        self.processes.remove(&pid);
        let process = process_of(task.0, program);
        let name = Arc::clone(&process.name);
        let thread = Arc::new(Thread { tid: task, name, process: Arc::clone(&process) });
        self.processes.insert(task.0, ProcessState { process, tasks: Vec::new() });
        self.insert_task(task, Arc::clone(&thread), table);
        let before = at.thread;
        let at = At { time_ns: self.now_ns, task, table, thread };
        self.close_at_exec(&at, open);
        self.pass(&at, &before, told);
        if let Some(table) = self.tables.get_mut(&table) {
            table.become_another_program(self.sequence);
        }
    }

    /// The kernel closes what has close-on-exec; then the list shows whether the model is right.
    fn close_at_exec(&mut self, at: &At, open: &[OpenFd]) {
        let Some(table) = self.tables.get_mut(&at.table) else { return };
        let is_cloexec =
            |(number, descriptor): (i32, &Descriptor)| descriptor.is_cloexec.then_some(number);
        let closed: Vec<i32> = table.iter_open().filter_map(is_cloexec).collect();
        for number in closed {
            self.drop_silently(at.table, number);
        }
        self.verify(at, open);
        let Some(table) = self.tables.get_mut(&at.table) else { return };
        for number in table.open_numbers() {
            if let Some(past) = table.past_mut(number) {
                past.push(at.step(StepKind::Executed, "execve", StackId::NONE));
            }
        }
    }

    /// Follows the descriptors that the new program was not notified of.
    fn pass(&mut self, at: &At, before: &Thread, told: Told<'_>) {
        let Some(table) = self.tables.get(&at.table) else { return };
        let is_given = |number: i32, descriptor: &Descriptor| {
            number <= LAST_STANDARD || is_told(number, descriptor, told)
        };
        let given: Vec<u64> = table
            .iter_open()
            .filter(|(number, descriptor)| is_given(*number, descriptor))
            .map(|(_, descriptor)| descriptor.opening.file)
            .collect();
        for number in table.open_numbers() {
            let Some(table) = self.tables.get_mut(&at.table) else { return };
            let is_forked = table.is_forked;
            let Some(slot) = table.slot(number) else { continue };
            let history = slot.past.steps.clone();
            let Some(descriptor) = table.open_mut(number) else { continue };
            if number <= LAST_STANDARD {
                continue;
            }
            if let Some(passing) = descriptor.passing {
                if told.named.contains(&number) {
                    self.passings.mark_used(passing);
                }
                continue;
            }
            let opening = &descriptor.opening;
            if opening.call == Opening::UNKNOWN || is_told(number, descriptor, told) {
                continue;
            }
            // A process that prepares descriptors and then runs another program means them for it.
            let is_own = opening.thread.process.pid == before.process.pid;
            if is_own && (is_forked || opening.call.starts_with("dup") || opening.call == "fcntl") {
                continue;
            }
            // A second number of a file that the program was given does little harm. Programs of one name
            // (git runs git from another folder) have one author, who knows both ends; git passes its
            // pipes around so.
            let file_name = |program: &str| program.rsplit('/').next().map(str::to_owned);
            let is_same_program =
                file_name(&opening.thread.process.program) == file_name(&at.thread.process.program);
            let doubts = [
                (is_own, Doubt::SameProcess),
                (is_same_program, Doubt::SameProgram),
                (given.contains(&opening.file), Doubt::GivenFile),
                (is_profile(&opening.link, opening.thread.process.pid), Doubt::Profile),
                (told.hinted.contains(&number), Doubt::NumberOccurs),
            ];
            let doubt = doubts.into_iter().find_map(|(applies, doubt)| applies.then_some(doubt));
            descriptor.passing = self.passings.add(Passing {
                opening: Arc::clone(opening),
                number,
                heir: Arc::clone(&at.thread.process),
                doubt,
                time_ns: at.time_ns,
                history,
                is_used: false,
                holders: 1,
            });
        }
    }

    pub(super) fn ending(&mut self, at: &At, open: Option<&[OpenFd]>) {
        self.end_runs(at);
        if let Some(open) = open
            && self.tables.get(&at.table).is_some_and(|table| table.users == 1)
        {
            self.verify(at, open);
        }
        self.leave_table(at.task, open.unwrap_or_default());
    }

    pub(super) fn ended(&mut self, task: Tid) {
        // The other threads of a process that runs another program are gone already.
        self.remove_task(task);
    }

    fn remove_task(&mut self, task: Tid) {
        if let Some(at) = self.at(task) {
            self.end_runs(&at);
        }
        self.leave_table(task, &[]);
        let Some(state) = self.tasks.remove(&task) else { return };
        let pid = state.thread.process.pid;
        if let Some(process) = self.processes.get_mut(&pid) {
            process.tasks.retain(|tid| *tid != task);
            if process.tasks.is_empty() {
                self.processes.remove(&pid);
            }
        }
    }

    /// The task does not use its table any more. With its last task a table ends.
    fn leave_table(&mut self, task: Tid, open: &[OpenFd]) {
        let Some(state) = self.tasks.get_mut(&task).filter(|state| !state.is_ending) else {
            return;
        };
        state.is_ending = true;
        let id = state.table;
        let Some(table) = self.tables.get_mut(&id) else { return };
        table.users = table.users.saturating_sub(1);
        if table.users > 0 {
            return;
        }
        let Some(table) = self.tables.remove(&id) else { return };
        exits::leftovers(&table, self.now_ns, open, &mut self.record);
        for (_, descriptor) in table.iter_open() {
            if let Some(passing) = descriptor.passing {
                self.passings.release(passing, &mut self.record);
            }
        }
    }

    /// Compares the table with the real one and adopts that.
    fn verify(&mut self, at: &At, open: &[OpenFd]) {
        self.coverage.checks += 1;
        let wrong = self.adopt(at, open);
        if wrong > 0 {
            self.coverage.mismatches.add(Some(&at.thread.process));
            self.coverage.wrong_numbers += wrong;
        }
    }

    /// Makes the table what the list says. Returns how many numbers differed.
    fn adopt(&mut self, at: &At, open: &[OpenFd]) -> u64 {
        let mut wrong = 0;
        let Some(table) = self.tables.get(&at.table) else { return 0 };
        let mut listed: Vec<i32> = open.iter().map(|fd| fd.number).collect();
        listed.sort_unstable();
        let is_gone = |number: &i32| listed.binary_search(number).is_err();
        let gone: Vec<i32> = table.open_numbers().into_iter().filter(is_gone).collect();
        for number in gone {
            wrong += 1;
            self.drop_silently(at.table, number);
        }
        for fd in open.iter().filter(|fd| fd.number >= 0) {
            let Some(table) = self.tables.get_mut(&at.table) else { return wrong };
            if table.is_held(fd.number) {
                continue;
            }
            if let Some(known) = table.open_mut(fd.number)
                && !is_another(&known.opening.link, &fd.link)
            {
                known.is_cloexec = fd.is_cloexec;
                continue;
            }
            wrong += 1;
            self.drop_silently(at.table, fd.number);
            let opening = self.opening_of(at, Opening::UNKNOWN, StackId::NONE, fd, None);
            let descriptor = Descriptor {
                opening,
                is_cloexec: fd.is_cloexec,
                origin: Origin::Inherited,
                is_prepared: false,
                passing: None,
            };
            let step = at.step(StepKind::FoundOpen, "", StackId::NONE);
            self.install(at, fd.number, descriptor, step);
        }
        wrong
    }
}

/// Whether a program learns of the number: by its arguments or environment, or because the descriptor was
/// made inheritable on purpose, or by the conventions of the program that opened it.
fn is_told(number: i32, descriptor: &Descriptor, told: Told<'_>) -> bool {
    told.named.contains(&number)
        || descriptor.is_prepared
        || descriptor.opening.was_cloexec
        || opens_for_others(&descriptor.opening.thread.process.program)
}

/// Whether two links are of different open files. A path can change while a file is open, an identity in
/// brackets cannot.
fn is_another(known: &str, found: &str) -> bool {
    let has_identity = |link: &str| link.starts_with("socket:[") || link.starts_with("pipe:[");
    !known.is_empty()
        && !found.is_empty()
        && known != found
        && (has_identity(known) || has_identity(found))
}

fn process_of(pid: i32, program: &str) -> Arc<Process> {
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = &name[..name.floor_char_boundary(NAME_MAX)];
    Arc::new(Process { pid, program: program.into(), name: name.into() })
}
