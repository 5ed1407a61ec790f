//! The timeout of a socket's receiving or sending calls (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
//!
//! Not by rustix: it asks for `SO_RCVTIMEO_NEW` first, for which qemu-user returns four bytes of its
//! sixteen, and panics. Every connection of a server under qemu-user would end with that panic.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::Timeout;

/// The timeout; `None` if calls wait as long as necessary.
///
/// # Errors
/// The descriptor is not an open socket.
pub fn socket_timeout(fd: BorrowedFd<'_>, which: Timeout) -> rustix::io::Result<Option<Duration>> {
    let option = match which {
        Timeout::Recv => libc::SO_RCVTIMEO,
        Timeout::Send => libc::SO_SNDTIMEO,
    };
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of_val(&time) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `time`, which is that large, and then the
    // written length; both are on this stack.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut time).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    let timeout = Duration::from_secs(seconds) + Duration::from_micros(micros);
    Ok((!timeout.is_zero()).then_some(timeout))
}
