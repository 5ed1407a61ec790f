//! The end of a call whose result was needed.

use super::entry::{duplicated, evaluate};
use super::{InCall, Tracer, listing, message};
use crate::calls::{Action, Call, Cloexec};
use crate::event::{OpenFd, Opened, Tid, What};
use crate::sys::memory;
use crate::sys::ptrace;

const BAD_FD: i64 = -(libc::EBADF as i64);

/// A call that has returned.
struct Returned {
    task: i32,
    call: Call,
    in_call: InCall,
    result: i64,
}

impl Tracer<'_> {
    /// A call has returned.
    pub(super) fn call_ended(&mut self, task: i32) {
        let Some(in_call) = self.tasks.get_mut(&task).and_then(|it| it.call.take()) else { return };
        let Ok(registers) = ptrace::registers(task) else { return };
        if self.quarantine_ended(task, &in_call, &registers) {
            return;
        }
        let call = self.calls[in_call.index];
        let it = Returned { task, call, in_call, result: registers.result() };
        self.returned(&it);
    }

    fn returned(&mut self, it: &Returned) {
        let arguments = it.in_call.arguments;
        let number = arguments[0] as i32;
        let stack = it.in_call.stack;
        let is_done = it.result >= 0;
        match it.call.action {
            Action::Close => {
                let error = (!is_done).then_some(-it.result as i32);
                let closed = What::Closed { number, error, is_quarantined: false, stack };
                self.emit(it.task, closed);
                return;
            }
            Action::Create(cloexec) if is_done => self.one_opened(it, cloexec),
            Action::Beyond(_) if is_done => self.one_opened(it, Cloexec::Always),
            Action::Dup if is_done => self.one_opened(it, Cloexec::Never),
            Action::DupFrom { cloexec } if is_done => {
                let cloexec = if cloexec { Cloexec::Always } else { Cloexec::Never };
                self.one_opened(it, cloexec);
            }
            // With two equal numbers `dup2` does nothing.
            Action::DupTo if is_done && arguments[0] as i32 != arguments[1] as i32 => {
                let is_dup3 = it.call.number == libc::SYS_dup3;
                let cloexec =
                    if is_dup3 { Cloexec::Flag(2, libc::O_CLOEXEC as u64) } else { Cloexec::Never };
                self.one_opened(it, cloexec);
            }
            Action::Pair(address, cloexec) if is_done => {
                let numbers = match memory::word(it.task, arguments[address]) {
                    Some(word) => [word as u32 as i32, (word >> 32) as u32 as i32],
                    // The process hides its memory. The kernel takes the lowest free numbers.
                    None => {
                        let mut lowest = |from| self.model.lowest_free(Tid(it.task), from);
                        let first = lowest(0).unwrap_or(-1);
                        [first, lowest(first + 1).unwrap_or(-1)]
                    }
                };
                self.opened(it, &numbers, evaluate(it.task, cloexec, &arguments));
            }
            Action::CloseRange if is_done => {
                let flags = arguments[2] as u32;
                if flags & libc::CLOSE_RANGE_UNSHARE != 0 {
                    self.emit(it.task, What::FilesUnshared);
                }
                let range = What::ClosedRange {
                    first: arguments[0] as u32,
                    last: arguments[1] as u32,
                    sets_cloexec: flags & libc::CLOSE_RANGE_CLOEXEC != 0,
                    stack,
                };
                self.emit(it.task, range);
            }
            Action::SetFdFlags if is_done => {
                let is_set = arguments[2] & libc::FD_CLOEXEC as u64 != 0;
                self.emit(it.task, What::CloexecSet { number, is_set });
            }
            Action::SetCloexec(is_set) if is_done => {
                self.emit(it.task, What::CloexecSet { number, is_set });
            }
            Action::Receive if is_done => {
                let numbers = message::received(it.task, arguments[1]);
                let is_cloexec = arguments[2] & libc::MSG_CMSG_CLOEXEC as u64 != 0;
                self.opened(it, &numbers, is_cloexec);
            }
            Action::ReceiveMany if is_done => {
                let numbers = message::received_many(it.task, arguments[1], it.result);
                let is_cloexec = arguments[3] & libc::MSG_CMSG_CLOEXEC as u64 != 0;
                self.opened(it, &numbers, is_cloexec);
            }
            Action::Hide if is_done => self.notice_hidden(it.task),
            Action::Unshare if is_done => self.emit(it.task, What::FilesUnshared),
            _ => {}
        }
        if it.result == BAD_FD
            && let Some(index) = it.call.uses
            && arguments[index] as i32 != libc::AT_FDCWD
        {
            let number = arguments[index] as i32;
            self.emit(it.task, What::UsedClosed { call: it.call.name, number, stack });
        }
    }

    fn one_opened(&mut self, it: &Returned, cloexec: Cloexec) {
        let is_cloexec = evaluate(it.task, cloexec, &it.in_call.arguments);
        self.opened(it, &[it.result as i32], is_cloexec);
    }

    fn opened(&mut self, it: &Returned, numbers: &[i32], is_cloexec: bool) {
        let fd = |number: &i32| {
            let link = listing::link(it.task, *number).unwrap_or_default();
            OpenFd { number: *number, link, is_cloexec, details: None }
        };
        let fds: Vec<OpenFd> = numbers.iter().map(fd).collect();
        if fds.is_empty() {
            return;
        }
        let used = it.call.uses.map(|index| it.in_call.arguments[index] as i32);
        let opened = Opened {
            call: it.call.name,
            fds,
            duplicate_of: duplicated(it.call, &it.in_call.arguments),
            used: used.filter(|number| *number != libc::AT_FDCWD),
            stack: it.in_call.stack,
        };
        self.emit_opened(it.task, opened);
    }
}
