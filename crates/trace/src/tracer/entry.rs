//! The beginning of a call: what it is about to do, and whether its result is needed.

use rustix::io::Errno;

use super::beginning::{Beginning, Entered};
use super::{Deferred, InCall, Tracer, listing, message};
use crate::calls::{Action, Call, Cloexec};
use crate::event::{Gap, OpenFd, Opened, Tid, What};
use crate::filter::CALL_32;
use crate::sys::memory;
use crate::sys::ptrace;

impl Tracer<'_> {
    /// A task is about to make a call of the table.
    pub(super) fn call_begins(&mut self, task: i32) {
        let Ok(stop) = ptrace::call_stop(task) else { return };
        self.look_up(task);
        if let Some(it) = self.tasks.get_mut(&task) {
            it.closing = None;
        }
        if stop.message == u32::from(CALL_32) {
            self.has_32_bit_calls(task);
            return;
        }
        let index = stop.message as usize;
        let Some(call) = self.calls.get(index).copied() else { return };
        let it = Beginning { task, index, call, stop, arguments: stop.arguments };
        self.place(task);
        if self.quarantine_begins(&it) == Entered::Handled {
            return;
        }
        self.begin(&it);
    }

    fn begin(&mut self, it: &Beginning) {
        match it.call.action {
            Action::Close => self.close_begins(it),
            Action::Create(cloexec) => self.creation_begins(it, cloexec),
            Action::Dup | Action::DupFrom { .. } => self.creation_begins(it, Cloexec::Never),
            Action::Pair(..) => self.creation_begins(it, Cloexec::Never),
            Action::DupTo | Action::CloseRange | Action::Unshare | Action::Hide => {
                self.await_exit(it)
            }
            Action::SetFdFlags => {
                let is_set = it.arguments[2] & libc::FD_CLOEXEC as u64 != 0;
                self.cloexec_begins(it, is_set);
            }
            Action::SetCloexec(is_set) => self.cloexec_begins(it, is_set),
            Action::Receive => {
                let may_receive = message::has_room(it.task, it.arguments[1]);
                if may_receive || !self.use_is_known(it) {
                    self.await_exit(it);
                }
            }
            Action::ReceiveMany => self.await_exit(it),
            // It has an event of its own.
            Action::Exec => {}
            Action::Name => {
                let mut name = [0; 16];
                let length = memory::read(it.task, it.arguments[1], &mut name);
                let name = name[..length].split(|byte| *byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                self.emit(it.task, What::Named { name });
            }
            Action::GetAffinity | Action::SetAffinity => self.placement.undo(),
            Action::Beyond(gap) => {
                self.gap(it.task, gap);
                if matches!(gap, Gap::IoUring | Gap::SeccompNotify) {
                    self.creation_begins(it, Cloexec::Always);
                }
            }
            Action::Use | Action::Write => {
                let is_ignored = it.used().is_none_or(|number| {
                    // Memory without a file.
                    number < 0 && it.call.number == libc::SYS_mmap
                });
                if !is_ignored && !self.use_is_known(it) {
                    self.await_exit(it);
                }
            }
        }
    }

    /// Whether the descriptor that the call uses is known to be open, so that its result tells nothing.
    fn use_is_known(&mut self, it: &Beginning) -> bool {
        let Some(number) = it.used() else { return true };
        let task = Tid(it.task);
        if self.model.wants_use(task, number) {
            self.emit(it.task, What::Used { number });
        }
        self.model.is_open(task, number) == Some(true)
    }

    fn close_begins(&mut self, it: &Beginning) {
        let number = it.number(0);
        if number < 0 {
            return;
        }
        // The close of an open number succeeds, whatever it returns.
        if self.model.is_open(Tid(it.task), number) == Some(true) {
            let stack = self.stack(it.task, it.stop.ip, it.stop.sp);
            let closed = What::Closed { number, error: None, is_quarantined: false, stack };
            self.emit(it.task, closed);
            if let Some(task) = self.tasks.get_mut(&it.task) {
                task.closing = Some(number);
            }
        } else {
            self.await_exit(it);
        }
    }

    fn cloexec_begins(&mut self, it: &Beginning, is_set: bool) {
        let number = it.number(0);
        if self.use_is_known(it) {
            self.emit(it.task, What::CloexecSet { number, is_set });
        } else {
            self.await_exit(it);
        }
    }

    /// A call that returns one or two of the lowest free numbers.
    fn creation_begins(&mut self, it: &Beginning, cloexec: Cloexec) {
        let task = Tid(it.task);
        let can_look_up = self.model.is_sole_user(task) && !self.is_hidden(it.task);
        if !self.use_is_known(it) || !can_look_up {
            self.await_exit(it);
            return;
        }
        let mut lowest = |from: i32| self.model.lowest_free(task, from);
        let numbers = match it.call.action {
            Action::DupFrom { .. } => [lowest(it.number(2)), None],
            Action::Pair(..) => {
                let first = lowest(0);
                [first, first.and_then(|first| lowest(first + 1))]
            }
            _ => [lowest(0), None],
        };
        let stack = self.stack(it.task, it.stop.ip, it.stop.sp);
        let deferred = Deferred {
            call: it.call,
            numbers,
            is_cloexec: self.is_cloexec(it, cloexec),
            duplicate_of: duplicated(it.call, &it.arguments),
            used: it.used(),
            stack,
        };
        if let Some(task) = self.tasks.get_mut(&it.task) {
            task.deferred = Some(deferred);
        }
    }

    fn is_cloexec(&self, it: &Beginning, cloexec: Cloexec) -> bool {
        let cloexec = match it.call.action {
            Action::Pair(_, cloexec) => cloexec,
            Action::DupFrom { cloexec: true } => Cloexec::Always,
            _ => cloexec,
        };
        evaluate(it.task, cloexec, &it.arguments)
    }

    /// Stops the task once more when the call has returned.
    pub(super) fn await_exit(&mut self, it: &Beginning) {
        let stack = self.stack(it.task, it.stop.ip, it.stop.sp);
        let call = InCall { index: it.index, arguments: it.arguments, stack, holds: None };
        if let Some(task) = self.tasks.get_mut(&it.task) {
            task.call = Some(call);
        }
    }

    /// Looks up what became of a call that was not awaited.
    pub(super) fn look_up(&mut self, task: i32) {
        let Some(deferred) = self.tasks.get_mut(&task).and_then(|it| it.deferred.take()) else {
            return;
        };
        let mut fds = Vec::with_capacity(1);
        for number in deferred.numbers.into_iter().flatten() {
            let link = match listing::link(task, number) {
                Ok(link) => link,
                Err(Errno::ACCESS | Errno::PERM) => {
                    self.notice_hidden(task);
                    return;
                }
                // The call has failed.
                Err(_) => return,
            };
            fds.push(OpenFd { number, link, is_cloexec: deferred.is_cloexec, details: None });
        }
        let Deferred { call, duplicate_of, used, stack, .. } = deferred;
        let opened = Opened { call: call.name, fds, duplicate_of, used, stack };
        self.emit_opened(task, opened);
    }

    fn has_32_bit_calls(&mut self, task: i32) {
        let Some(it) = self.tasks.get_mut(&task) else { return };
        if !std::mem::replace(&mut it.is_of_32_bits, true) {
            self.gap(task, Gap::Calls32);
        }
    }
}

/// The number that a call duplicates.
pub(super) fn duplicated(call: Call, arguments: &[u64; 6]) -> Option<i32> {
    let duplicates = matches!(call.action, Action::Dup | Action::DupFrom { .. } | Action::DupTo);
    duplicates.then_some(arguments[0] as i32)
}

/// Whether the new descriptor of a call closes at an exec.
pub(super) fn evaluate(task: i32, cloexec: Cloexec, arguments: &[u64; 6]) -> bool {
    match cloexec {
        Cloexec::Never => false,
        Cloexec::Always => true,
        Cloexec::Flag(argument, flag) => arguments[argument] & flag != 0,
        Cloexec::InMemory(argument) => {
            let flags = memory::word(task, arguments[argument]).unwrap_or(0);
            flags & libc::O_CLOEXEC as u64 != 0
        }
    }
}
