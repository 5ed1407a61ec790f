//! The processes of a run, for the thread that passes signals on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use echown_fd::escape;
use echown_trace::event::{Event, What};

/// The processes that have not ended.
#[derive(Debug, Default)]
pub(super) struct Processes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The command's process, while it lives.
    command: Option<i32>,
    /// The program of each living process, escaped.
    living: BTreeMap<i32, Arc<str>>,
}

impl Processes {
    /// The command was started.
    pub(super) fn start(&self, command: i32) {
        let mut state = self.state();
        state.command = Some(command);
        // The event of its program may have come first.
        state.living.entry(command).or_default();
    }

    /// Follows an event. Only starts and ends of processes and programs change something.
    pub(super) fn follow(&self, event: &Event) {
        let process = event.task.0;
        match &event.what {
            What::Created { child, is_thread: false, .. } => {
                let mut state = self.state();
                let program = state.living.get(&process).map(Arc::clone);
                state.living.insert(child.0, program.unwrap_or_default());
            }
            What::Started { program, .. } | What::Executed { program, .. } => {
                let name = program.rsplit('/').next().unwrap_or_default();
                self.state().living.insert(process, escape::bytes(name.as_bytes()).into());
            }
            What::Ended => {
                let mut state = self.state();
                state.living.remove(&process);
                if state.command == Some(process) {
                    state.command = None;
                }
            }
            _ => {}
        }
    }

    /// Whether the command's process lives.
    pub(super) fn has_command(&self) -> bool {
        self.state().command.is_some()
    }

    /// How many processes live.
    pub(super) fn count(&self) -> usize {
        self.state().living.len()
    }

    /// Who gets a signal: the command; after its end, every process that it left.
    pub(super) fn targets(&self) -> Vec<i32> {
        let state = self.state();
        match state.command {
            Some(command) => vec![command],
            None => state.living.keys().copied().collect(),
        }
    }

    /// The living processes as a text, at most `max` of them by name: `4711 sleep, 4712 sh and 3 more`.
    pub(super) fn names(&self, max: usize) -> String {
        let state = self.state();
        let named = state.living.iter().take(max);
        let named: Vec<String> = named.map(|(pid, name)| format!("{pid} {name}")).collect();
        match state.living.len().saturating_sub(max) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use echown_trace::event::Tid;

    use super::*;

    fn event(task: i32, what: What) -> Event {
        Event { time_ns: 0, task: Tid(task), what }
    }

    fn forked(child: i32) -> What {
        What::Created { child: Tid(child), is_thread: false, shares_files: false }
    }

    #[test]
    fn signals_go_to_the_command_and_then_to_what_it_left() {
        let processes = Processes::default();
        processes.start(7);
        let program = "/bin/a\u{1b}b".to_owned();
        processes.follow(&event(7, What::Started { program, open: Vec::new() }));
        processes.follow(&event(7, forked(8)));
        let thread = What::Created { child: Tid(9), is_thread: true, shares_files: true };
        processes.follow(&event(7, thread));
        assert_eq!((processes.targets(), processes.count()), (vec![7], 2));
        processes.follow(&event(9, What::Ended));
        processes.follow(&event(7, What::Ended));
        assert!(!processes.has_command());
        assert_eq!((processes.targets(), &*processes.names(5)), (vec![8], "8 a\\x1bb"));
        processes.follow(&event(8, What::Ended));
        assert!(processes.targets().is_empty());
    }
}
