//! System calls that not every system has.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::process::Pid;

/// A pipe that no other child inherits, with a non-blocking read end.
///
/// # Errors
/// Too many descriptors are open.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(not(target_os = "macos"))]
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // macOS has no flags for it: a child that another thread starts at this moment inherits both ends.
    #[cfg(target_os = "macos")]
    let (reader, writer) = {
        let (reader, writer) = rustix::pipe::pipe()?;
        for end in [&reader, &writer] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        (reader, writer)
    };
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// A descriptor that is readable when the process has ended; `None` if the system has none.
#[cfg(target_os = "linux")]
pub(super) fn pidfd(process: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pidfd(_: Pid) -> Option<OwnedFd> {
    None
}

/// A duplicate of another process's descriptor; `None` if the system does not permit it.
#[cfg(target_os = "linux")]
pub(super) fn duplicate_of(pidfd: BorrowedFd<'_>, number: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn duplicate_of(_: BorrowedFd<'_>, _: i32) -> Option<OwnedFd> {
    None
}
