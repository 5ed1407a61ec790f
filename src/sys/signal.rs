//! Signal dispositions and masks that the signal libraries do not cover.

/// Whether the signal is ignored. At program start that is the parent's choice, such as a shell's
/// for SIGINT of a background job, or `nohup`'s for SIGHUP.
pub(crate) fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero `sigaction` is a valid value to be overwritten, and with a null new
    // action the call only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Restores the default disposition of the signal.
pub(crate) fn restore_default(signal: i32) {
    // SAFETY: SIG_DFL is always a valid disposition; no handler of this program is involved.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// Removes signals from the current thread's mask (`pthread_sigmask(3)`). Threads that it starts
/// later inherit the mask.
pub(crate) fn unblock(signals: &[i32]) {
    // SAFETY: `sigemptyset` initializes the set before anything reads it, and the set lives on this
    // stack for all calls. An invalid number makes `sigaddset` fail and changes nothing.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}
