//! Inheritance of descriptors: passes them to a child process under agreed numbers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::fd::Number;

/// Numbers below this are preferred: a test may use `select(2)`, which accepts no higher numbers,
/// and the kernel gives the test the lowest free ones.
const NUMBER_MAX: RawFd = 1024;

/// The end of the search if the limit is higher.
const SEARCHED_MAX: RawFd = 65_536;

/// Passes the descriptors `passed` to the child under their numbers, and makes the child die with
/// the thread that starts it.
///
/// The command owns the descriptors: drop it once the child runs, or this process keeps them open.
pub fn pass(command: &mut Command, passed: Vec<(OwnedFd, RawFd)>) {
    let hand_over = move || {
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        for (fd, number) in &passed {
            // SAFETY: `dup2` with two numbers accesses no memory. If `number` is open, this closes
            // only the child's copy. Between fork and exec only this closure runs, so no code uses
            // that copy.
            if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run. The closure makes the
    // system calls `prctl` and `dup2` through thin wrappers and reads a vector that was created
    // before the fork. It allocates nothing, takes no lock, and drops nothing (it is called by
    // reference).
    unsafe {
        command.pre_exec(hand_over);
    }
}

/// The maximum number of descriptors of this process (RLIMIT_NOFILE).
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the descriptor limit, up to the hard limit, so that at least `count` descriptors can be
/// opened even after a test that has reached the limit.
pub fn make_room(count: usize) {
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return };
    if free_numbers(count).len() < count {
        let wanted = current.saturating_add(count as u64);
        let current = Some(limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}

/// Whether the descriptor limit is reached.
pub fn is_full() -> bool {
    free_numbers(1).is_empty()
}

/// The highest free numbers. The kernel uses the lowest first, so these stay free while the child
/// is started.
pub fn free_numbers(count: usize) -> Vec<RawFd> {
    let top = RawFd::try_from(descriptors_max()).unwrap_or(RawFd::MAX);
    // Not F_GETFD, which the trap would catch in a traced test.
    let is_free =
        |number: &RawFd| Number::listed(*number).lend(|fd| rustix::fs::fstat(fd)).is_err();
    let (low, high) = (3..top.min(NUMBER_MAX), NUMBER_MAX..top.min(SEARCHED_MAX));
    low.rev().chain(high.rev()).filter(is_free).take(count).collect()
}

/// Takes a descriptor that was passed to this process under `number`, and sets close-on-exec.
///
/// Must be called once per number, by the receiver of [`pass`].
///
/// # Errors
/// No descriptor was passed under the number.
pub fn receive(number: RawFd) -> io::Result<OwnedFd> {
    Number::listed(number).lend(|fd| rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC))?;
    // SAFETY: the number is open, because the line above succeeded, and it has no other owner:
    // `pass` put it there before this program began, and only the one caller uses the number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
