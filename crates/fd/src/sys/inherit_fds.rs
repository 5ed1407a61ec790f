//! Inheritance of descriptors: passes them to a child process under numbers that it knows.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::fd::Number;

/// Numbers are chosen below this one while there are any: a test may use `select(2)`, which takes none
/// above, on what it opens, and what it opens gets the lowest.
const NUMBER_MAX: RawFd = 1024;

/// Where the search ends if the limit is higher still.
const SEARCHED_MAX: RawFd = 65_536;

/// Has the child start with `passed` under their numbers, and die with the thread that starts it.
///
/// The descriptors go with the command: drop it when the child runs, or this process keeps them.
pub fn pass(command: &mut Command, passed: Vec<(OwnedFd, RawFd)>) {
    let hand_over = move || {
        #[cfg(target_os = "linux")]
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        for (fd, number) in &passed {
            // SAFETY: `dup2` with two numbers reaches no memory. Should `number` be open by now, what
            // is closed is this process's copy of it, and nobody here has a claim on any descriptor:
            // between fork and exec there is this closure alone.
            if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run. The closure makes the
    // system calls `prctl` and `dup2` through thin wrappers and reads a vector made before the fork:
    // it allocates nothing, takes no lock, and drops nothing (it is called by reference).
    unsafe {
        command.pre_exec(hand_over);
    }
}

/// How many descriptors this process can have (RLIMIT_NOFILE).
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Sees to it that so many descriptors can be opened, after a test that may have used them all up: by
/// raising the limit, if need be and as far as the hard limit allows.
pub fn make_room(count: usize) {
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return };
    if free_numbers(count).len() < count {
        let wanted = current.saturating_add(count as u64);
        let current = Some(limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}

/// Whether nothing more can be opened.
pub fn is_full() -> bool {
    free_numbers(1).is_empty()
}

/// The highest numbers that are free now. The lowest are given out first, so that they stay free while
/// the child is started.
pub fn free_numbers(count: usize) -> Vec<RawFd> {
    let top = RawFd::try_from(descriptors_max()).unwrap_or(RawFd::MAX);
    // Not F_GETFD, which a test that is traced would be trapped for.
    let is_free =
        |number: &RawFd| Number::listed(*number).lend(|fd| rustix::fs::fstat(fd)).is_err();
    let (low, high) = (3..top.min(NUMBER_MAX), NUMBER_MAX..top.min(SEARCHED_MAX));
    low.rev().chain(high.rev()).filter(is_free).take(count).collect()
}

/// Takes what this process was passed under a number, and keeps it from programs started here.
///
/// For one call per number, by the receiver of [`pass`].
///
/// # Errors
/// Nothing was passed under it.
pub fn receive(number: RawFd) -> io::Result<OwnedFd> {
    Number::listed(number).lend(|fd| rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC))?;
    // SAFETY: the number is open (the line above found it so), and it is nobody else's: `pass` put it
    // there before this program began, under a number that was told to the one caller.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
