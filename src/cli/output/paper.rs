//! A document on its way to its file.
//!
//! It is written to a file beside it, which then takes its name: whoever reads it, at whatever moment,
//! and also when this process is killed, reads a whole document. There is one from the start, without
//! findings.
//!
//! Whoever rotates files moves the document away. From then on it is complete and no longer ours: what
//! is found later goes into a new one, which is begun at the next finding or at SIGHUP, whichever is
//! first. Nothing is in both.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::reports::Reporting;
use crate::net::File;
use crate::ownership::Registry;
use crate::report::{Document, Entry, Format, Novelty};

/// What was found, and what of it is in the file.
pub(super) struct Paper {
    format: Format,
    path: PathBuf,
    document: Document,
    /// Found since it was written.
    news: Vec<(Entry, Novelty)>,
    /// Device and inode of what was written; none is there yet.
    written: Option<(u64, u64)>,
    /// It could not be written: the file is of an earlier state.
    is_behind: bool,
}

impl Paper {
    /// For a format that is a document.
    pub(super) fn of(reporting: &Reporting) -> Option<Paper> {
        let format = reporting.format();
        let path = reporting.path()?.to_owned();
        format.is_document().then(|| Paper {
            format,
            path,
            document: Document::new(format),
            news: Vec::new(),
            written: None,
            is_behind: false,
        })
    }

    /// Writes a document without findings.
    pub(super) fn begin(&mut self, registry: &Registry) -> io::Result<()> {
        // A link to a file stays one.
        if let Ok(path) = fs::canonicalize(&self.path) {
            self.path = path;
        }
        self.document = Document::new(self.format);
        self.write(registry)
    }

    pub(super) fn add(&mut self, entries: Vec<(Entry, Novelty)>) {
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
        for (entry, novelty) in mem::take(&mut self.news) {
            self.document.add(entry, novelty);
        }
        self.write(registry)
    }

    /// Begins a new one, if somebody has moved this one away.
    pub(super) fn reopen(&mut self, registry: &Registry) -> io::Result<()> {
        self.save(registry)?;
        if self.was_moved() { self.begin(registry) } else { Ok(()) }
    }

    fn was_moved(&self) -> bool {
        let is = fs::metadata(&self.path).ok().map(|is| (is.dev(), is.ino()));
        is != self.written && !self.is_behind
    }

    fn write(&mut self, registry: &Registry) -> io::Result<()> {
        let beside = beside(&self.path);
        let written = self.replace_by(&beside, registry);
        self.is_behind = written.is_err();
        match written {
            Ok(identity) => self.written = Some(identity),
            Err(_) => drop(fs::remove_file(&beside)),
        }
        written.map(drop)
    }

    fn replace_by(&self, beside: &Path, registry: &Registry) -> io::Result<(u64, u64)> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let mut file = File::open_with_in(registry, beside, options)?;
        file.write_all(self.document.to_text().as_bytes())?;
        drop(file);
        let is = fs::metadata(beside)?;
        fs::rename(beside, &self.path)?;
        Ok((is.dev(), is.ino()))
    }
}

/// In the same folder, so that it can take the other's place; of this process alone.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    PathBuf::from(name)
}
