//! The limit for processes that outlive the command: `--wait`.

use std::fmt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::processes::Processes;

/// How long a process has after SIGTERM, until it gets SIGKILL.
const TERMINATION: Duration = Duration::from_secs(2);

/// How many processes the note names.
const NAMED_MAX: usize = 8;

/// How long processes may outlive the command.
#[derive(Debug)]
pub(super) struct Limit {
    wait: Duration,
    /// What was ended, once the limit is reached.
    note: Option<String>,
}

impl Limit {
    pub(super) fn new(wait: Duration) -> Limit {
        Limit { wait, note: None }
    }

    /// Whether the processes got their signal.
    pub(super) fn is_reached(&self) -> bool {
        self.note.is_some()
    }

    /// Ends the remaining processes after the limit. Must be called at every tick: a process that is killed
    /// may have started another one.
    pub(super) fn enforce(&mut self, processes: &Processes, since: Duration) {
        if since < self.wait {
            return;
        }
        if self.note.is_none() {
            let left = match processes.count() {
                1 => "1 process".to_owned(),
                count => format!("{count} processes"),
            };
            self.note = Some(format!(
                "{left} still ran {self} after the end of the command (--wait), and got SIGTERM: {}",
                processes.names(NAMED_MAX)
            ));
            signal(processes, Signal::TERM);
        } else if since >= self.wait + TERMINATION {
            signal(processes, Signal::KILL);
        }
    }

    /// Which processes were ended, for the report.
    pub(super) fn note(self) -> Option<String> {
        self.note
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.wait).fmt(f)
    }
}

/// Sends a signal to what the command left. The caller waits for these processes, so that the numbers
/// still are theirs.
fn signal(processes: &Processes, signal: Signal) {
    for process in processes.targets().into_iter().filter_map(Pid::from_raw) {
        // It may have ended.
        let _ = kill_process(process, signal);
    }
}
