//! The task that writes one output: it owns the file, and no other thread waits for it.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::document_file::DocumentFile;
use super::outlet::{Outlet, name};
use super::queue::{Item, Queue};
use super::{guard, leaving};
use crate::cli::reports::Reporting;
use crate::cli::stderr_line::stderr_line;
use crate::net::File;
use crate::ownership::Registry;
use crate::report::{Colours, Plural, Sources};

/// How many bytes are taken from the queue at once.
const TAKEN_BYTES: usize = 64 * 1024;

/// Formats the notice about dropped items.
pub(super) type Notice = fn(u64) -> String;

/// The state of a writer task.
pub(super) struct Writer {
    pub(super) registry: Registry,
    pub(super) path: Option<PathBuf>,
    pub(super) outlet: Outlet,
    pub(super) notice: Option<Notice>,
    /// The unit of items in messages.
    pub(super) unit: &'static str,
    pub(super) reporting: Arc<Reporting>,
    pub(super) document: Option<Arc<Mutex<DocumentFile>>>,
    pub(super) sources: Sources,
    pub(super) colours: Colours,
    /// The last write failed and was reported.
    pub(super) is_failing: bool,
    /// The writer is the main thread, at exit.
    pub(super) is_last: bool,
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
    /// Writes items until the queue is closed and empty, or the output is given up.
    pub(super) fn run(mut self, queue: &Queue) {
        let mut abandons = Abandons(queue, false);
        while let Some(items) = queue.take(TAKEN_BYTES) {
            let taken = items.len();
            if self.process(items.into(), queue).is_err() {
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
        while let Some(item) = items.pop_front() {
            let is_order = matches!(item, Item::Reopen);
            let bytes = self.bytes_of(item);
            if !batch.is_empty()
                && (is_order || batch.len() + bytes.len() > self.outlet.batch_max())
            {
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
    fn bytes_of(&mut self, item: Item) -> Vec<u8> {
        match item {
            Item::Line(line) => line,
            Item::Report(report) => {
                let entries = self.reporting.entries(&report, &self.sources);
                match &self.document {
                    Some(document) => {
                        guard(document).add(entries);
                        Vec::new()
                    }
                    None => self.reporting.render(&report, &self.sources, self.colours),
                }
            }
            Item::Dropped(items) => {
                let unit = Plural(items, self.unit);
                if self.path.is_some() {
                    stderr_line(format_args!(
                        "echown: {}: {unit} dropped: it did not take them in time",
                        name(self.path.as_ref())
                    ));
                }
                self.notice.map_or(Vec::new(), |notice| notice(items).into_bytes())
            }
            Item::Reopen => Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8], items: u64, queue: &Queue) -> Result<(), GivenUp> {
        if bytes.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let is_last = self.is_last;
        let stalled = || {
            queue.stalled();
            if is_last {
                leaving(begun);
            }
            queue.is_overdue()
        };
        match self.outlet.write_all(bytes, || queue.moved(), stalled) {
            Ok(Some(())) => self.is_failing = false,
            Ok(None) => return Err(GivenUp),
            // There is no other place for output that standard error rejects.
            Err(_) if self.path.is_none() => queue.lost(items),
            Err(error) => {
                if !self.is_failing {
                    self.report_error(&format!(
                        "failed to write ({error}); standard error has the rest"
                    ));
                }
                self.is_failing = true;
                crate::cli::stderr_line::write(bytes.to_vec());
            }
        }
        Ok(())
    }

    /// Writes the document, if there is one and it has changed.
    fn save(&mut self) {
        let Some(document) = self.document.clone() else { return };
        match guard(&document).save(&self.registry) {
            Ok(()) => self.is_failing = false,
            Err(error) => self.report_document_error(&error),
        }
    }

    fn report_document_error(&mut self, error: &io::Error) {
        if !self.is_failing {
            self.report_error(&format!(
                "failed to write ({error}); it is tried again with the next report"
            ));
        }
        self.is_failing = true;
    }

    fn reopen(&mut self) {
        if let Some(document) = self.document.clone() {
            if let Err(error) = guard(&document).reopen(&self.registry) {
                self.report_document_error(&error);
            }
            return;
        }
        let Some(path) = &self.path else { return };
        match Outlet::append(&self.registry, path, false) {
            Ok(outlet) => self.outlet = outlet,
            Err(error) => {
                self.report_error(&format!(
                    "failed to reopen it ({error}); writing to the old file on"
                ));
            }
        }
    }

    fn report_error(&self, what: &str) {
        stderr_line(format_args!("echown: {}: {what}", name(self.path.as_ref())));
    }
}

/// Reads the sources for reports with files that the writer task owns.
pub(super) fn sources(registry: &Registry) -> Sources {
    let registry = registry.clone();
    Sources::read_by(move |path| {
        let mut text = String::new();
        File::open_with_in(&registry, path, OpenOptions::new().read(true))?
            .read_to_string(&mut text)?;
        Ok(text)
    })
}
