//! The option `--record` of `echown run`: the descriptors of the traced program as a recording
//! (`docs/events.md`), which `echown view` shows.
//!
//! ```text
//! tracer ── event ──> encoder ── lines ──> FILE ── at the end: places, names, findings ──> FILE
//! ```
//!
//! Names of functions and lines of the source cost milliseconds for each program, and the traced program
//! would wait. So a line has a place such as `nginx+0x4a1b0` at first. When everything has ended, the file
//! is written again: places by their source, stacks, the last name of each thread, what a socket was
//! connected to, and the findings. A recording whose writer was killed lacks these, and is complete
//! otherwise.

mod encoder;
mod finish;
mod places;
mod tables;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use bytesize::ByteSize;
use echown_fd::escape;
use echown_trace::event::{Event, What};
use echown_trace::stack::{StackId, Stacks};
use tracing::Level;

use crate::cli::record;
use crate::cli::run::noted::Noted;
use crate::cli::stderr_line::{Line as Message, stderr_line};
use crate::events::{Kind, Line, SCHEMA_VERSION};
use crate::net::File;
use encoder::Encoder;
use places::Places;

/// Kept free for the last line.
const END_BYTES: usize = 256;

/// A recording that is being written.
pub(super) struct Recorder {
    /// `None` after a write has failed.
    file: Option<BufWriter<File>>,
    path: PathBuf,
    limit: usize,
    bytes: usize,
    /// The limit was reached, and the recording has ended.
    is_full: bool,
    program: String,
    encoder: Encoder,
    places: Places,
    /// The time of the last event.
    last_ns: u64,
    /// The stack of each line.
    stacks: Vec<StackId>,
    /// What is known of sockets that were open at the end of their process.
    ends: finish::Ends,
}

impl Recorder {
    /// Creates the file. `program` is what the header says about the program.
    ///
    /// # Errors
    /// The file cannot be written. The error is a message for people.
    pub(super) fn create(path: &Path, limit: usize, program: String) -> Result<Recorder, String> {
        let file = record::create(path)
            .map_err(|error| format!("failed to record to {}: {error}", escape::path(path)))?;
        Ok(Recorder {
            file: Some(BufWriter::with_capacity(1 << 16, file)),
            path: path.to_owned(),
            limit: limit.max(4 * END_BYTES),
            bytes: 0,
            is_full: false,
            program,
            encoder: Encoder::default(),
            places: Places::default(),
            last_ns: 0,
            stacks: Vec::new(),
            ends: finish::Ends::default(),
        })
    }

    /// Adds an event of the tracer.
    pub(super) fn event(&mut self, event: &Event, stacks: &Stacks) {
        if self.file.is_none() || self.is_full {
            return;
        }
        self.last_ns = event.time_ns;
        if let What::Started { .. } = event.what {
            let header = self.header(event);
            self.write(&header, StackId::NONE);
        }
        if let What::Ending { open: Some(open), .. } = &event.what {
            self.ends.add(&self.encoder, event.task, open);
        }
        for (mut line, stack) in self.encoder.encode(event) {
            line.site = self.places.raw(stacks, stack);
            self.write(&line, stack);
        }
    }

    /// The first line. The time of the tracer's clock is 0 at its start.
    fn header(&self, event: &Event) -> Line {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or_default();
        Line {
            process: u32::try_from(event.task.0).ok(),
            schema_version: Some(SCHEMA_VERSION),
            time_unix_ms: Some(now_ms),
            program: Some(self.program.clone()),
            source: Some("tracer".into()),
            ..Line::new(Kind::Recording, event.time_ns)
        }
    }

    /// Writes what is buffered, for viewers.
    pub(super) fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.fail(&error);
        }
    }

    fn write(&mut self, line: &Line, stack: StackId) {
        let Some(file) = &mut self.file else { return };
        let json = line.to_json() + "\n";
        if self.bytes + json.len() + END_BYTES > self.limit {
            self.is_full = true;
            let text = format_args!(
                "the recording {} has reached --record-limit {} and has ended",
                escape::path(&self.path),
                ByteSize(self.limit as u64)
            );
            stderr_line(Message::error(text).level(Level::WARN));
            return;
        }
        self.bytes += json.len();
        self.stacks.push(stack);
        if let Err(error) = file.write_all(json.as_bytes()) {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.file = None;
        let text = format_args!("the recording {} has ended: {error}", escape::path(&self.path));
        stderr_line(Message::error(text).level(Level::WARN));
    }

    /// Writes the recording again with places of the source and with the findings. `resolve` finds the
    /// frames of a stack.
    pub(super) fn finish(
        mut self,
        findings: Vec<Noted>,
        resolve: &mut dyn FnMut(StackId) -> Vec<echown_report::StackFrame>,
        started: Instant,
    ) {
        let end = Line {
            reason: Some(if self.is_full { "limit" } else { "finished" }.into()),
            lost: Some(0),
            ..Line::new(Kind::End, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
        };
        self.flush();
        // A failed write has ended it, with a message.
        let Some(file) = self.file.take() else { return };
        drop(file);
        if let Err(error) = self.rewrite(findings, resolve, &end) {
            self.fail(&error);
        }
    }
}
