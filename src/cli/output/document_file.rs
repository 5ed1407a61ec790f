//! The file of a document, which is always replaced as a whole ([`AtomicFile`]).
//!
//! The file exists from the start of the work, at first without findings; if the start fails, the
//! old file stays.
//!
//! To rotate it, rename the file. The renamed document is complete and is not changed any more:
//! later findings go to a new document, which begins at the next finding or at SIGHUP, whichever is
//! first. No finding is in both.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::Path;

use super::documents::{Node, node};
use crate::cli::reports::Reporting;
use crate::net::File;
use crate::report::atomic_file::{AtomicFile, NOT_REGULAR};
use crate::report::{BaselineState, Document, Entry, Format};

/// A document with the state of its file.
pub(super) struct DocumentFile {
    format: Format,
    file: AtomicFile,
    document: Document,
    /// Findings since the last write.
    unwritten: Vec<(Entry, BaselineState)>,
    /// The written file; `None` before the first write.
    written: Option<Node>,
    /// The last write failed, so the file is outdated.
    is_behind: bool,
}

impl DocumentFile {
    /// The file of a document format; `None` for other formats.
    pub(super) fn of(reporting: &Reporting) -> Option<DocumentFile> {
        let format = reporting.format();
        let file = AtomicFile::at(reporting.path()?);
        format.is_document().then(|| DocumentFile {
            format,
            file,
            document: Document::new(format),
            unwritten: Vec::new(),
            written: None,
            is_behind: false,
        })
    }

    /// Checks that the document can be written.
    pub(super) fn attempt(&self, path: &Path) -> io::Result<()> {
        if super::outlet::standard(path).is_some() {
            return Err(io::Error::other(NOT_REGULAR));
        }
        self.file.attempt()
    }

    /// Writes a document without findings, unless this run has already written one.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.written.is_some() { Ok(()) } else { self.start_new() }
    }

    fn start_new(&mut self) -> io::Result<()> {
        self.document = Document::new(self.format);
        self.write()
    }

    pub(super) fn add(&mut self, entries: Vec<(Entry, BaselineState)>) {
        self.unwritten.extend(entries);
    }

    /// Writes the findings since the last write.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() && !self.is_behind {
            return Ok(());
        }
        if self.was_moved() {
            self.document = Document::new(self.format);
        }
        for (entry, baseline_state) in mem::take(&mut self.unwritten) {
            self.document.add(entry, baseline_state);
        }
        self.write()
    }

    /// Begins a new document if the file was renamed or removed.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.save()?;
        if self.was_moved() { self.start_new() } else { Ok(()) }
    }

    fn was_moved(&self) -> bool {
        let current = fs::metadata(self.file.path()).ok();
        self.written.is_some() && current.map(node) != self.written && !self.is_behind
    }

    fn write(&mut self) -> io::Result<()> {
        let replaced = self.file.replace(|temporary| {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true);
            let mut file = File::open_with(temporary, options)?;
            file.write_all(self.document.to_text().as_bytes())?;
            Ok(node(fs::metadata(temporary)?))
        });
        self.is_behind = replaced.is_err();
        self.written = Some(replaced?);
        Ok(())
    }
}
