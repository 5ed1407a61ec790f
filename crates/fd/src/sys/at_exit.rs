//! Functions that run when the process exits normally: after `main` has returned, or in `exit`.

/// Calls `function` when this process, or a copy of it made by `fork`, exits normally. Returns whether
/// it was registered.
pub fn at_exit(function: extern "C" fn()) -> bool {
    // SAFETY: `atexit` only stores the pointer. The function takes no arguments and stays valid: the
    // program's code is not unloaded.
    unsafe { libc::atexit(function) == 0 }
}
