//! Child processes that end with this one, however it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the kernel kill the process that `command` starts when this process ends, even by SIGKILL
/// (`PR_SET_PDEATHSIG`). Processes that it starts in turn are not killed, and neither is a
/// privileged program (set-user-ID, file capabilities).
///
/// The signal is tied to the *thread* that starts the process: that thread must live as long as
/// this process, such as the main thread.
/// such as the main thread.
#[cfg(target_os = "linux")]
pub(crate) fn kill_with_this_process(command: &mut Command) {
    use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

    let parent: Pid = getpid();
    let in_child = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // If the parent ended before the line above, there is no signal.
        match getppid() {
            Some(now) if now == parent => Ok(()),
            _ => Err(io::Error::from(rustix::io::Errno::SRCH)),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called. These are two
    // system calls; an error is a number, and nothing is allocated.
    unsafe {
        command.pre_exec(in_child);
    }
}
