//! The quarantine: closed numbers stay occupied for a while, so that a stale use is certain.
//!
//! The close of a number is replaced by `dup3(poison, number)`. The poison is the write end of a pipe
//! that has no reader: a stale write raises SIGPIPE, which is not delivered, and fails with EBADF; every
//! other stale use fails with EBADF before it reaches the kernel. The last 64 numbers of a table are
//! held; then the task that closes the next one is made to close the oldest.
//!
//! # Limits
//! Numbers 0 to 2 are not held, because programs close one of them in order to open its successor. A
//! program that counts on the lowest free number for others runs differently.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{Resource, getrlimit};

use super::beginning::{Beginning, Entered};
use super::{InCall, Tracer};
use crate::calls::Action;
use crate::event::{Tid, What};
use crate::sys::ptrace::{self, Registers};

/// How many numbers of a table are held.
const HELD_MAX: usize = 64;

/// The numbers that are never held.
const STANDARD_MAX: i32 = 2;

/// The poison's own number, unless the limit of the process is lower.
const NUMBER: i32 = 1023;

const BAD_FD: i64 = -(libc::EBADF as i64);

/// The descriptor that occupies closed numbers.
#[derive(Clone, Debug)]
pub(super) struct Poison {
    /// Its number in every traced process.
    pub(super) number: i32,
    /// Its link in `/proc/PID/fd`, by which it is recognised.
    pub(super) link: String,
}

/// A number that a task is made to close.
#[derive(Clone, Debug)]
pub(super) struct Eviction {
    number: i32,
    /// The registers after the task's own call.
    registers: Registers,
}

impl Poison {
    /// Makes the pipe. The other end is closed at once.
    pub(super) fn make() -> io::Result<(Poison, OwnedFd)> {
        let (_, writer) = io::pipe()?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", writer.as_fd().as_raw_fd()))?;
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(i32::MAX);
        let number = NUMBER.min(limit - 1);
        let link = link.to_string_lossy().into_owned();
        Ok((Poison { number, link }, writer.into()))
    }
}

impl Tracer<'_> {
    /// A call begins: a close is replaced, a stale use fails.
    pub(super) fn quarantine_begins(&mut self, it: &Beginning) -> Entered {
        let Some(poison) = self.poison.as_ref().map(|poison| poison.number) else {
            return Entered::NotMine;
        };
        let task = Tid(it.task);
        let number = it.number(0);
        match it.call.action {
            Action::Close if self.is_eviction(it) => self.await_exit(it),
            Action::Close if number == poison => self.skip(it, 0),
            Action::Close if self.model.is_held(task, number) => {
                let stack = self.stack(it.task, it.stop.ip, it.stop.sp);
                let error = Some(libc::EBADF);
                self.emit(it.task, What::Closed { number, error, is_quarantined: true, stack });
                self.skip(it, BAD_FD);
            }
            Action::Close
                if number > STANDARD_MAX && self.model.is_open(task, number) == Some(true) =>
            {
                self.hold(it, poison, number);
            }
            Action::CloseRange => {
                let [first, last, ..] = it.arguments.map(|argument| argument as u32);
                if !(first..=last).contains(&(poison as u32)) {
                    return Entered::NotMine;
                }
                // The numbers above stay open: the kernel hands out none of them.
                let Ok(mut registers) = ptrace::registers(it.task) else { return Entered::Handled };
                let last = u64::from((poison as u32).saturating_sub(1));
                let arguments = [it.arguments[0], last, it.arguments[2]];
                registers.set_call(it.call.number, arguments);
                let _ = ptrace::set_registers(it.task, &registers);
                self.await_exit(it);
            }
            _ => return self.stale_use(it),
        }
        Entered::Handled
    }

    /// Fails a call that uses a number which is held.
    fn stale_use(&mut self, it: &Beginning) -> Entered {
        let Some(number) = it.call.uses.map(|index| it.number(index)) else {
            return Entered::NotMine;
        };
        // A write fails by itself, with its signal.
        let is_certain =
            it.call.action != Action::Write && self.model.is_held(Tid(it.task), number);
        if !is_certain {
            return Entered::NotMine;
        }
        let stack = self.stack(it.task, it.stop.ip, it.stop.sp);
        self.emit(it.task, What::UsedClosed { call: it.call.name, number, stack });
        self.skip(it, BAD_FD);
        Entered::Handled
    }

    fn skip(&mut self, it: &Beginning, result: i64) {
        let Ok(mut registers) = ptrace::registers(it.task) else { return };
        registers.skip_with(result);
        let _ = ptrace::set_registers(it.task, &registers);
    }

    fn hold(&mut self, it: &Beginning, poison: i32, number: i32) {
        let Ok(mut registers) = ptrace::registers(it.task) else { return };
        let arguments = [poison as u64, number as u64, libc::O_CLOEXEC as u64];
        registers.set_call(libc::SYS_dup3, arguments);
        if ptrace::set_registers(it.task, &registers).is_err() {
            return;
        }
        self.await_exit(it);
        if let Some(call) = self.tasks.get_mut(&it.task).and_then(|task| task.call.as_mut()) {
            call.holds = Some(number);
        }
    }

    /// A call has returned. Returns whether it was one of the quarantine.
    pub(super) fn quarantine_ended(
        &mut self,
        task: i32,
        call: &InCall,
        registers: &Registers,
    ) -> bool {
        if let Some(number) = call.holds {
            self.held(task, number, call, registers);
            return true;
        }
        let is_eviction = |eviction: &mut Eviction| {
            self.calls[call.index].action == Action::Close
                && call.arguments[0] as i32 == eviction.number
        };
        let Some(it) = self.tasks.get_mut(&task) else { return false };
        let Some(eviction) = it.eviction.take_if(is_eviction) else { return false };
        let _ = ptrace::set_registers(task, &eviction.registers);
        true
    }

    /// The number of a closed descriptor is occupied by the poison.
    fn held(&mut self, task: i32, number: i32, call: &InCall, registers: &Registers) {
        let is_held = registers.result() == i64::from(number);
        let closed =
            What::Closed { number, error: None, is_quarantined: is_held, stack: call.stack };
        // Registers as after the program's own call.
        let mut after = *registers;
        after.set_call(libc::SYS_close, [call.arguments[0], call.arguments[1], call.arguments[2]]);
        after.set_result(0);
        if !is_held {
            // The poison is gone, so the number is still open: let the program close it.
            let _ = ptrace::set_registers(task, &after.repeat(libc::SYS_close));
            self.poison = None;
            return;
        }
        self.emit(task, closed);
        let oldest = self.model.oldest_held(Tid(task));
        let is_full = self.model.held_count(Tid(task)) > HELD_MAX;
        if let (true, Some(oldest)) = (is_full, oldest) {
            let mut evict = after.repeat(libc::SYS_close);
            evict.set_call(libc::SYS_close, [oldest as u64, call.arguments[1], call.arguments[2]]);
            let _ = ptrace::set_registers(task, &evict);
            // Now, so that no other thread of the process is made to close it, too.
            self.emit(task, What::Freed { number: oldest });
            if let Some(it) = self.tasks.get_mut(&task) {
                it.eviction = Some(Eviction { number: oldest, registers: after });
            }
        } else {
            let _ = ptrace::set_registers(task, &after);
        }
    }

    /// Whether this call is one that the quarantine makes.
    fn is_eviction(&self, it: &Beginning) -> bool {
        let eviction = self.tasks.get(&it.task).and_then(|task| task.eviction.as_ref());
        eviction.is_some_and(|eviction| {
            eviction.number == it.number(0) && eviction.registers.ip() == it.stop.ip
        })
    }

    /// Whether a task gets SIGPIPE because it wrote to a number that is held: then the write fails with
    /// EBADF.
    pub(super) fn is_stale_write(&mut self, task: i32) -> bool {
        if self.poison.is_none() {
            return false;
        }
        let Ok(mut registers) = ptrace::registers(task) else { return false };
        let call = match registers.call() {
            libc::SYS_write => "write",
            libc::SYS_writev => "writev",
            _ => return false,
        };
        let number = registers.arguments()[0] as i32;
        if !self.model.is_held(Tid(task), number) {
            return false;
        }
        let stack = self.stack(task, registers.ip(), registers.sp());
        self.emit(task, What::UsedClosed { call, number, stack });
        registers.set_result(BAD_FD);
        let _ = ptrace::set_registers(task, &registers);
        true
    }
}
