//! What the subcommand does while the program runs: the recording, the progress, and what it says about
//! processes that outlive the command.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use echown_trace::event::{Event, Tid};
use echown_trace::model::Model;
use echown_trace::stack::Stacks;
use echown_trace::tracer;

use super::limit::Limit;
use super::processes::Processes;
use super::recording::Recorder;
use crate::cli::stderr_line::stderr_line;
use crate::ownership::Registry;
use crate::report::Plural;
use crate::signals::PassedSignals;

/// When the first line of progress is written. Each later one takes twice as long as the one before.
const FIRST_PROGRESS: Duration = Duration::from_secs(5);

/// How long processes may outlive the command without a message: most end right after it.
const GRACE: Duration = Duration::from_secs(1);

/// How many of them the message names.
const NAMED_MAX: usize = 5;

/// Observes the tracer.
pub(super) struct Observer {
    pub(super) recorder: Option<Recorder>,
    pub(super) processes: Arc<Processes>,
    pub(super) signals: Option<PassedSignals>,
    pub(super) limit: Option<Limit>,
    registry: Registry,
    progress: Option<Progress>,
    /// When it was seen that the command had ended and others still ran.
    command_ended: Option<Instant>,
    is_quiet: bool,
    has_reported: bool,
}

impl Observer {
    pub(super) fn new(
        registry: &Registry,
        recorder: Option<Recorder>,
        limit: Option<Limit>,
        is_quiet: bool,
    ) -> Observer {
        // A line between those of a program is for a person who waits. A log has the report.
        let progress =
            (!is_quiet && io::stderr().is_terminal()).then_some(Progress(FIRST_PROGRESS));
        Observer {
            recorder,
            processes: Arc::default(),
            signals: None,
            registry: registry.clone(),
            limit,
            progress,
            command_ended: None,
            is_quiet,
            has_reported: false,
        }
    }

    /// After the end of the command: reports processes that still run, and ends them after the limit.
    fn check_others(&mut self) {
        if self.processes.has_command() || self.processes.count() == 0 {
            return;
        }
        let since = self.command_ended.get_or_insert_with(Instant::now).elapsed();
        if since >= GRACE {
            self.report_others();
        }
        if let Some(limit) = &mut self.limit {
            limit.enforce(&self.processes, since);
        }
    }

    /// Reports, once, that the command has ended and that processes which it started have not.
    fn report_others(&mut self) {
        let is_ending = self.limit.as_ref().is_some_and(Limit::is_reached);
        if self.is_quiet || self.has_reported || is_ending {
            return;
        }
        self.has_reported = true;
        let (what, run) = match self.processes.count() {
            1 => ("1 process that it started".to_owned(), "runs"),
            count => (format!("{count} processes that it started"), "run"),
        };
        let waiting = match &self.limit {
            Some(limit) => format!("waiting until {limit} after its end"),
            None => "waiting without a limit (see --wait)".to_owned(),
        };
        stderr_line(format_args!(
            "echown: the command has ended, and {what} still {run} ({}): {waiting}; SIGTERM or SIGINT, \
             sent to this process ({}), is passed on to them",
            self.processes.names(NAMED_MAX),
            std::process::id()
        ));
    }
}

impl tracer::Observer for Observer {
    fn started(&mut self, pid: Tid) {
        self.processes.start(pid.0);
        // Not before the command was started: it would inherit default actions instead of what is ignored.
        let processes = Arc::clone(&self.processes);
        match PassedSignals::install(&self.registry, move || processes.targets()) {
            Ok(signals) => self.signals = Some(signals),
            Err(error) => {
                stderr_line(format_args!("echown: failed to handle signals: {error}"));
            }
        }
    }

    fn event(&mut self, event: &Event, _: &Model, stacks: &Stacks) {
        self.processes.follow(event);
        if let Some(recorder) = &mut self.recorder {
            recorder.event(event, stacks);
        }
    }

    fn tick(&mut self, progress: tracer::Progress, model: &Model) {
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
        self.check_others();
        if let Some(line) = &mut self.progress {
            line.show(progress.elapsed, model);
        }
    }
}

/// The line of progress. It is never overwritten: the program may have written to the same terminal
/// since, and its text must stay. So the pauses grow.
struct Progress(Duration);

impl Progress {
    fn show(&mut self, elapsed: Duration, model: &Model) {
        if elapsed < self.0 {
            return;
        }
        self.0 = elapsed * 2;
        if !is_free() {
            return;
        }
        let processes = match model.process_total() {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        };
        stderr_line(format_args!(
            "echown: after {} s: {processes}, {} opened, {} open now, {} so far",
            elapsed.as_secs(),
            Plural(model.opened_total(), "descriptor"),
            model.open_total(),
            Plural(model.findings().len() as u64, "finding")
        ));
    }
}

/// Whether a line may be written to the terminal: its foreground belongs to the program, and the program
/// has not taken over the screen or the keys, as an editor, a pager and a prompt for a password do.
fn is_free() -> bool {
    use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp};
    let stderr = rustix::stdio::stderr();
    let is_foreground = tcgetpgrp(stderr).is_ok_and(|group| group == rustix::process::getpgrp());
    let usual = LocalModes::ICANON | LocalModes::ECHO;
    is_foreground && tcgetattr(stderr).is_ok_and(|modes| modes.local_modes.contains(usual))
}
