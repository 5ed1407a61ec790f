//! Socket cookies (`SO_COOKIE`), and systems that refuse them.
//!
//! Without the fallback to inodes, each socket of a program under qemu-user or in an old sandbox
//! would seem to be closed, and none could be owned.

use std::io;
use std::os::fd::BorrowedFd;

#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the system has rejected a cookie. It is not asked again: that would be a second system call
/// for every identity.
#[cfg(target_os = "linux")]
static REJECTED: AtomicBool = AtomicBool::new(false);

/// The cookie of a socket. `None` if it is no socket, or if the system rejects cookies.
///
/// # Errors
/// `EBADF` if the number is closed.
#[cfg(target_os = "linux")]
pub(super) fn cookie(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    use rustix::io::Errno;

    // ord: Relaxed; a thread that does not see it yet asks once more and gets the same answer.
    if REJECTED.load(Ordering::Relaxed) {
        return Ok(None);
    }
    match rustix::net::sockopt::socket_cookie(fd) {
        Ok(cookie) => Ok(Some(cookie)),
        Err(Errno::BADF) => Err(Errno::BADF.into()),
        Err(Errno::NOTSOCK) => Ok(None),
        // ENOPROTOOPT of a kernel, EOPNOTSUPP of qemu, EPERM or ENOSYS of a filter; a sandbox is free
        // to choose another one.
        Err(_) => {
            // ord: Relaxed; see above.
            REJECTED.store(true, Ordering::Relaxed);
            Ok(None)
        }
    }
}

/// The system has no cookies.
#[cfg(not(target_os = "linux"))]
pub(super) fn cookie(_: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    Ok(None)
}

/// What is lost because the system has rejected `SO_COOKIE`; `None` if it has not.
pub fn without_cookies() -> Option<String> {
    #[cfg(target_os = "linux")]
    // ord: Relaxed; the caller has asked for the identity of a socket before.
    let is_rejected = REJECTED.load(Ordering::Relaxed);
    #[cfg(not(target_os = "linux"))]
    let is_rejected = true;
    is_rejected.then(|| {
        String::from(
            "the system rejects SO_COOKIE, so sockets are identified by their inodes; a socket that \
             is replaced outside the registry by one with the same inode number is not noticed",
        )
    })
}

#[cfg(all(test, target_os = "linux"))]
#[path = "cookies_tests.rs"]
mod tests;
