//! A document on its way to its file.
//!
//! It replaces its file whole ([`AtomicFile`]). There is one from the start of the work, without
//! findings; where the start fails, what was there before stays.
//!
//! Whoever rotates files moves the document away. From then on it is complete and no longer ours: what
//! is found later goes into a new one, which is begun at the next finding or at SIGHUP, whichever is
//! first. Nothing is in both.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cli::reports::Reporting;
use crate::net::File;
use crate::ownership::Registry;
use crate::report::atomic_file::{AtomicFile, NOT_REGULAR};
use crate::report::{BaselineState, Document, Entry, Format};

/// What was found, and what of it is in the file.
pub(super) struct Paper {
    format: Format,
    file: AtomicFile,
    document: Document,
    /// Found since it was written.
    news: Vec<(Entry, BaselineState)>,
    /// Device and inode of what was written; none is there yet.
    written: Option<(u64, u64)>,
    /// It could not be written: the file is of an earlier state.
    is_behind: bool,
}

impl Paper {
    /// For a format that is a document.
    pub(super) fn of(reporting: &Reporting) -> Option<Paper> {
        let format = reporting.format();
        let file = AtomicFile::at(reporting.path()?);
        format.is_document().then(|| Paper {
            format,
            file,
            document: Document::new(format),
            news: Vec::new(),
            written: None,
            is_behind: false,
        })
    }

    /// Tries whether it can be written.
    pub(super) fn attempt(&self, path: &Path) -> io::Result<()> {
        if super::outlet::standard(path).is_some() {
            return Err(io::Error::other(NOT_REGULAR));
        }
        self.file.attempt()
    }

    /// Writes a document without findings, unless there is one of this run.
    pub(super) fn begin(&mut self, registry: &Registry) -> io::Result<()> {
        if self.written.is_some() { Ok(()) } else { self.renew(registry) }
    }

    fn renew(&mut self, registry: &Registry) -> io::Result<()> {
        self.document = Document::new(self.format);
        self.write(registry)
    }

    pub(super) fn add(&mut self, entries: Vec<(Entry, BaselineState)>) {
        self.news.extend(entries);
    }

    /// Writes what was found since the last time.
    pub(super) fn save(&mut self, registry: &Registry) -> io::Result<()> {
        if self.news.is_empty() && !self.is_behind {
            return Ok(());
        }
        if self.was_moved() {
            self.document = Document::new(self.format);
        }
        for (entry, baseline_state) in mem::take(&mut self.news) {
            self.document.add(entry, baseline_state);
        }
        self.write(registry)
    }

    /// Begins a new one, if somebody has moved this one away.
    pub(super) fn reopen(&mut self, registry: &Registry) -> io::Result<()> {
        self.save(registry)?;
        if self.was_moved() { self.renew(registry) } else { Ok(()) }
    }

    fn was_moved(&self) -> bool {
        let is = fs::metadata(self.file.path()).ok().map(|is| (is.dev(), is.ino()));
        self.written.is_some() && is != self.written && !self.is_behind
    }

    fn write(&mut self, registry: &Registry) -> io::Result<()> {
        let mut written = None;
        let replaced = self.file.replace(|beside| {
            written = Some(self.write_to(beside, registry)?);
            Ok(())
        });
        self.is_behind = replaced.is_err();
        if replaced.is_ok() {
            self.written = written;
        }
        replaced
    }

    /// Device and inode of the file, which then takes the document's name.
    fn write_to(&self, beside: &Path, registry: &Registry) -> io::Result<(u64, u64)> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let mut file = File::open_with_in(registry, beside, options)?;
        file.write_all(self.document.to_text().as_bytes())?;
        drop(file);
        let is = fs::metadata(beside)?;
        Ok((is.dev(), is.ino()))
    }
}
