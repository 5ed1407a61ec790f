//! What the program writes beside its answers: log lines, reports, traces, and all that it says.
//!
//! ```text
//! any thread ── line ────> queue ──> task `stderr writer`, writes standard error
//! any task ─── line ─────> queue ──> task `log writer`, owns the log file
//! any task ─── report ───> queue ──> task `report writer`, owns the report file
//! machines ─── event ────> queue ──> task `event writer`, owns the trace file
//! ```
//!
//! Only its owner may write to a file, so each file has a task of its own that owns it, and everybody
//! else sends it what is to be written. What has no file of its own goes to standard error, reports
//! too: the writer also reads the sources that a report shows, which a task at its end could not own.
//!
//! Nothing waits for an output but its writer: not the service, and not those who see to signals. What a
//! stalled output leaves no room for is dropped and counted ([`queue`]). The count is written where the
//! gap is, once the output moves again, and stands in the summary; a report that is dropped counts in
//! the verdict all the same.
//!
//! A document (JUnit, SARIF) is rewritten whenever its writer has caught up; see [`paper`].
//!
//! SIGHUP is one more message. On the way out the queues are closed and the tasks joined: a stalled
//! output gets two seconds, all outputs together, and is then given up. What the registry finds after
//! that, in its own last moment, and what is said in the end, is written last, by the main thread.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::log::{LogArguments, LogFormat};
use super::reports::Reporting;
use super::stderr_line::{self, stderr_line};
use crate::ownership::{Promise, Registry, Report};
use crate::report::{Colours, Plural};
use crate::signals;
use crate::thread;

pub(super) use outlet::Outlet;
use paper::Paper;
pub(super) use queue::{Flush, Item, Queue, STALL_TIMEOUT};
use writer::{Notice, Writer};

pub(super) mod documents;
mod outlet;
mod paper;
mod queue;
mod writer;

/// How the writers came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writers {
    /// All that was sent is written, or was given up.
    Ended,
    /// One of them is blocked in writing.
    Stuck,
}

/// How often the end looks after a writer.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How long a writer may take to end after its output timed out; then it is blocked in a call.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);

/// When a signal ends a process that waits for its outputs: later than the second signal of
/// `timeout(1)`, which sends two at once.
const SIGNAL_DELAY: Duration = Duration::from_millis(200);

/// Whether standard error is written in colours: on a terminal, unless `NO_COLOR` says otherwise.
pub(super) fn stderr_has_colours() -> bool {
    let choice = anstream::AutoStream::choice(&io::stderr());
    io::stderr().is_terminal() && choice != anstream::ColorChoice::Never
        || choice == anstream::ColorChoice::AlwaysAnsi
        || choice == anstream::ColorChoice::Always
}

/// Everything that is written while the program runs.
pub(super) struct Output {
    stderr: Desk,
    log: Option<Desk>,
    reports: Option<Desk>,
    events: Option<Desk>,
    /// A report is written before who found it goes on: the next step may be an abort.
    is_synchronous: bool,
    /// Since when the program is on its way out.
    leaving: Mutex<Option<Instant>>,
}

/// What else than standard error is written to, and how.
#[derive(Default)]
pub(super) struct Files<'a> {
    pub(super) log: Option<&'a LogArguments>,
    pub(super) events: Option<(&'a Path, LogFormat)>,
}

impl Output {
    /// Takes over standard error: what is said waits until [`open`](Output::open).
    pub(super) fn new(files: &Files<'_>, reports: &Arc<Reporting>, is_synchronous: bool) -> Output {
        let desk = |name, unit, path: &Path, notice| {
            Desk::new(name, unit, Some(path.to_owned()), notice, reports)
        };
        let log = files.log.and_then(|log| {
            let notice = notice(log.log_format);
            log.log_file.as_deref().map(|path| desk("log writer", "line", path, Some(notice)))
        });
        let of_events = |(path, format): (&Path, LogFormat)| {
            desk("event writer", "line", path, Some(notice(format)))
        };
        let of_reports = |path| Desk {
            paper: Paper::of(reports).map(|paper| Arc::new(Mutex::new(paper))),
            ..desk("report writer", "report", path, reports.notice())
        };
        let stderr =
            Desk::new("stderr writer", "line", None, Some(notice(LogFormat::Text)), reports);
        stderr_line::set_queue(Some(Arc::clone(&stderr.queue)));
        Output {
            stderr,
            log,
            reports: reports.path().map(of_reports),
            events: files.events.map(of_events),
            is_synchronous,
            leaving: Mutex::default(),
        }
    }

    /// Opens the files, and starts the tasks that write. What was in the files stays until
    /// [`begin`](Output::begin).
    ///
    /// # Errors
    /// A file that cannot be opened or written, with its name; a thread that cannot be had.
    pub(super) fn open(&self, registry: &Registry) -> Result<(), String> {
        self.desks().try_for_each(|desk| desk.open(registry))
    }

    /// The work begins: a document of an earlier run gives way to one without findings.
    ///
    /// # Errors
    /// It cannot be written, with its name.
    pub(super) fn begin(&self, registry: &Registry) -> Result<(), String> {
        for desk in self.files() {
            if let Some(paper) = &desk.paper {
                guard(paper).begin(registry).map_err(|error| desk.open_error(&error))?;
            }
        }
        Ok(())
    }

    /// Where a line of the log is written to.
    pub(super) fn log_line(self: &Arc<Output>) -> LogLine {
        LogLine(Arc::clone(self))
    }

    /// Writes a report: what the registry's sink does.
    pub(super) fn report(&self, report: &Report) {
        let desk = self.reports.as_ref().unwrap_or(&self.stderr);
        desk.queue.push(Item::Report(Box::new(report.clone())));
        if self.is_synchronous {
            desk.queue.flush(Flush::Abort);
        }
    }

    /// Writes a line of a trace of events, which ends with its newline.
    pub(super) fn event(&self, line: String) {
        let desk = self.events.as_ref().unwrap_or(&self.stderr);
        desk.queue.push(Item::Line(line.into_bytes()));
    }

    /// Closes and opens the files: somebody has moved them away.
    pub(super) fn reopen(&self) {
        self.files().for_each(|desk| desk.queue.push(Item::Reopen));
    }

    /// Waits a moment for what was sent before, because the process is about to stop; not for an output
    /// that is stalled.
    pub(super) fn flush(&self) {
        self.files().for_each(|desk| desk.queue.flush(Flush::Exit));
        self.stderr.queue.flush(Flush::Exit);
    }

    /// The program is on its way out, and has something else to wait for first: a stalled output has its
    /// time meanwhile.
    pub(super) fn leave(&self) {
        guard(&self.leaving).get_or_insert_with(Instant::now);
    }

    /// Has everything written that was sent, and closes the files. For the task that opened them.
    ///
    /// An output that is stalled is given up after two seconds: the end of the program does not depend
    /// on it.
    pub(super) fn close(&self) -> Writers {
        let since = *guard(&self.leaving).get_or_insert_with(Instant::now);
        self.files().for_each(|desk| desk.queue.close(since));
        let files = self.files().map(|desk| desk.join(since)).max();
        // Last: what the others have to say goes there.
        self.stderr.queue.close(since);
        files.unwrap_or(Writers::Ended).max(self.stderr.join(since))
    }

    /// How many lines and reports were dropped because an output did not take them.
    pub(super) fn dropped(&self) -> u64 {
        self.desks().map(|desk| desk.queue.dropped()).sum()
    }

    /// Writes what came after [`close`](Output::close): the registry's last findings, and what was said
    /// about the end. From then on what is said is written directly.
    pub(super) fn write_last(&self, registry: &Registry) {
        self.files().for_each(|desk| desk.write_last(registry));
        self.stderr.write_last(registry);
        stderr_line::set_queue(None);
    }

    /// Standard error first: what the others have to say goes there.
    fn desks(&self) -> impl Iterator<Item = &Desk> {
        [&self.stderr].into_iter().chain(self.files())
    }

    fn files(&self) -> impl Iterator<Item = &Desk> {
        [&self.events, &self.reports, &self.log].into_iter().flatten()
    }
}

/// Where one kind of thing is handed in.
struct Desk {
    /// Of the task that writes.
    name: &'static str,
    /// What one item is.
    unit: &'static str,
    /// `None`: standard error.
    path: Option<PathBuf>,
    notice: Option<Notice>,
    /// How a report is written, if one comes.
    reporting: Arc<Reporting>,
    /// If what is written is a document. The writer's, and when that has ended the main thread's.
    paper: Option<Arc<Mutex<Paper>>>,
    queue: Arc<Queue>,
    writer: Mutex<Option<Promise<()>>>,
}

impl Desk {
    fn new(
        name: &'static str,
        unit: &'static str,
        path: Option<PathBuf>,
        notice: Option<Notice>,
        reporting: &Arc<Reporting>,
    ) -> Desk {
        let reporting = Arc::clone(reporting);
        let (queue, writer) = (Arc::default(), Mutex::default());
        Desk { name, unit, path, notice, reporting, paper: None, queue, writer }
    }

    fn open(&self, registry: &Registry) -> Result<(), String> {
        if let (Some(paper), Some(path)) = (&self.paper, &self.path) {
            guard(paper).attempt(path).map_err(|error| self.open_error(&error))?;
        }
        let writer = self.writer(registry, true)?;
        let give: Vec<_> = match &writer.outlet {
            Outlet::File(file) | Outlet::Stream(file) => vec![file.resource()],
            Outlet::Standard(_) => Vec::new(),
        };
        let queue = Arc::clone(&self.queue);
        let promise = thread::spawn_in(registry, self.name, give, move || writer.run(&queue))
            .map_err(|error| format!("failed to start the {}: {error}", self.name))?;
        *guard(&self.writer) = Some(promise);
        Ok(())
    }

    fn writer(&self, registry: &Registry, waits: bool) -> Result<Writer, String> {
        let outlet = match &self.path {
            Some(path) if self.paper.is_none() => {
                Outlet::append(registry, path, waits).map_err(|error| self.open_error(&error))?
            }
            // A document is written beside its file: this outlet is not used.
            _ => Outlet::Standard(rustix::stdio::stderr()),
        };
        let is_coloured = self.path.is_none() && stderr_has_colours();
        Ok(Writer {
            registry: registry.clone(),
            path: self.path.clone(),
            outlet,
            notice: self.notice,
            unit: self.unit,
            reporting: Arc::clone(&self.reporting),
            paper: self.paper.clone(),
            sources: writer::sources(registry),
            colours: if is_coloured { Colours::Always } else { Colours::Never },
            is_failing: false,
            is_last: false,
        })
    }

    /// Waits for the writer, whose queue is closed, and not longer than its output may take.
    fn join(&self, since: Instant) -> Writers {
        let Some(promise) = guard(&self.writer).take() else { return Writers::Ended };
        let mut overdue: Option<Instant> = None;
        while !promise.wait_until(Instant::now() + LOOK_PAUSE).unwrap_or(true) {
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
            stderr_line(format_args!("echown: the {} failed: {failure}", self.name));
        }
        if self.queue.is_abandoned() {
            self.report_loss();
        }
        Writers::Ended
    }

    fn report_loss(&self) {
        stderr_line(format_args!(
            "echown: {} was given up, it took nothing in the end; {} dropped in all",
            outlet::name(self.path.as_ref()),
            Plural(self.queue.dropped(), self.unit)
        ));
    }

    fn write_last(&self, registry: &Registry) {
        if self.queue.is_abandoned() || self.queue.is_empty() {
            return;
        }
        self.queue.close(Instant::now());
        match self.writer(registry, false) {
            Ok(writer) => {
                let is_last = true;
                Writer { is_last, ..writer }.run(&self.queue);
            }
            Err(error) => stderr_line(format_args!("echown: {error}")),
        }
    }

    fn open_error(&self, error: &io::Error) -> String {
        format!("failed to open {}: {error}", outlet::name(self.path.as_ref()))
    }
}

/// Has a signal end the process, when it has waited for a while to end by itself.
fn leaving(since: Instant) {
    if since.elapsed() >= SIGNAL_DELAY {
        signals::exit_on_next_signal();
    }
}

/// How an output of lines says that some are missing.
fn notice(format: LogFormat) -> Notice {
    match format {
        LogFormat::Text => |items| {
            let lines = Plural(items, "line");
            format!("echown: {lines} dropped here: this output did not take them in time\n")
        },
        LogFormat::Json => |items| format!("{{\"event\":\"dropped\",\"lines\":{items}}}\n"),
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One event of the log, on its way.
pub(super) struct LogLine(Arc<Output>);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let desk = self.0.log.as_ref().unwrap_or(&self.0.stderr);
        desk.queue.push(Item::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
