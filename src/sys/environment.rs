//! Environment variables of the process, read and removed.

use std::ffi::OsString;

/// Returns the value of each variable and removes it, so that no child program takes it for its own.
///
/// Nothing is removed while other threads run, or where they cannot be counted (without `/proc`).
pub(crate) fn take<const N: usize>(names: [&str; N]) -> [Option<OsString>; N] {
    let values = names.map(std::env::var_os);
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|threads| threads == 1) {
        for name in names {
            // SAFETY: this is the only thread, so no other one reads the environment meanwhile.
            unsafe { std::env::remove_var(name) };
        }
    }
    values
}
