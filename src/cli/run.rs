//! The subcommand `echown run`: the descriptors of another program. Arguments in, library calls, exit code
//! out.

mod fail_on;
mod limit;
mod noted;
mod observer;
mod outcome;
mod outputs;
mod processes;
mod recording;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use echown_fd::{escape, kind};
use echown_report::{RunReport, RunStatus};
use echown_trace::tracer::{self, StartError, Trace};
use echown_trace::{finding, judge, report, symbolize};

use super::inherited::declare_inherited;
use super::log_arguments::OutputFormat;
use super::output::documents;
use super::reports::Reporting;
use super::stderr_line::form::set_format;
use super::{EXIT_USAGE, fail, units};
use crate::ownership::Registry;
use crate::report::{Format, Suppression};
use fail_on::FailOn;
use limit::Limit;
use noted::Noted;
use observer::Observer;
use outcome::{Outcome, REPORT};
use outputs::{OutputArguments, Shared};
use recording::Recorder;

/// The exit code if tracing fails.
const EXIT_TRACING: u8 = 125;

/// The exit code of shells for a command that cannot be executed.
const EXIT_NOT_EXECUTABLE: u8 = 126;

/// The exit code of shells for a command that is not found.
const EXIT_NOT_FOUND: u8 = 127;

/// What the default mode leaves out.
const UNCHECKED: &str =
    "uses by calls such as `read` and `write` were not checked (see --check-uses)";

/// Printed below the options: tables whose lines fit into 80 columns.
const NOTES: &str = "\
Findings:
  double-close    a descriptor was closed a second time; if its number belonged
                  to another one by then, that one was closed
  use-after-close a call used a number after its close
  exec-leak       a program inherited a descriptor that it does not use and that
                  was not passed to it on purpose
  leak            descriptors of one place stay open
  not-open        a call used a number that was never open
  overwritten-fd  `dup2` replaced an open descriptor (a note)
  open-at-exit    a process ended with it (a note)
  `echown explain CODE` describes each.

Signals:
  SIGINT and SIGQUIT of the terminal reach the command by themselves. SIGHUP,
  SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 and SIGWINCH that a process sends
  to `echown run` are passed on to the command, and after its end to all that
  it has started; the same signal from the same sender within 200 ms counts
  once. If `echown run` is killed, the traced processes are killed, too.

Limits:
  Linux on x86-64. Without CAP_SYS_ADMIN the command runs with NO_NEW_PRIVS:
  set-user-ID programs such as `sudo` do not get their rights. Debuggers,
  `strace` and sanitizers that trace do not work in it. If a program uses
  io_uring, whose descriptors cannot be followed, --no-io-uring helps.

Exit codes:
  N    that of the command; 128 and the signal's number if a signal ended it
  2    invalid arguments, suppressions or baseline
  23   a finding fails (--fail-on), whatever the command's own
  125  tracing failed, or an output cannot be written
  126  the command cannot be executed
  127  the command is not found";

/// Run a command, and report what it does wrong with descriptors.
///
/// Follows all processes and threads that the command starts, in any language and without a change to
/// them, and reports leaks, second closes, uses after a close and descriptors that another program
/// inherits, each with the stacks of the calls that opened and closed it. Reading and writing run at full
/// speed; calls that open and close descriptors take about 10 microseconds more.
///
/// `echown run -- COMMAND` waits for all of them (see --wait), and then writes the report to standard error.
#[derive(Args)]
#[command(args_override_self = true, after_long_help = NOTES)]
pub(super) struct RunArguments {
    /// The command and its arguments.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,

    /// Findings that fail the run, with exit code 23: codes with commas between them, as in
    /// `leak,double-close`; `any`, which is every error and warning; or `none`. Notes never fail, except
    /// those of overwritten-fd and open-at-exit if these are named. [default: double-close,
    /// use-after-close, and exec-leak of what a program does not use and was not passed on purpose]
    #[arg(long, value_name = "CODES", value_parser = fail_on::parse)]
    fail_on: Option<FailOn>,

    /// Report notes, too: what is often intended, such as a descriptor that is open at the end.
    #[arg(long)]
    notes: bool,

    /// Check every call that takes a descriptor, and not only those that open and close. Finds the uses of
    /// a closed number that fail; if the number belongs to another descriptor by then, only --quarantine
    /// finds the use. Makes reading and writing as slow as opening.
    #[arg(long)]
    check_uses: bool,

    /// Keep closed numbers occupied, the last 64 of each process: a second close and a use after a close
    /// are then certain, and no other descriptor is hit. Implies --check-uses; a late write raises SIGPIPE.
    /// Programs that rely on getting the lowest free number do not work.
    #[arg(long)]
    quarantine: bool,

    /// Make io_uring unavailable to the command, so that it uses calls that can be followed.
    #[arg(long)]
    no_io_uring: bool,

    /// How long processes may run that outlive the command, such as a daemon that a build starts. Then
    /// they get SIGTERM, and 2 seconds later SIGKILL, and the report names them. [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    wait: Option<Duration>,

    /// Include the arguments of the command in the report and in the recording. They may contain secrets.
    #[arg(long)]
    arguments: bool,

    /// Write only findings: no summary, no progress, and not that processes outlive the command.
    #[arg(short, long)]
    quiet: bool,

    // Groups with a heading come last, because clap prints all following options under it.
    #[command(flatten)]
    outputs: OutputArguments,
}

pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    let (suppressions, reporting) = match arguments.prepare() {
        Ok(prepared) => prepared,
        Err(message) => return fail(message, EXIT_USAGE),
    };
    let registry = Registry::new();
    let _entered = registry.enter();
    declare_inherited(&registry);
    let code = match trace(arguments, &registry, &reporting, &suppressions) {
        Ok(code) => code,
        Err((message, code)) => return fail(message, code),
    };
    // A finding about this process itself is written by the registry.
    registry.finish();
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Why there is no result: a message for people, and the exit code.
type Failure = (String, u8);

/// Runs the command, and writes what was found. Returns the exit code.
fn trace(
    arguments: &RunArguments,
    registry: &Registry,
    reporting: &Reporting,
    suppressions: &[Suppression],
) -> Result<i32, Failure> {
    let tracing = |message: String| (message, EXIT_TRACING);
    if let Some(path) = reporting.path() {
        documents::attempt(REPORT, path).map_err(tracing)?;
    }
    reporting.check_writable().map_err(tracing)?;
    let record = &arguments.outputs.0.record;
    let recorder =
        record.file().map(|path| Recorder::create(path, record.limit(), arguments.shown_command()));
    let recorder = recorder.transpose().map_err(tracing)?;
    let started = Instant::now();
    let limit = arguments.wait.map(Limit::new);
    let mut observer = Observer::new(registry, recorder, limit, arguments.quiet);
    let traced = tracer::run(&arguments.command(), &arguments.settings(), &mut observer);
    if let Some(signals) = observer.signals.take() {
        signals.stop();
    }
    let trace = traced.map_err(|error| arguments.failure(error))?;
    let mut symbolizer = symbolize::Symbolizer::new();
    let mut report = arguments.report(&trace, &mut symbolizer, suppressions);
    report.notes.extend(observer.limit.take().and_then(Limit::note));
    let outcome = Outcome::new(report, arguments, reporting, suppressions);
    if let Some(recorder) = observer.recorder.take() {
        let findings = outcome.report.findings.iter().map(Noted::of).collect();
        recorder.finish(findings, &mut |id| symbolizer.resolve(&trace.stacks, id), started);
    }
    outcome.write(reporting.format(), reporting.path(), arguments.quiet).map_err(tracing)?;
    reporting.finish().map_err(tracing)?;
    Ok(outcome.exit_code(exit_code(trace.status)))
}

/// The exit code of a shell for a status of `waitpid`.
fn exit_code(status: i32) -> i32 {
    match run_status(status) {
        RunStatus::Exited(code) => code,
        RunStatus::Signalled(signal) => 128 + signal,
    }
}

fn run_status(status: i32) -> RunStatus {
    match status & 0x7f {
        0 => RunStatus::Exited(status >> 8 & 0xff),
        signal => RunStatus::Signalled(signal),
    }
}

impl RunArguments {
    /// Reads the suppressions and the baseline, and checks the outputs.
    ///
    /// # Errors
    /// The message for the user.
    fn prepare(&self) -> Result<(Vec<Suppression>, Reporting), String> {
        let Shared { suppressions, reports, record } = &self.outputs.0;
        let suppressions = suppressions.read()?;
        suppressions.iter().try_for_each(check_kind)?;
        let reporting = reports.prepare(OutputFormat::Text)?;
        let record = [("--record", record.file())];
        documents::distinct(reports.outputs().into_iter().chain(record))?;
        if reporting.format() == Format::Json && reporting.path().is_none() {
            set_format(OutputFormat::Json);
        }
        Ok((suppressions, reporting))
    }

    fn command(&self) -> tracer::Command {
        let mut words = self.command.iter().cloned();
        let program = words.next().unwrap_or_default();
        tracer::Command { program, arguments: words.collect() }
    }

    fn settings(&self) -> tracer::Settings {
        tracer::Settings {
            quarantine: self.quarantine,
            check_uses: self.check_uses,
            no_io_uring: self.no_io_uring,
            ..tracer::Settings::default()
        }
    }

    /// The program's name, escaped.
    fn program(&self) -> String {
        self.command.first().map_or(String::new(), |it| escape::path(Path::new(it)).into_owned())
    }

    /// The arguments, escaped, if they are to be recorded.
    fn recorded_arguments(&self) -> Option<Vec<String>> {
        let words = self.command.iter().skip(1);
        let words = words.map(|word| escape::path(Path::new(word)).into_owned());
        self.arguments.then(|| words.collect())
    }

    fn shown_command(&self) -> String {
        let words = std::iter::once(self.program());
        words.chain(self.recorded_arguments().into_iter().flatten()).collect::<Vec<_>>().join(" ")
    }

    /// The findings of a trace.
    fn report(
        &self,
        trace: &Trace,
        symbolizer: &mut symbolize::Symbolizer,
        suppressions: &[Suppression],
    ) -> RunReport {
        let mut findings = judge::judge(&trace.model);
        let all = findings.len();
        // Functions and lines take tens of milliseconds for each file, so notes that are not shown have
        // none. `--fail-on` can make some errors, and a suppression that matches a note is in use.
        let are_matched = !suppressions.is_empty();
        if !self.notes && !are_matched && !self.fail_on.as_ref().is_some_and(FailOn::selects_notes)
        {
            findings.retain(|finding| finding.severity != finding::Severity::Note);
        }
        let mut report = report::run_report(&findings, &trace.model, &trace.stacks, symbolizer);
        report.omitted.notes += (all - findings.len()) as u64;
        report.notes.extend(notes(trace));
        if !self.check_uses && !self.quarantine {
            report.notes.push(UNCHECKED.to_owned());
        }
        RunReport {
            command: self.program(),
            arguments: self.recorded_arguments(),
            status: run_status(trace.status),
            ..report
        }
    }

    /// Why the command was not traced.
    fn failure(&self, error: StartError) -> Failure {
        let program = self.program();
        match error {
            StartError::NotFound => {
                (format!("failed to run `{program}`: not found"), EXIT_NOT_FOUND)
            }
            StartError::NotExecutable(error) => {
                (format!("failed to run `{program}`: {error}"), EXIT_NOT_EXECUTABLE)
            }
            error => (format!("failed to trace `{program}`: {error}"), EXIT_TRACING),
        }
    }
}

/// Checks the kind of a suppression. Programs have no resources of other kinds than descriptors.
///
/// # Errors
/// The message for the user.
fn check_kind(suppression: &Suppression) -> Result<(), String> {
    match suppression.kind.as_deref() {
        Some(kind) if !kind::ALL.contains(&kind) => Err(format!(
            "wrong suppression: unknown kind `{}`; the kinds are {}",
            escape::text(kind),
            kind::ALL.join(", ")
        )),
        _ => Ok(()),
    }
}

/// What a user should know of a run, in whole lines.
fn notes(trace: &Trace) -> Vec<String> {
    let mut notes: Vec<String> = trace
        .without_privileges
        .iter()
        .map(|program| {
            format!(
                "{} ran without the privileges of its owner: without CAP_SYS_ADMIN a traced command \
                 can get no new ones; run echown itself under sudo",
                escape::path(Path::new(program))
            )
        })
        .collect();
    if trace.without_leak_check {
        notes.push(String::from(
            "LeakSanitizer cannot run in a traced program: its check is off (LSAN_OPTIONS=detect_leaks=0)",
        ));
    }
    notes.extend(trace.unwind_notes.iter().cloned());
    notes
}
