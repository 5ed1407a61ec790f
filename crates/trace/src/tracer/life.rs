//! Tasks: their creation, the programs that they run, signals, and their end.

use std::fs;
use std::sync::OnceLock;

use super::{Interrupted, Task, Tracer, listing};
use crate::event::{Gap, OpenFd, Opened, Tid, What};
use crate::mentions::Mentions;
use crate::stack::StackId;
use crate::sys::memory;
use crate::sys::ptrace;

impl Tracer<'_> {
    /// A task has created another one.
    pub(super) fn created(&mut self, parent: i32) {
        let (Ok(child), Ok(registers)) = (ptrace::event_message(parent), ptrace::registers(parent))
        else {
            return;
        };
        let child = child as i32;
        self.look_up(parent);
        let [first, _, third, ..] = registers.arguments();
        let (flags, handle) = match registers.call() {
            libc::SYS_clone => (first, third),
            libc::SYS_clone3 => (
                memory::word(parent, first).unwrap_or(0),
                memory::word(parent, first + 8).unwrap_or(0),
            ),
            // fork and vfork.
            _ => (0, 0),
        };
        let has = |flag: i32| flags & flag as u64 != 0;
        let is_thread = has(libc::CLONE_THREAD);
        let of_parent = self.tasks.get(&parent).map_or(parent, |task| task.process);
        let process = if is_thread { of_parent } else { child };
        self.tasks.insert(child, Task::new(process));
        if !is_thread {
            if self.is_hidden(parent) {
                self.hidden.insert(child);
            }
            self.unwinder.forked(of_parent, child);
            self.python.forked(of_parent, parent, child);
        }
        self.placement.created(parent, child);
        let shares_files = has(libc::CLONE_FILES);
        self.emit(parent, What::Created { child: Tid(child), is_thread, shares_files });
        if has(libc::CLONE_PIDFD) {
            self.handle_created(parent, handle);
        }
        if let Some(status) = self.early.remove(&child) {
            self.changed(child, status);
        }
    }

    /// A call that creates a process also made a descriptor for it (CLONE_PIDFD).
    fn handle_created(&mut self, task: i32, address: u64) {
        let Some(word) = memory::word(task, address) else { return };
        let number = word as u32 as i32;
        let Ok(link) = listing::link(task, number) else { return };
        let fd = OpenFd { number, link, is_cloexec: true, details: None };
        let opened = Opened {
            call: "clone(CLONE_PIDFD)",
            fds: vec![fd],
            duplicate_of: None,
            used: None,
            stack: StackId::NONE,
        };
        self.emit_opened(task, opened);
    }

    /// A process runs another program.
    pub(super) fn executed(&mut self, process: i32) {
        let former = ptrace::event_message(process).map_or(process, |it| it as i32);
        self.tasks.retain(|task, it| it.process != process || *task == process);
        self.tasks.insert(process, Task::new(process));
        self.unwinder.executed(process);
        self.python.executed(process);
        let program = listing::program(process);
        if self.no_new_privileges
            && self.without_privileges.len() < 8
            && !self.without_privileges.contains(&program)
            && listing::wants_privileges(process)
        {
            self.without_privileges.push(program.clone());
        }
        self.hidden.remove(&process);
        // Only a program that this user may not read hides at its start.
        let open = self.listed(process);
        let open = open.unwrap_or_else(|| self.model.kept_at_exec(Tid(former)));
        if process == self.root && !self.has_started {
            self.has_started = true;
            self.emit(process, What::Started { program, open });
            self.observer.started(Tid(process));
        } else {
            let Mentions { named: mentioned, hinted } = mentions(process, &open);
            let former = Tid(former);
            self.emit(process, What::Executed { former, program, open, mentioned, hinted });
        }
        self.name_changed(process);
    }

    /// Whether the process of a task hides its memory and descriptors.
    pub(super) fn is_hidden(&self, task: i32) -> bool {
        // Almost always there is none.
        !self.hidden.is_empty()
            && self.tasks.get(&task).is_some_and(|task| self.hidden.contains(&task.process))
    }

    /// A process may hide from now on, or no longer.
    pub(super) fn notice_hidden(&mut self, task: i32) {
        let process = self.tasks.get(&task).map_or(task, |it| it.process);
        if !listing::is_hidden(process) {
            self.hidden.remove(&process);
        } else if self.hidden.insert(process) {
            self.gap(task, Gap::Hidden);
        }
    }

    /// The open descriptors, without those of the quarantine. `None` if they cannot be seen.
    fn listed(&mut self, task: i32) -> Option<Vec<OpenFd>> {
        let Some(mut open) = listing::all(task) else {
            self.notice_hidden(task);
            if !self.is_hidden(task) {
                self.gap(task, Gap::Missed);
            }
            return None;
        };
        if let Some(poison) = &self.poison {
            open.retain(|fd| fd.link != poison.link);
        }
        Some(open)
    }

    /// The name of the thread, as the kernel has it.
    fn name_changed(&mut self, task: i32) {
        if let Some(name) = listing::thread_name(task) {
            self.emit(task, What::Named { name });
        }
    }

    /// A task is about to end.
    pub(super) fn ending(&mut self, task: i32) {
        let status = ptrace::event_message(task).map_or(0, |it| it as i32);
        self.look_up(task);
        self.placement.undo_for(task);
        let process = self.tasks.get(&task).map_or(task, |it| it.process);
        if !self.has_started {
            return;
        }
        self.note_interrupted(task);
        // Other threads may have changed it through /proc.
        if self.model.thread(Tid(task)).map(|it| it.name.to_string()) != listing::thread_name(task)
        {
            self.name_changed(task);
        }
        let is_sole_user = self.model.is_sole_user(Tid(task));
        let open = is_sole_user.then(|| self.listed(task)).flatten().map(|mut open| {
            self.forget_interrupted(task, process, &mut open);
            let is_wanted = |fd: &OpenFd| fd.number > 2;
            listing::add_details(process, &mut open, is_wanted);
            open
        });
        // The first thread may end before others, and its memory and files are gone then.
        if open.is_some() || task == process {
            self.unwinder.ending(process, &mut self.stacks);
        }
        self.emit(task, What::Ending { open, status });
    }

    /// Notes the call in which a task ends.
    pub(super) fn note_interrupted(&mut self, task: i32) {
        let Some(it) = self.tasks.get(&task) else { return };
        let process = it.process;
        let call = it.call.map(|call| match call.holds {
            Some(number) => Interrupted::Close(number),
            None => Interrupted::Creation,
        });
        let close = it.closing.map(Interrupted::Close);
        if call.is_some() || close.is_some() {
            self.interrupted.entry(process).or_default().extend(call.into_iter().chain(close));
        }
    }

    /// Leaves out of the list what differs from the events because a thread ended inside a call. Nothing
    /// used it.
    fn forget_interrupted(&self, task: i32, process: i32, open: &mut Vec<OpenFd>) {
        let Some(calls) = self.interrupted.get(&process) else { return };
        open.retain(|fd| {
            let is_unknown = self.model.is_open(Tid(task), fd.number) == Some(false);
            let is_explained = calls.contains(&Interrupted::Close(fd.number))
                || calls.contains(&Interrupted::Creation);
            !(is_unknown && is_explained)
        });
    }

    /// A task gets a signal. Returns the signal to deliver.
    pub(super) fn signalled(&mut self, task: i32, signal: i32) -> i32 {
        if signal == libc::SIGPIPE && self.is_stale_write(task) { 0 } else { signal }
    }
}

/// The open numbers that the arguments or the environment of a process name.
fn mentions(process: i32, open: &[OpenFd]) -> Mentions {
    static OUTER: OnceLock<Vec<u8>> = OnceLock::new();
    // The environment of the tracer is older than every descriptor of the trace.
    let outer = OUTER.get_or_init(|| fs::read("/proc/self/environ").unwrap_or_default());
    let read = |name| fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
    let numbers: Vec<i32> = open.iter().map(|fd| fd.number).collect();
    Mentions::find(&read("cmdline"), &read("environ"), outer, &numbers)
}
