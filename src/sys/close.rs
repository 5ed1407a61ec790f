//! The calls by which the registry ends what it owns: close, shutdown, and the replacement that
//! chaos makes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use echown_fd::fd::{Direction, Number};

use super::fork;

/// Shuts a socket down ([`Number::shut`]), but never in a forked child, whose sockets are its parent's
/// connections.
pub(crate) fn shut(number: Number, direction: Direction) {
    if !fork::in_forked_child() {
        number.shut(direction);
    }
}

/// Lets the file behind `by` take over `number`, whose own is closed thereby (`dup3(2)`): the theft
/// that chaos commits. In one step, so that the number is never free: no newcomer of another thread
/// can get it, and be taken for this one.
///
/// For the owner of `number` alone, in the owner's thread.
///
/// # Errors
/// The system call's; the number means what it meant before.
pub fn take_over(
    number: BorrowedFd<'_>,
    by: impl AsFd,
) -> rustix::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

    // SAFETY: this breaks I/O safety on purpose. The number is open and the caller's (it holds the
    // registry's proof, which is where the borrow comes from), so that no other descriptor is
    // closed. From then on two think that they own the number: what is answered here, rightly, and the
    // old owner's value in its cell, which the registry never closes because it compares identities
    // first (`Cell::finalize`), and a socket never has that of `by`, which is none. No memory is
    // reached through a number.
    let mut taken = unsafe { OwnedFd::from_raw_fd(number.as_raw_fd()) };
    #[cfg(target_os = "linux")]
    let replaced = rustix::io::dup3(by.as_fd(), &mut taken, rustix::io::DupFlags::CLOEXEC);
    #[cfg(not(target_os = "linux"))]
    let replaced = rustix::io::dup2(by.as_fd(), &mut taken);
    match replaced {
        Ok(()) => Ok(taken),
        Err(error) => {
            // Still the old owner's.
            let _ = taken.into_raw_fd();
            Err(error)
        }
    }
}

/// Closes a descriptor (`close(2)`), once, and answers what the system said of it.
///
/// Whatever that is, the number is gone: a second try could close a descriptor just opened elsewhere.
///
/// # Errors
/// What was written could not be kept (`EIO`, `ENOSPC`, `EDQUOT`).
pub fn close(fd: std::os::fd::OwnedFd) -> rustix::io::Result<()> {
    use std::os::fd::IntoRawFd;

    // SAFETY: the number comes from the descriptor's one owner, which has given it up on the line
    // itself, so that it is not closed a second time. No memory is reached through it.
    let answer = unsafe { libc::close(fd.into_raw_fd()) };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    tell(Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))
}

/// What there is to tell of a close. That it was interrupted says nothing: on Linux the number is free
/// before anything could be interrupted.
///
/// # Errors
/// Anything else.
pub fn tell(closed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match closed {
        Err(rustix::io::Errno::INTR) => Ok(()),
        told => told,
    }
}
