//! The task that writes one output: it owns the file, and no other thread waits for it.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::Level;

use super::document_file::DocumentFile;
use super::outlet::{Outlet, name};
use super::queue::{Item, Queue};
use super::{Channel, REPORT, guard, leaving, stderr_has_colours};
use crate::cli::log_arguments::OutputFormat;
use crate::cli::stderr_line::form::marked;
use crate::cli::stderr_line::{self, Line, stderr_line};
use crate::net::File;
use crate::ownership::Resource;
use crate::report::{Colours, Plural, Sources};

/// Why items were dropped.
const NOT_TAKEN: &str = "this output did not take them in time";

/// How many bytes are taken from the queue at once.
const TAKEN_BYTES: usize = 64 * 1024;

/// The state of a writer.
pub(super) struct Writer {
    channel: Arc<Channel>,
    /// `None`: a document, which is written to a temporary file.
    outlet: Option<Outlet>,
    sources: Sources,
    /// The last write failed and was reported.
    is_failing: bool,
    /// The writer is the main thread, at exit, which does not wait for the reader of a FIFO.
    is_last: bool,
}

/// The output has timed out.
struct GivenUp;

/// Abandons the queue if the writer ends early, so that no thread waits for it.
struct Abandons<'a>(&'a Queue, bool);

impl Drop for Abandons<'_> {
    fn drop(&mut self) {
        if self.1 || std::thread::panicking() {
            self.0.abandon(0);
        }
    }
}

impl Writer {
    /// Opens the output.
    pub(super) fn open(channel: &Arc<Channel>, is_last: bool) -> io::Result<Writer> {
        let outlet = match &channel.path {
            _ if channel.document.is_some() => None,
            Some(path) => Some(Outlet::append(path, !is_last)?),
            None => Some(Outlet::Standard(rustix::stdio::stderr())),
        };
        let (channel, sources) = (Arc::clone(channel), sources());
        Ok(Writer { channel, outlet, sources, is_failing: false, is_last })
    }

    /// The file that the writer's task must own.
    pub(super) fn resource(&self) -> Option<Resource> {
        match &self.outlet {
            Some(Outlet::File(file) | Outlet::Stream(file)) => Some(file.resource()),
            Some(Outlet::Standard(_)) | None => None,
        }
    }

    /// Writes items until the queue is closed and empty, or the output is given up.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.channel.queue);
        let mut abandons = Abandons(&queue, false);
        while let Some(items) = queue.take(TAKEN_BYTES) {
            let taken = items.len();
            if self.process(items.into(), &queue).is_err() {
                abandons.1 = true;
                return;
            }
            self.save();
            queue.done(taken);
        }
    }

    fn process(&mut self, mut items: VecDeque<Item>, queue: &Queue) -> Result<(), GivenUp> {
        let mut batch = Vec::new();
        let mut batched = 0;
        let batch_max = self.outlet.as_ref().map_or(0, Outlet::batch_max);
        while let Some(item) = items.pop_front() {
            let is_order = matches!(item, Item::Reopen);
            let bytes = self.bytes_of(item);
            if !batch.is_empty() && (is_order || batch.len() + bytes.len() > batch_max) {
                self.write(&batch, batched, queue).inspect_err(|GivenUp| {
                    queue.abandon(items.len() as u64 + 1 + batched);
                })?;
                batch.clear();
                batched = 0;
            }
            if is_order {
                self.reopen();
            } else {
                batch.extend_from_slice(&bytes);
                batched += 1;
            }
        }
        self.write(&batch, batched, queue).inspect_err(|GivenUp| queue.abandon(batched))
    }

    /// The bytes to write for an item. Empty for a report that goes into a document.
    fn bytes_of(&self, item: Item) -> Vec<u8> {
        let Channel { reporting, document, path, notice, unit, .. } = &*self.channel;
        match item {
            Item::Line(line) => line,
            Item::Report(report) => {
                let entries = reporting.entries(&report, &self.sources);
                if let Some(document) = document {
                    guard(document).add(entries);
                    return Vec::new();
                }
                if path.is_some() {
                    return reporting.render(&report, &self.sources, Colours::Never).into_bytes();
                }
                let is_coloured = stderr_has_colours();
                let colours = if is_coloured { Colours::Always } else { Colours::Never };
                reporting.for_stderr(&report, &self.sources, colours)
            }
            Item::Dropped(items) => {
                let dropped = Plural(items, unit);
                if path.is_some() {
                    self.report_error(&format!("{dropped} dropped: it did not take them in time"));
                }
                let text = format_args!("{dropped} dropped here: {NOT_TAKEN}");
                let line = Line::error(text).event("dropped").field("lines", items);
                match notice {
                    _ if path.is_none() => line.into_bytes(),
                    Some(OutputFormat::Json) => line.unmarked().into_bytes(),
                    // As after a report, an empty line follows.
                    Some(OutputFormat::Text) => {
                        let end = if *unit == REPORT { "\n\n" } else { "\n" };
                        format!("echown: {text}{end}").into_bytes()
                    }
                    None => Vec::new(),
                }
            }
            Item::Reopen => Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8], items: u64, queue: &Queue) -> Result<(), GivenUp> {
        let Some(outlet) = self.outlet.as_ref().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        let begun = Instant::now();
        let is_last = self.is_last;
        let stalled = || {
            queue.stalled();
            if is_last {
                leaving(begun);
            }
            queue.is_overdue()
        };
        match outlet.write_all(bytes, || queue.moved(), stalled) {
            Ok(Some(())) => self.is_failing = false,
            Ok(None) => return Err(GivenUp),
            // There is no other place for output that standard error rejects.
            Err(_) if self.channel.path.is_none() => queue.lost(items),
            Err(error) => {
                if !self.is_failing {
                    self.report_error(&format!(
                        "failed to write ({error}); standard error has the rest"
                    ));
                }
                self.is_failing = true;
                self.redirect(bytes);
            }
        }
        Ok(())
    }

    /// Writes the document, if there is one and it has changed.
    fn save(&mut self) {
        self.with_document(DocumentFile::save);
    }

    fn reopen(&mut self) {
        self.with_document(DocumentFile::reopen);
        let (Some(_), Some(path)) = (&self.outlet, &self.channel.path) else { return };
        match Outlet::append(path, false) {
            Ok(outlet) => self.outlet = Some(outlet),
            Err(error) => {
                self.report_error(&format!(
                    "failed to reopen it ({error}); writing to the old file on"
                ));
            }
        }
    }

    fn with_document(&mut self, write: fn(&mut DocumentFile) -> io::Result<()>) {
        let Some(document) = &self.channel.document else { return };
        let written = write(&mut guard(document));
        if let (Err(error), false) = (&written, self.is_failing) {
            self.report_error(&format!(
                "failed to write ({error}); it is tried again with the next report"
            ));
        }
        self.is_failing = written.is_err();
    }

    fn report_error(&self, what: &str) {
        let path = name(self.channel.path.as_deref());
        stderr_line(Line::error(format_args!("{path}: {what}")));
    }

    /// Writes to standard error what the file rejects: lines of a JSON log as they are, others as a text.
    fn redirect(&self, bytes: &[u8]) {
        if self.channel.notice == Some(OutputFormat::Json) {
            stderr_line::write(marked(bytes.to_vec(), Level::INFO));
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        stderr_line(Line::from(text).event("redirected"));
    }
}

/// Reads the sources for reports with files that the calling task owns.
pub(in crate::cli) fn sources() -> Sources {
    Sources::read_by(read_source)
}

/// The sources of a program that was started in the working directory, read in the same way.
#[cfg(target_os = "linux")]
pub(in crate::cli) fn sources_of_command() -> Sources {
    Sources::below(&std::env::current_dir().unwrap_or_default(), read_source)
}

fn read_source(path: &Path) -> io::Result<String> {
    // Debug information can name a pipe or a device, which has no end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}
