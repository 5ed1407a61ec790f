//! The calls with which the registry ends descriptors: close, shutdown, and the replacement that
//! chaos injects.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use echown_fd::fd::{Direction, Number};

use super::fork;

/// Shuts a socket down ([`Number::shut`]), except in a forked child, which shares its sockets with
/// the parent.
pub(crate) fn shut(number: Number, direction: Direction) {
    if !fork::in_forked_child() {
        number.shut(direction);
    }
}

/// Replaces the file of `number` by that of `by` (`dup3(2)`), which closes the former: the
/// `fd-replaced` fault of chaos. One step, so that the number is never free and no other thread's
/// new descriptor can get it.
///
/// Only the owner of `number` may call this, on its own thread.
///
/// # Errors
/// The error of the system call; the number is unchanged.
pub(crate) fn take_over(
    number: BorrowedFd<'_>,
    by: impl AsFd,
) -> rustix::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

    // SAFETY: this violates I/O safety on purpose. The number is open and the caller's (the borrow
    // proves that it holds the registry's proof), so no other descriptor is closed. From here on
    // the number has two owners: the returned value, and the old value in its cell. The registry
    // never closes the old value, because it compares identities first (`ResourceCell::finalize`), and a
    // socket never has the identity of `by`, which is not a socket. No memory is accessed through a
    // number.
    let mut taken = unsafe { OwnedFd::from_raw_fd(number.as_raw_fd()) };
    #[cfg(target_os = "linux")]
    let replaced = rustix::io::dup3(by.as_fd(), &mut taken, rustix::io::DupFlags::CLOEXEC);
    #[cfg(not(target_os = "linux"))]
    let replaced = rustix::io::dup2(by.as_fd(), &mut taken);
    match replaced {
        Ok(()) => Ok(taken),
        Err(error) => {
            // The number still belongs to the old owner.
            let _ = taken.into_raw_fd();
            Err(error)
        }
    }
}

/// Closes a descriptor once (`close(2)`), and returns the result.
///
/// The number is free in any case: a second attempt could close another thread's new descriptor.
///
/// # Errors
/// Written data could not be stored (`EIO`, `ENOSPC`, `EDQUOT`).
pub(crate) fn close(fd: std::os::fd::OwnedFd) -> rustix::io::Result<()> {
    use std::os::fd::IntoRawFd;

    // SAFETY: the number comes from the descriptor's only owner, which gives it up on the same
    // line, so that it is not closed twice. No memory is accessed through it.
    let result = unsafe { libc::close(fd.into_raw_fd()) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    close_result(Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))
}

/// The result of a close to report. An interruption is not an error: Linux frees the number before
/// it can be interrupted.
///
/// # Errors
/// Any other error.
pub(crate) fn close_result(closed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match closed {
        Err(rustix::io::Errno::INTR) => Ok(()),
        told => told,
    }
}
