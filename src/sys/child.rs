//! Child processes that end with this one, however it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has a process that `command` starts be killed when this process ends, by SIGKILL too
/// (`PR_SET_PDEATHSIG`). What the process starts in turn is not killed, and a program with privileges of
/// its own (set-user-ID, file capabilities) is not either.
///
/// The kernel means the *thread* that starts it: that has to be one that lives as long as the process,
/// such as the main thread.
#[cfg(target_os = "linux")]
pub(crate) fn kill_with_this_process(command: &mut Command) {
    use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

    let parent: Pid = getpid();
    let in_child = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before the line above, and then no signal comes.
        match getppid() {
            Some(now) if now == parent => Ok(()),
            _ => Err(io::Error::from(rustix::io::Errno::SRCH)),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called. These are two system
    // calls; an error is a number, and nothing is allocated.
    unsafe {
        command.pre_exec(in_child);
    }
}
