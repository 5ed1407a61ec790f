//! What the program writes beside its answers: log lines and reports.
//!
//! ```text
//! any task ── line ────> desk ── bounded channel ──> task `log writer`, owns the log file
//! any task ── report ──> desk ── bounded channel ──> task `report writer`, owns the report file
//! machines ── event ───> desk ── bounded channel ──> task `event writer`, owns the trace file
//! ```
//!
//! Only its owner may write to a file, so each file has a task of its own that owns it, and everybody
//! else sends it what is to be written. Nothing is dropped: who sends to a full channel waits. Reports
//! without a file go the same way, to standard error: the writer also reads the sources that a report
//! shows, which a task at its end could not own.
//!
//! A document (JUnit, SARIF) is written anew whenever its writer has caught up; see [`paper`].
//!
//! SIGHUP is one more message. At the end the channels are closed and the tasks joined; what the
//! registry finds after that, in its own last moment, is kept and written last. What a writer itself
//! has to say (its file is full, its file is gone) goes straight to standard error: it cannot wait
//! for itself.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::log::LogArguments;
use super::reports::Reporting;
use crate::net::File;
use crate::ownership::{Promise, Registry, Report};
use crate::report::{Colours, Sources};
use crate::sys::escape;
use crate::thread;

use paper::Paper;

mod paper;

/// Lines and reports that wait for their writer. Enough for a burst of findings; beyond it those
/// who find wait for the disk or the terminal.
const QUEUED_MAX: usize = 1024;

/// How the writers came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writers {
    /// All that was sent is written.
    Ended,
    /// One of them is blocked in writing.
    Stuck,
}

/// How long a draining process waits for its writers: as long as a slow disk may take for a full
/// channel.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a process that stops at once waits for what was already sent.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// How often a full channel is tried within [`FLUSH_PATIENCE`].
const FLUSH_PAUSE: Duration = Duration::from_millis(1);

thread_local! {
    /// A writer must not wait for itself, nor two writers for each other.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Whether standard error is written in colours: on a terminal, unless `NO_COLOR` says otherwise.
pub(super) fn stderr_has_colours() -> bool {
    let choice = anstream::AutoStream::choice(&io::stderr());
    io::stderr().is_terminal() && choice != anstream::ColorChoice::Never
        || choice == anstream::ColorChoice::AlwaysAnsi
        || choice == anstream::ColorChoice::Always
}

/// One thing to be written, or to be done by who writes.
enum Mail {
    Line(Vec<u8>),
    Report(Box<Report>),
    Reopen,
    /// Everything before this is written when the answer comes.
    Flush(SyncSender<()>),
}

/// Everything that is written while the server runs.
pub(super) struct Output {
    log: Desk,
    reports: Desk,
    events: Desk,
    /// A report is written before who found it goes on: the next step may be an abort.
    is_synchronous: bool,
}

impl Output {
    /// Nothing is open yet: until [`open`](Output::open), all goes to standard error.
    pub(super) fn new(
        log: &LogArguments,
        reports: &Arc<Reporting>,
        events: Option<&Path>,
        is_synchronous: bool,
    ) -> Output {
        Output {
            log: Desk::new("log writer", log.log_file.clone(), reports),
            reports: Desk {
                paper: Paper::of(reports).map(|paper| Arc::new(Mutex::new(paper))),
                ..Desk::new("report writer", reports.path().map(Path::to_owned), reports)
            },
            events: Desk::new("event writer", events.map(Path::to_owned), reports),
            is_synchronous,
        }
    }

    /// Opens the files, and starts the tasks that write.
    ///
    /// # Errors
    /// A file that cannot be opened, with its name; a thread that cannot be had.
    pub(super) fn open(&self, registry: &Registry) -> Result<(), String> {
        for desk in [&self.log, &self.events] {
            if desk.path.is_some() {
                desk.open(registry)?;
            }
        }
        self.reports.open(registry)
    }

    /// Where a line of the log is written to.
    pub(super) fn log_line(self: &Arc<Output>) -> LogLine {
        LogLine(Arc::clone(self))
    }

    /// Writes a report: what the registry's sink does.
    pub(super) fn report(&self, report: &Report) {
        self.reports.send(Mail::Report(Box::new(report.clone())));
        if self.is_synchronous {
            self.reports.flush();
        }
    }

    /// Writes a line of a trace of events, which ends with its newline.
    pub(super) fn event(&self, line: String) {
        self.events.send(Mail::Line(line.into_bytes()));
    }

    /// Closes and opens the files: somebody has moved them away.
    pub(super) fn reopen(&self) {
        for desk in self.desks().filter(|desk| desk.path.is_some()) {
            desk.send(Mail::Reopen);
        }
    }

    /// Waits a moment for what was sent before, because the process is about to stop.
    pub(super) fn flush(&self) {
        self.desks().for_each(Desk::flush);
    }

    /// Has everything written that was sent, and closes the files. For the task that opened them.
    ///
    /// A writer that is stuck (a pipe that nobody reads) is given up after a while: the end of the
    /// program does not depend on it.
    pub(super) fn close(&self) -> Writers {
        self.desks().map(Desk::close).max().unwrap_or(Writers::Ended)
    }

    /// Writes what came after [`close`](Output::close): the registry's last findings.
    pub(super) fn write_last(&self, registry: &Registry) {
        for desk in self.desks() {
            desk.write_last(registry);
        }
    }

    /// The log comes last: what the others have to say may go there.
    fn desks(&self) -> impl Iterator<Item = &Desk> {
        [&self.events, &self.reports, &self.log].into_iter()
    }
}

/// Where one kind of thing is handed in.
struct Desk {
    /// Of the task that writes.
    name: &'static str,
    path: Option<PathBuf>,
    /// How a report is written, if one comes.
    reporting: Arc<Reporting>,
    /// If what is written is a document. The writer's, and when that has ended whoever writes last.
    paper: Option<Arc<Mutex<Paper>>>,
    stage: Mutex<Stage>,
}

enum Stage {
    /// There is no writer: all goes to standard error.
    Direct,
    Open(SyncSender<Mail>, Promise<()>),
    /// The writer has ended, and what comes now is written at the very end.
    Closed(Vec<Mail>),
}

impl Desk {
    fn new(name: &'static str, path: Option<PathBuf>, reporting: &Arc<Reporting>) -> Desk {
        let reporting = Arc::clone(reporting);
        Desk { name, path, reporting, paper: None, stage: Mutex::new(Stage::Direct) }
    }

    fn open(&self, registry: &Registry) -> Result<(), String> {
        let writer = self.writer(registry)?;
        if let Some(paper) = &self.paper {
            guard(paper).begin(registry).map_err(|error| cannot_open(&self.path, &error))?;
        }
        let (sender, mail) = sync_channel(QUEUED_MAX);
        let give: Vec<_> = writer.file.iter().map(File::resource).collect();
        let promise = thread::spawn_in(registry, self.name, give, move || writer.run(&mail))
            .map_err(|error| format!("cannot start the {}: {error}", self.name))?;
        *self.stage() = Stage::Open(sender, promise);
        Ok(())
    }

    fn writer(&self, registry: &Registry) -> Result<Writer, String> {
        let file = match &self.path {
            Some(path) if self.paper.is_none() => {
                Some(append(registry, path).map_err(|error| cannot_open(&self.path, &error))?)
            }
            _ => None,
        };
        let is_coloured = file.is_none() && stderr_has_colours();
        let for_sources = registry.clone();
        Ok(Writer {
            registry: registry.clone(),
            path: self.path.clone(),
            file,
            reporting: Arc::clone(&self.reporting),
            paper: self.paper.clone(),
            sources: Sources::read_by(move |path| {
                let mut text = String::new();
                File::open_with_in(&for_sources, path, OpenOptions::new().read(true))?
                    .read_to_string(&mut text)?;
                Ok(text)
            }),
            colours: if is_coloured { Colours::Always } else { Colours::Never },
            is_failing: false,
        })
    }

    /// Hands something in; waits while the writer is behind.
    fn send(&self, mail: Mail) {
        let sender = match &mut *self.stage() {
            _ if IS_WRITER.get() => None,
            Stage::Direct => None,
            Stage::Open(sender, _) => Some(sender.clone()),
            Stage::Closed(last) => return last.push(mail),
        };
        // Not under the lock: the writer may be behind.
        let unsent = match sender {
            Some(sender) => sender.send(mail).map_err(|unsent| unsent.0),
            None => Err(mail),
        };
        if let Err(mail) = unsent {
            self.write_directly(&mail);
        }
    }

    /// To standard error, without a writer and without sources.
    fn write_directly(&self, mail: &Mail) {
        match mail {
            Mail::Line(line) => to_stderr(line),
            Mail::Report(report) => {
                let text = self.reporting.written(report, &Sources::none(), Colours::Never);
                to_stderr(&text);
            }
            Mail::Reopen | Mail::Flush(_) => {}
        }
    }

    fn flush(&self) {
        let sender = match &*self.stage() {
            Stage::Open(sender, _) if !IS_WRITER.get() => sender.clone(),
            _ => return,
        };
        let deadline = Instant::now() + FLUSH_PATIENCE;
        let (done, answer) = sync_channel(1);
        let mut mail = Mail::Flush(done);
        while let Err(TrySendError::Full(unsent)) = sender.try_send(mail) {
            if Instant::now() >= deadline {
                return;
            }
            mail = unsent;
            std::thread::sleep(FLUSH_PAUSE);
        }
        // An answer, a writer that is gone, or the deadline: there is nothing more to do.
        let _ = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    fn close(&self) -> Writers {
        let before = match &mut *self.stage() {
            stage @ Stage::Open(..) => std::mem::replace(stage, Stage::Closed(Vec::new())),
            _ => return Writers::Ended,
        };
        let Stage::Open(sender, promise) = before else { return Writers::Ended };
        drop(sender);
        if !promise.wait_until(Instant::now() + CLOSE_PATIENCE).unwrap_or(false) {
            to_stderr(format!("echown: the {} is stuck and was given up\n", self.name).as_bytes());
            return Writers::Stuck;
        }
        if let Err(failure) = promise.join() {
            to_stderr(format!("echown: the {} failed: {failure}\n", self.name).as_bytes());
        }
        Writers::Ended
    }

    fn write_last(&self, registry: &Registry) {
        let last = match std::mem::replace(&mut *self.stage(), Stage::Direct) {
            Stage::Closed(last) if !last.is_empty() => last,
            _ => return,
        };
        match self.writer(registry) {
            Ok(mut writer) => {
                last.into_iter().for_each(|mail| writer.attend(mail));
                writer.save();
            }
            Err(error) => {
                to_stderr(format!("echown: {error}\n").as_bytes());
                last.iter().for_each(|mail| self.write_directly(mail));
            }
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        guard(&self.stage)
    }
}

/// The task that writes.
struct Writer {
    registry: Registry,
    path: Option<PathBuf>,
    /// `None`: standard error, or a document.
    file: Option<File>,
    reporting: Arc<Reporting>,
    paper: Option<Arc<Mutex<Paper>>>,
    sources: Sources,
    colours: Colours,
    /// The latest write failed, and that was said.
    is_failing: bool,
}

impl Writer {
    /// Writes what comes until nobody can send any more.
    fn run(mut self, mail: &Receiver<Mail>) {
        IS_WRITER.set(true);
        while let Ok(first) = mail.recv() {
            self.attend(first);
            mail.try_iter().take(QUEUED_MAX).for_each(|mail| self.attend(mail));
            self.save();
        }
    }

    fn attend(&mut self, mail: Mail) {
        match mail {
            Mail::Line(line) => self.write(&line),
            Mail::Report(report) => {
                let entries = self.reporting.entries(&report, &self.sources);
                match &self.paper {
                    Some(paper) => guard(paper).add(entries),
                    None => {
                        let text = self.reporting.written(&report, &self.sources, self.colours);
                        self.write(&text);
                    }
                }
            }
            Mail::Reopen => self.reopen(),
            Mail::Flush(done) => {
                self.save();
                // Nobody listens any more: it took too long.
                let _ = done.try_send(());
            }
        }
    }

    /// One call per line or report, and nothing is held back.
    fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return to_stderr(bytes) };
        match file.write_all(bytes) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                if !self.is_failing {
                    self.complain(&format!("cannot write ({error}); standard error has the rest"));
                }
                self.is_failing = true;
                to_stderr(bytes);
            }
        }
    }

    /// Writes the document, if that is what is written and it has changed.
    fn save(&mut self) {
        let Some(paper) = self.paper.clone() else { return };
        match guard(&paper).save(&self.registry) {
            Ok(()) => self.is_failing = false,
            Err(error) => self.complain_of_document(&error),
        }
    }

    fn complain_of_document(&mut self, error: &io::Error) {
        if !self.is_failing {
            self.complain(&format!(
                "cannot write ({error}); it is tried again with the next report"
            ));
        }
        self.is_failing = true;
    }

    fn reopen(&mut self) {
        if let Some(paper) = self.paper.clone() {
            if let Err(error) = guard(&paper).reopen(&self.registry) {
                self.complain_of_document(&error);
            }
            return;
        }
        let Some(path) = &self.path else { return };
        match append(&self.registry, path) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                self.complain(&format!("cannot reopen it ({error}); writing to the old file on"));
            }
        }
    }

    fn complain(&self, what: &str) {
        let path = self.path.as_deref().unwrap_or(Path::new("standard error"));
        to_stderr(format!("echown: {}: {what}\n", escape::path(path)).as_bytes());
    }
}

fn append(registry: &Registry, path: &Path) -> io::Result<File> {
    File::open_with_in(registry, path, OpenOptions::new().append(true).create(true))
}

fn cannot_open(path: &Option<PathBuf>, error: &io::Error) -> String {
    let path = path.as_deref().unwrap_or(Path::new("standard error"));
    format!("cannot open {}: {error}", escape::path(path))
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All of it at once, so that lines of several threads don't mix. Where standard error is closed,
/// nobody listens.
fn to_stderr(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// One event of the log, on its way.
pub(super) struct LogLine(Arc<Output>);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let desk = &self.0.log;
        if desk.path.is_some() {
            desk.send(Mail::Line(line.to_vec()));
        } else {
            to_stderr(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
