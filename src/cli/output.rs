//! The program's outputs other than command results: log lines, reports, traces and messages.
//!
//! ```text
//! any thread ── line ────> queue ──> task `stderr writer`, writes standard error
//! any task ─── line ─────> queue ──> task `log writer`, owns the log file
//! any task ─── report ───> queue ──> task `report writer`, owns the report file
//! machines ─── event ────> queue ──> task `event writer`, owns the trace file
//! ```
//!
//! Only a file's owner may write to it, so each file has a task that owns it, and other tasks send
//! it their output. Output without a file goes to standard error. So do reports: their writer also
//! reads the source files that a report shows, which an ending task could not own.
//!
//! Only an output's writer waits for it: neither the service nor the signal handling does. Items
//! that do not fit into the queue of a stalled output are dropped and counted ([`queue`]). The
//! count is written at the gap once the output accepts data again, and is part of the summary. A
//! dropped report still counts in the exit code.
//!
//! A document (JUnit, SARIF) is rewritten whenever its writer has emptied the queue; see
//! [`document_file`].
//!
//! SIGHUP is one more message. At exit the queues are closed and the tasks joined: stalled outputs
//! get two seconds in total and are then given up. The main thread writes the findings that the
//! registry makes after that, and the last messages.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::log_arguments::{LogArguments, OutputFormat};
use super::reports::Reporting;
use super::stderr_line::form::{is_journal, marked};
use super::stderr_line::{self, Line, stderr_line};
use crate::ownership::{Promise, Report};
use crate::report::Plural;
use crate::signals;
use crate::thread;

use document_file::DocumentFile;
pub(super) use outlet::Outlet;
pub(super) use queue::{Flush, Item, Queue, STALL_TIMEOUT};
use writer::Writer;
pub(super) use writer::sources;
#[cfg(target_os = "linux")]
pub(super) use writer::sources_of_command;

mod document_file;
pub(super) mod documents;
mod outlet;
mod queue;
mod writer;

/// How the writers ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writers {
    /// Every item was written or given up.
    Ended,
    /// A writer is blocked in a write.
    Stuck,
}

/// The unit of reports in messages.
const REPORT: &str = "report";

/// How often [`join`](Channel::join) checks a writer.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a writer may take to end after its output timed out; after that it is blocked in a
/// call.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);

/// How long an exiting process waits for its outputs before a signal ends it: longer than the gap
/// between the two signals that `timeout(1)` sends.
const SIGNAL_DELAY: Duration = Duration::from_millis(200);

/// Whether standard error is coloured: if it is a terminal and `NO_COLOR` is not set. The journal is not.
pub(super) fn stderr_has_colours() -> bool {
    if is_journal() {
        return false;
    }
    let choice = anstream::AutoStream::choice(&io::stderr());
    io::stderr().is_terminal() && choice != anstream::ColorChoice::Never
        || choice == anstream::ColorChoice::AlwaysAnsi
        || choice == anstream::ColorChoice::Always
}

/// All outputs of the program.
pub(super) struct Output {
    stderr: Arc<Channel>,
    log: Option<Arc<Channel>>,
    reports: Option<Arc<Channel>>,
    events: Option<Arc<Channel>>,
    /// A report is written before the reporting thread continues, because that may abort the
    /// process.
    is_synchronous: bool,
    /// When the exit of the program began.
    leaving: Mutex<Option<Instant>>,
}

/// The outputs besides standard error.
#[derive(Default)]
pub(super) struct Files<'a> {
    pub(super) log: Option<&'a LogArguments>,
    pub(super) events: Option<&'a Path>,
}

impl Output {
    /// Takes over standard error: messages are queued until [`start`](Output::start).
    pub(super) fn new(files: &Files<'_>, reports: &Arc<Reporting>, is_synchronous: bool) -> Output {
        let channel = |name, unit, path: Option<&Path>, notice| {
            Arc::new(Channel::new(name, unit, path, notice, reports))
        };
        let log = files.log.and_then(|log| {
            let path = log.log_file.as_deref()?;
            Some(channel("log writer", "line", Some(path), Some(log.log_format)))
        });
        let text = Some(OutputFormat::Text);
        let events = files.events.map(|path| channel("event writer", "line", Some(path), text));
        let report_file = reports
            .path()
            .map(|path| channel("report writer", REPORT, Some(path), reports.notice()));
        let stderr = channel("stderr writer", "line", None, None);
        stderr_line::set_queue(Some(Arc::clone(&stderr.queue)));
        Output {
            stderr,
            log,
            reports: report_file,
            events,
            is_synchronous,
            leaving: Mutex::default(),
        }
    }

    /// Opens the files. Their contents stay until [`begin`](Output::begin).
    ///
    /// # Errors
    /// A file cannot be opened or written. The message contains its name.
    pub(super) fn open(&self) -> Result<(), String> {
        self.channels().try_for_each(|channel| channel.open())
    }

    /// Starts the tasks that write what is queued, and gives them the files.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(&self) -> Result<(), String> {
        self.channels().try_for_each(|channel| channel.start())
    }

    /// Begins the run: a document of an earlier run is replaced by one without findings.
    ///
    /// # Errors
    /// The document cannot be written. The message contains its name.
    pub(super) fn begin(&self) -> Result<(), String> {
        self.files().try_for_each(|channel| {
            let Some(document) = &channel.document else { return Ok(()) };
            guard(document).begin().map_err(|error| channel.open_error(&error))
        })
    }

    /// A destination for an event of the log.
    pub(super) fn log_line(self: &Arc<Output>, level: Level) -> LogLine {
        LogLine(Arc::clone(self), level)
    }

    /// Writes a report; called by the registry's sink.
    pub(super) fn report(&self, report: &Report) {
        let channel = self.reports.as_ref().unwrap_or(&self.stderr);
        channel.queue.push(Item::Report(Box::new(report.clone())));
        if self.is_synchronous {
            channel.queue.flush(Flush::Abort);
        }
    }

    /// Writes a line of an event trace.
    pub(super) fn event(&self, line: &impl fmt::Display) {
        match &self.events {
            Some(channel) => channel.queue.push(Item::Line(format!("{line}\n").into_bytes())),
            None => stderr_line(Line::from(line).event("trace").level(Level::TRACE)),
        }
    }

    /// Closes and reopens the files, because they may have been renamed.
    pub(super) fn reopen(&self) {
        self.files().for_each(|channel| channel.queue.push(Item::Reopen));
    }

    /// Waits shortly until earlier items are written, because the process is about to exit. Does
    /// not wait for stalled outputs.
    pub(super) fn flush(&self) {
        self.files().for_each(|channel| channel.queue.flush(Flush::Exit));
        self.stderr.queue.flush(Flush::Exit);
    }

    /// Starts the timeout of stalled outputs: the program exits, but waits for something else
    /// first.
    pub(super) fn leave(&self) {
        guard(&self.leaving).get_or_insert_with(Instant::now);
    }

    /// Writes all queued items and closes the files. Must be called by the task that opened them.
    ///
    /// A stalled output is given up after two seconds, so that it cannot block the exit.
    pub(super) fn close(&self) -> Writers {
        let since = *guard(&self.leaving).get_or_insert_with(Instant::now);
        self.files().for_each(|channel| channel.queue.close(since));
        let files = self.files().map(|channel| channel.join(since)).max();
        // Closed last, because the other writers report errors there.
        self.stderr.queue.close(since);
        files.unwrap_or(Writers::Ended).max(self.stderr.join(since))
    }

    /// The number of dropped lines and reports.
    pub(super) fn dropped(&self) -> u64 {
        self.channels().map(|channel| channel.queue.dropped()).sum()
    }

    /// Writes the items queued after [`close`](Output::close): the registry's last findings and the
    /// messages about the exit. Later messages are written directly.
    pub(super) fn write_last(&self) {
        self.files().for_each(|channel| channel.write_last());
        self.stderr.write_last();
        stderr_line::set_queue(None);
    }

    /// Standard error first, because the other writers report errors there.
    fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        [&self.stderr].into_iter().chain(self.files())
    }

    fn files(&self) -> impl Iterator<Item = &Arc<Channel>> {
        [&self.events, &self.reports, &self.log].into_iter().flatten()
    }
}

/// One output, for its senders and for its writer.
struct Channel {
    /// The name of the writer task.
    name: &'static str,
    /// The unit of items in messages.
    unit: &'static str,
    /// `None` for standard error.
    path: Option<PathBuf>,
    /// The format of the notice about dropped items, if the file has one.
    notice: Option<OutputFormat>,
    /// Formats reports.
    reporting: Arc<Reporting>,
    /// For document formats. Used by the writer and, once it has ended, by the main thread.
    document: Option<Mutex<DocumentFile>>,
    queue: Arc<Queue>,
    /// Between [`Output::open`] and [`Output::start`]; a failed start leaves it.
    opened: Mutex<Option<Writer>>,
    writer: Mutex<Option<Promise<()>>>,
}

impl Channel {
    fn new(
        name: &'static str,
        unit: &'static str,
        path: Option<&Path>,
        notice: Option<OutputFormat>,
        reporting: &Arc<Reporting>,
    ) -> Channel {
        let document = (unit == REPORT).then(|| DocumentFile::of(reporting)).flatten();
        Channel {
            name,
            unit,
            path: path.map(Path::to_owned),
            notice,
            reporting: Arc::clone(reporting),
            document: document.map(Mutex::new),
            queue: Arc::default(),
            opened: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    fn open(self: &Arc<Channel>) -> Result<(), String> {
        if let (Some(document), Some(path)) = (&self.document, &self.path) {
            guard(document).attempt(path).map_err(|error| self.open_error(&error))?;
        }
        *guard(&self.opened) = Some(self.writer(false)?);
        Ok(())
    }

    fn start(self: &Arc<Channel>) -> Result<(), String> {
        let Some(writer) = guard(&self.opened).take() else { return Ok(()) };
        let give = writer.resource();
        let promise = thread::spawn_named(self.name, give, move || writer.run())
            .map_err(|error| format!("failed to start the {}: {error}", self.name))?;
        *guard(&self.writer) = Some(promise);
        Ok(())
    }

    /// The writer, a task or, if `is_last`, the main thread at exit.
    fn writer(self: &Arc<Channel>, is_last: bool) -> Result<Writer, String> {
        Writer::open(self, is_last).map_err(|error| self.open_error(&error))
    }

    /// Joins the writer, whose queue is closed. Gives up if its output is stalled for too long.
    fn join(&self, since: Instant) -> Writers {
        drop(guard(&self.opened).take());
        let Some(promise) = guard(&self.writer).take() else { return Writers::Ended };
        let mut overdue: Option<Instant> = None;
        while !promise.wait_until(Instant::now() + CHECK_INTERVAL).unwrap_or(true) {
            leaving(since);
            if self.queue.is_overdue()
                && overdue.get_or_insert_with(Instant::now).elapsed() >= STUCK_TIMEOUT
            {
                self.queue.abandon(0);
                self.report_loss();
                return Writers::Stuck;
            }
        }
        if let Err(failure) = promise.join() {
            stderr_line(Line::error(format_args!("the {} failed: {failure}", self.name)));
        }
        if self.queue.is_abandoned() {
            self.report_loss();
        }
        Writers::Ended
    }

    fn report_loss(&self) {
        let dropped = self.queue.dropped();
        let text = format_args!(
            "{} was given up, it took nothing in the end; {} dropped in all",
            outlet::name(self.path.as_deref()),
            Plural(dropped, self.unit)
        );
        stderr_line(Line::error(text).event("dropped").field("lines", dropped));
    }

    fn write_last(self: &Arc<Channel>) {
        if self.queue.is_abandoned() || self.queue.is_empty() {
            return;
        }
        self.queue.close(Instant::now());
        match self.writer(true) {
            Ok(writer) => writer.run(),
            Err(error) => stderr_line(Line::error(error)),
        }
    }

    fn open_error(&self, error: &io::Error) -> String {
        format!("failed to open {}: {error}", outlet::name(self.path.as_deref()))
    }
}

/// Lets the next signal end the process if its exit takes too long.
fn leaving(since: Instant) {
    if since.elapsed() >= SIGNAL_DELAY {
        signals::exit_on_next_signal();
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer of one log event.
pub(super) struct LogLine(Arc<Output>, Level);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0.log {
            Some(channel) => channel.queue.push(Item::Line(line.to_vec())),
            None => self.0.stderr.queue.push(Item::Line(marked(line.to_vec(), self.1))),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
