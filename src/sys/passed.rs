//! The descriptors that a service manager passes, which begin at number 3.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// The first one (`SD_LISTEN_FDS_START`).
pub(crate) const FIRST: RawFd = 3;

/// Takes `count` descriptors and sets close-on-exec. The second call takes none.
///
/// # Errors
/// The number that is not open. The ones before it are closed.
pub(crate) fn take(count: usize) -> Result<Vec<OwnedFd>, RawFd> {
    static TAKEN: OnceLock<()> = OnceLock::new();
    let count = if TAKEN.set(()).is_ok() { count } else { 0 };
    let numbers = (FIRST..).take(count);
    numbers.map(|number| adopt(number).ok_or(number)).collect()
}

fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: `fcntl` with F_SETFD only sets a flag of this number, or fails if it is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: the number is open. The service manager has passed it to this program alone, and `take`
    // comes here once for each number, so it has no other owner.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
