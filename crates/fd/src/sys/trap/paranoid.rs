//! The paranoid level: closed numbers stay occupied, and calls that read, write or wait are trapped,
//! too.
//!
//! A close puts a poison descriptor under the number, atomically (`dup3`). The poison is opened with
//! O_PATH: the kernel rejects nearly every call on it with EBADF, as for a closed number. The calls
//! that would work on it, or that are recorded, are handled here. The numbers 0 to 2 are closed as
//! usual, because programs count on the lowest free number there.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::TrapError;
use super::calls::{Effect, used_numbers};
use super::history::NUMBERS_MAX;
use super::magic::repeat;
use super::stacks::Trace;
use super::table::TABLE;
use crate::sys::inherit_fds;

const EBADF: i64 = -(libc::EBADF as i64);

/// Whether this level is on, for the process.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// What the handler does with a call.
pub(super) enum Answer {
    /// What it does on the normal level.
    Usual,
    /// Returns this result. The call was made, or must not be made.
    Result(i64),
    /// Returns the result of F_GETFD for a number that is closed for the program.
    FoundClosed(RawFd),
}

/// A trapped call, and how to make it.
pub(super) struct TrappedCall<'a> {
    pub(super) call: i64,
    pub(super) effect: Effect,
    pub(super) arguments: [u64; 5],
    pub(super) sixth: u64,
    pub(super) thread: u32,
    /// Makes a call under the caller's signal mask.
    pub(super) make: &'a dyn Fn(i64, [u64; 5]) -> i64,
    /// Walks the stack.
    pub(super) trace: &'a dyn Fn() -> Trace,
}

/// Turns the level on. The table exists, and nothing is trapped yet.
///
/// # Errors
/// No descriptor is free.
pub(super) fn start() -> Result<(), TrapError> {
    const WHY: &str = "no descriptor is free for the quarantine";
    // Not a folder: a path below it would be valid.
    let path = c"/dev/null".as_ptr();
    let free = inherit_fds::free_numbers(1);
    let high = *free.first().ok_or_else(|| TrapError::new(WHY))?;
    // SAFETY: the path ends with a zero byte; `high` is free, and no other thread runs yet.
    let poison = unsafe {
        let low = libc::open(path, libc::O_PATH | libc::O_CLOEXEC);
        let poison = libc::dup3(low, high, libc::O_CLOEXEC);
        libc::close(low);
        poison
    };
    if poison < 0 {
        return Err(TrapError::of_last_call(WHY));
    }
    TABLE.with(|table| table.quarantine.start(poison));
    // ord: Relaxed; it is read only under the filter, which this thread installs later.
    IS_ON.store(true, Ordering::Relaxed);
    Ok(())
}

pub(super) fn is_on() -> bool {
    // ord: Relaxed; see `start`.
    IS_ON.load(Ordering::Relaxed)
}

/// Ends the quarantine: nothing of it is open any more, and closes are made as usual.
pub(super) fn end() {
    let held = TABLE.with(|table| table.quarantine.end());
    for number in held.into_iter().flatten().filter(|number| *number > 0) {
        close_now(number);
    }
}

/// Handles a call of the recorded process.
pub(super) fn handle(it: &TrappedCall<'_>) -> Answer {
    let first = it.arguments[0] as u32 as RawFd;
    let is_held = |number| TABLE.with(|table| table.quarantine.holds(number)) == Some(true);
    match it.effect {
        Effect::Closes => return close(it, first),
        Effect::Probes if is_held(first) => return Answer::Result(EBADF),
        Effect::Probes => return Answer::Result((it.make)(it.call, it.arguments)),
        Effect::OpensOrQueries if is_held(first) => match it.arguments[1] as i32 {
            libc::F_GETFD => return Answer::FoundClosed(first),
            libc::F_GETFL => return Answer::Result(EBADF),
            _ => {}
        },
        _ => {}
    }
    if let Some(mut used) = used_numbers(it.call, it.arguments) {
        if let Some(number) = used.find(|number| is_held(*number)) {
            let trace = (it.trace)();
            TABLE.with(|table| table.was_used_closed(number, &trace));
            return Answer::Result(EBADF);
        }
    }
    let waits = is_input(it.call) && will_wait(first);
    if waits {
        let trace = (it.trace)();
        TABLE.with(|table| table.waits(it.thread, first, &trace));
    }
    if it.effect != Effect::Transfers {
        return Answer::Usual;
    }
    let result = transfer(it);
    if result == EBADF {
        let trace = (it.trace)();
        TABLE.with(|table| table.was_used_closed(first, &trace));
    }
    Answer::Result(result)
}

/// Records that a thread's call has returned.
pub(super) fn has_returned(thread: u32) {
    TABLE.with(|table| table.quarantine.waits_no_more(thread));
}

/// Closes a number for the program: it stays occupied.
fn close(it: &TrappedCall<'_>, number: RawFd) -> Answer {
    let is_exempt = number <= libc::STDERR_FILENO || number as usize >= NUMBERS_MAX;
    let poison = TABLE.with(|table| table.quarantine.poison()).flatten();
    let Some(poison) = poison.filter(|_| !is_exempt) else { return Answer::Usual };
    if number == poison {
        // A loop that closes everything.
        return Answer::Result(EBADF);
    }
    let trace = (it.trace)();
    let is_again = TABLE.with(|table| table.closes_again(number, &trace)) == Some(true);
    if is_again {
        return Answer::Result(EBADF);
    }
    let get_flags = [number as u64, libc::F_GETFD as u64, 0, 0, 0];
    // SAFETY: F_GETFD accesses no memory.
    let flags = unsafe { repeat(libc::SYS_fcntl, get_flags) };
    if flags < 0 {
        return Answer::Usual;
    }
    let recorded = TABLE.with(|table| table.closes_into_quarantine(number, &trace));
    let Some((Some(closing), oldest)) = recorded else { return Answer::Usual };
    let arguments = [poison as u64, number as u64, libc::O_CLOEXEC as u64, 0, 0];
    // SAFETY: the program closes this number, and `dup3` does so.
    let mut result = unsafe { repeat(libc::SYS_dup3, arguments) };
    if result >= 0 {
        result = 0;
    } else {
        // The poison was closed, together with everything else.
        TABLE.with(|table| table.quarantine.remove(number));
        result = close_now(number);
    }
    let has_ended = TABLE.with(|table| {
        table.has_closed(number, closing);
        table.quarantine.poison().is_none() && table.quarantine.remove(number)
    });
    if has_ended == Some(true) {
        close_now(number);
    }
    oldest.map(close_now);
    Answer::Result(result)
}

fn close_now(number: RawFd) -> i64 {
    // SAFETY: the number is closed for the program, so no code uses it.
    unsafe { repeat(libc::SYS_close, [number as u64, 0, 0, 0, 0]) }
}

/// Whether a call waits for input on the number in its first argument.
fn is_input(call: i64) -> bool {
    [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_accept,
        libc::SYS_accept4,
    ]
    .contains(&call)
}

/// Whether a call for input on this number would wait now.
fn will_wait(number: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: number, events: libc::POLLIN, revents: 0 };
    // SAFETY: F_GETFL accesses no memory; `poll` writes to the one structure.
    unsafe {
        let flags = repeat(libc::SYS_fcntl, [number as u64, libc::F_GETFL as u64, 0, 0, 0]);
        flags >= 0
            && flags as i32 & libc::O_NONBLOCK == 0
            && repeat(libc::SYS_poll, [&raw mut poll as u64, 1, 0, 0, 0]) == 0
    }
}

/// Makes a call that reads or writes. Two of them take six arguments, and the sixth register is in
/// use by [`repeat`]: without an address the kernel ignores the sixth, and with one there is an
/// equivalent call.
fn transfer(it: &TrappedCall<'_>) -> i64 {
    let [number, buffer, length, flags, address] = it.arguments;
    let is_one = [libc::SYS_sendto, libc::SYS_recvfrom].contains(&it.call);
    if !is_one || address == 0 {
        return (it.make)(it.call, it.arguments);
    }
    let mut part = libc::iovec { iov_base: buffer as *mut libc::c_void, iov_len: length as usize };
    // SAFETY: zero is valid in all fields of a message. The sixth argument of `recvfrom` with an
    // address points to the address's length, which the program gave the kernel to read and write.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_name = address as *mut libc::c_void;
        if it.call == libc::SYS_sendto {
            message.msg_namelen = it.sixth as u32;
            let pointer = &raw const message as u64;
            return (it.make)(libc::SYS_sendmsg, [number, pointer, flags, 0, 0]);
        }
        let name_length = it.sixth as *mut libc::socklen_t;
        if name_length.is_null() {
            return -i64::from(libc::EFAULT);
        }
        message.msg_namelen = name_length.read_unaligned();
        let pointer = &raw mut message as u64;
        let result = (it.make)(libc::SYS_recvmsg, [number, pointer, flags, 0, 0]);
        if result >= 0 {
            name_length.write_unaligned(message.msg_namelen);
        }
        result
    }
}
