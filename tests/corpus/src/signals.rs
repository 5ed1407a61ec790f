//! Signal handlers that open and close files.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptor that the latest run of the handler left open.
static LEFT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn open_and_close(_: libc::c_int) {
    unsafe {
        let number = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::close(number);
    }
}

extern "C" fn open_and_leave(_: libc::c_int) {
    let number = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    LEFT.store(number, Ordering::Relaxed);
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigfillset(&mut action.sa_mask);
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// No fault: a handler that blocks all signals and, for example, reads a clock from a file.
pub fn handle_by_opening() {
    handle(libc::SIGUSR1, open_and_close);
}

/// The fault: a handler that opens and never closes.
pub fn handle_by_leaving() {
    handle(libc::SIGUSR2, open_and_leave);
}

pub fn raise(signal: libc::c_int) {
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

pub fn left() -> RawFd {
    LEFT.swap(-1, Ordering::Relaxed)
}

/// The signals that are blocked while the handler of a signal runs.
pub fn blocked_in_handler_of(signal: libc::c_int) -> libc::sigset_t {
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal, std::ptr::null(), &mut action), 0);
        action.sa_mask
    }
}
