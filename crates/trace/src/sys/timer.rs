//! A timer that interrupts `waitpid`, which has no timeout.

use std::io;
use std::time::Duration;

/// The interval timer of the process, with SIGALRM. There is one at a time.
#[derive(Debug)]
pub struct Timer {
    previous: libc::sigaction,
}

extern "C" fn ignore(_: libc::c_int) {}

impl Timer {
    /// Starts it.
    ///
    /// # Errors
    /// The kernel rejects the handler or the timer.
    pub fn start(interval: Duration) -> io::Result<Timer> {
        // SAFETY: the type consists of integers and an optional function, for which zero is a value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // Without SA_RESTART, so that the call that waits returns.
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        // SAFETY: as above.
        let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are valid for the call; the handler does nothing.
        if unsafe { libc::sigaction(libc::SIGALRM, &raw const action, &raw mut previous) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let timer = Timer { previous };
        timer.set(interval)?;
        Ok(timer)
    }

    /// Changes the interval, and starts it from now.
    ///
    /// # Errors
    /// The kernel rejects the interval.
    pub fn set(&self, interval: Duration) -> io::Result<()> {
        let part = libc::timeval {
            tv_sec: interval.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(interval.subsec_micros() as i32),
        };
        let value = libc::itimerval { it_interval: part, it_value: part };
        let none = std::ptr::null_mut();
        // SAFETY: the kernel reads one value; there is no pointer for the old one.
        let done = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const value, none) };
        if done != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let _ = self.set(Duration::ZERO);
        // SAFETY: the pointer is valid, and the action is the one that was replaced.
        unsafe { libc::sigaction(libc::SIGALRM, &raw const self.previous, std::ptr::null_mut()) };
    }
}
