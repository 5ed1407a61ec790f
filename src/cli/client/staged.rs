//! `echown client --style staged`: workers that send requests in a loop.

use std::io::{self, IsTerminal, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use super::finish;
use crate::cli::log;
use crate::cli::log_arguments::LogArguments;
use crate::cli::output::{Files, Output, Writers};
use crate::cli::record::{RecordArguments, Recorder, Recording};
use crate::cli::reports::Reporting;
use crate::cli::stderr_line::{Line, stderr_line};
use crate::cli::style::StyleName;
use crate::cli::trace::TraceArguments;
use crate::cli::units::{at_least_one, duration, positive, timeout};
use crate::client::staged::{self, Settings, StopHandle, Summary};
use crate::net::Endpoint;
use crate::ownership::Registry;
use crate::signals::{SignalHandler, Signals};
use crate::stage::{Signal, Sink, TraceEvent};

/// Options of the workers.
#[derive(Args)]
#[command(next_help_heading = "With --style staged")]
pub(super) struct StagedClientArguments {
    /// Number of workers; each has one connection. [default: 4]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    workers: Option<NonZeroUsize>,

    /// Stop each worker after N requests; unanswered requests and failed connects count. By default,
    /// workers run until a signal stops them.
    #[arg(long, value_name = "N", value_parser = positive)]
    count: Option<NonZeroU64>,

    /// Pause of a worker between a reply and its next request. [default: 500ms]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pause: Option<Duration>,

    /// Pause of a worker after a failure, before it reconnects. [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry: Option<Duration>,

    /// Time limit for a reply; the worker reconnects after it. [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    reply_timeout: Option<Duration>,

    #[command(flatten)]
    trace: TraceArguments,
}

impl StagedClientArguments {
    /// The first of these options that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--workers", self.workers.is_some()),
            ("--count", self.count.is_some()),
            ("--pause", self.pause.is_some()),
            ("--retry", self.retry.is_some()),
            ("--reply-timeout", self.reply_timeout.is_some()),
            ("--trace-events", self.trace.is_wanted()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The file of the event trace, if there is one.
    pub(super) fn trace_file(&self) -> Option<&Path> {
        self.trace.file()
    }

    fn settings(&self, address: Option<&Endpoint>) -> Settings {
        let server = address.cloned().unwrap_or_else(|| StyleName::Staged.endpoint());
        let mut settings = Settings::new(server);
        settings.workers = self.workers.unwrap_or(settings.workers);
        settings.pause = self.pause.unwrap_or(settings.pause);
        settings.retry = self.retry.unwrap_or(settings.retry);
        settings.reply_timeout = self.reply_timeout.unwrap_or(settings.reply_timeout);
        settings.count = self.count.map(NonZeroU64::get);
        settings
    }
}

pub(super) fn run(
    arguments: &StagedClientArguments,
    address: Option<&Endpoint>,
    (log, record): (&LogArguments, &RecordArguments),
    reporting: &Arc<Reporting>,
) -> ExitCode {
    let files = Files { log: Some(log), events: arguments.trace.file() };
    let output = Arc::new(Output::new(&files, reporting, false));
    log::init(log, &output);
    let reports = Arc::clone(&output);
    let settings = Registry::builder().sink(move |report| reports.report(report));
    let registry = Reporting::apply_baseline(reporting, settings).build();
    let _entered = registry.enter();
    crate::cli::inherited::declare_inherited(&registry);
    let settings = arguments.settings(address);
    let write_failed = Arc::new(AtomicBool::new(false));
    let sink = sink(&arguments.trace, &output, &write_failed);
    let mut recorder = None;
    let ran = output
        .open()
        .and_then(|()| reporting.check_writable())
        .and_then(|()| output.start())
        .and_then(|()| {
            recorder = record.start(&registry)?;
            Ok(())
        })
        .map_err(WorkersRunError::Setup)
        .and_then(|()| run_workers(&registry, &settings, sink, &output));
    let writers = output.close();
    let recording = recorder.and_then(Recorder::stop);
    // The exit does not wait for abandoned workers again.
    let is_over = ran.is_ok() && writers == Writers::Ended;
    let registry_summary = if is_over { registry.finish() } else { registry.summary() };
    recording.into_iter().for_each(Recording::finish);
    // ord: Relaxed; the workers that set it have been joined.
    let has_write_failed = write_failed.load(Ordering::Relaxed);
    let code = match ran {
        Ok(summary) => {
            let data = || summary.to_json();
            stderr_line(Line::with_data("summary", &summary.to_string(), summary, data));
            if has_write_failed {
                stderr_line(Line::error("failed to write all replies to standard output"));
            }
            let code = if has_succeeded(&settings, &summary) && !has_write_failed {
                ExitCode::from(registry_summary.exit_code)
            } else {
                ExitCode::FAILURE
            };
            finish(reporting, code)
        }
        Err(WorkersRunError::Setup(message)) => {
            stderr_line(Line::error(message));
            ExitCode::FAILURE
        }
        Err(WorkersRunError::Run(message)) => {
            stderr_line(Line::error(message));
            finish(reporting, ExitCode::FAILURE)
        }
    };
    output.write_last();
    code
}

/// Why the client failed.
enum WorkersRunError {
    /// The workers were not started.
    Setup(String),
    Run(String),
}

/// Whether every reply was correct, and none that `--count` requires is missing.
fn has_succeeded(settings: &Settings, summary: &Summary) -> bool {
    let workers = settings.workers.get() as u64;
    let required = match settings.count {
        Some(count) if !summary.is_stopped => count.saturating_mul(workers),
        _ => 0,
    };
    summary.wrong == 0 && summary.replies >= required
}

fn run_workers(
    registry: &Registry,
    settings: &Settings,
    sink: Sink,
    output: &Arc<Output>,
) -> Result<Summary, WorkersRunError> {
    let stop = StopHandle::new();
    let signals = WorkerSignals { stop: stop.clone(), output: Arc::clone(output) };
    let signals = Signals::install(registry, Arc::new(signals))
        .map_err(|error| WorkersRunError::Setup(format!("failed to watch for signals: {error}")))?;
    output.begin().map_err(WorkersRunError::Setup)?;
    let ran = staged::run(registry, settings, Some(sink), &stop);
    signals.stop();
    ran.map_err(|error| WorkersRunError::Run(error.to_string()))
}

/// Prints the events for people to standard output, and all events to the trace, if there is one. If both
/// are the same terminal, no event is printed twice.
fn sink(trace: &TraceArguments, output: &Arc<Output>, write_failed: &Arc<AtomicBool>) -> Sink {
    let write_failed = Arc::clone(write_failed);
    let is_on_stderr = trace.is_wanted() && trace.file().is_none();
    let is_duplicate = is_on_stderr && io::stderr().is_terminal() && io::stdout().is_terminal();
    let trace = trace.sink(output);
    Box::new(move |line| {
        if let Some(trace) = &trace {
            trace(line);
        }
        let is_for_people = matches!(
            line,
            TraceEvent::Connected { .. }
                | TraceEvent::CannotConnect { .. }
                | TraceEvent::Reply { .. }
        );
        if is_for_people && !is_duplicate {
            // Reported by the exit code. The workers continue: the trace and the server still need them.
            if writeln!(io::stdout().lock(), "{line}").is_err() {
                // ord: Relaxed; see the load.
                write_failed.store(true, Ordering::Relaxed);
            }
        }
    })
}

/// The signal handler of the workers.
struct WorkerSignals {
    stop: StopHandle,
    output: Arc<Output>,
}

impl SignalHandler for WorkerSignals {
    /// Does nothing: [`drain_began`](SignalHandler::drain_began) stops the workers, with the signal.
    fn drain(&self) {}

    fn abort(&self) {
        /// SIGQUIT has this number on every Unix system.
        const QUIT: i32 = 3;
        self.stop.stop(Signal { number: QUIT, pid: None });
    }

    fn show_custody(&self, registry: &Registry) {
        stderr_line(Line::custody(&registry.snapshot()));
    }

    fn reopen_files(&self) {
        self.output.reopen();
    }

    fn drain_began(&self, signal: Signal) {
        self.output.leave();
        self.stop.stop(signal);
    }

    fn before_exit(&self) {
        self.output.flush();
    }
}
