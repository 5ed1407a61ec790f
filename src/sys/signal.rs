//! Signal dispositions, as far as the signal libraries leave them to us.

/// Whether this process was started with the signal ignored, as a shell does with SIGINT for a
/// background job and `nohup` with SIGHUP.
pub(crate) fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero `sigaction` is a valid value to be written over, and with a null new
    // action the call only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Gives the signal its default disposition back.
pub(crate) fn restore_default(signal: i32) {
    // SAFETY: SIG_DFL is always a valid disposition; no handler of ours is involved.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}
