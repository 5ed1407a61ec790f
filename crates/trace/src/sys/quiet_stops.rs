//! No SIGCHLD for the stops of tracees: `waitpid` sees them without it, and to make and drop a signal for
//! each of two stops takes a quarter of a microsecond.

use std::io;

/// SIGCHLD is sent for ends only, until this is dropped.
#[derive(Debug)]
pub struct QuietStops {
    previous: libc::sigaction,
}

impl QuietStops {
    /// Changes the flag. What happens at the end of a child stays as it is.
    ///
    /// # Errors
    /// The kernel rejects the change.
    pub fn start() -> io::Result<QuietStops> {
        // SAFETY: the type consists of integers and an optional function, for which zero is a value.
        let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one value; there is no pointer for a new one.
        let done = unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut previous) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut quiet = previous;
        quiet.sa_flags |= libc::SA_NOCLDSTOP;
        set(&quiet)?;
        Ok(QuietStops { previous })
    }
}

impl Drop for QuietStops {
    fn drop(&mut self) {
        let _ = set(&self.previous);
    }
}

fn set(action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the pointer is valid for the call, and the handler is the one that was set before.
    let done = unsafe { libc::sigaction(libc::SIGCHLD, action, std::ptr::null_mut()) };
    if done != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
