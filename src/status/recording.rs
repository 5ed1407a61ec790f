//! A recording as a source: the lines of a file, as they are.
//!
//! Each viewer opens the file, so a recording that is still being written is shown as far as it goes.

use std::fs::OpenOptions;
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::source::{Lines, Next, Source};
use crate::events::reader::{ReadError, Reader};
use crate::events::{Kind, Line};
use crate::net::File;

/// Lines that are read at once, which become one message.
const BATCH: usize = 256;

impl Source {
    /// The recording in a file.
    pub(crate) fn recording(path: &Path) -> Source {
        let path = path.to_owned();
        let begin = move || {
            let lines = Recording::open(&path).map_err(io::Error::other)?;
            Ok(Box::new(lines) as Box<dyn Lines>)
        };
        Source { snapshot: None, health: None, metrics: None, begin: Box::new(begin) }
    }
}

/// The lines of a recording. The current task owns the file.
pub(crate) struct Recording {
    reader: Reader<BufReader<File>>,
    /// The first line, which was read to see what this is.
    header: Option<String>,
    /// The latest time so far.
    time_ns: u64,
    is_over: bool,
    /// Why it ended early, unless its last line is only cut off.
    damage: Option<String>,
}

impl Recording {
    /// Why the lines ended before the recording did.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Opens a recording and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, or is no recording.
    #[track_caller]
    pub(crate) fn open(path: &PathBuf) -> Result<Recording, ReadError> {
        // Opening a FIFO would wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("a recording is a regular file").into());
        }
        let file = File::own(file).map_err(io::Error::from)?;
        let mut reader = Reader::new(BufReader::new(file));
        let time_ns = reader.next_line()?.map_or(0, |line| line.time_ns);
        let header = Some(text(&reader));
        Ok(Recording { reader, header, time_ns, is_over: false, damage: None })
    }

    /// The line that ends a stream without one of its own.
    fn end_because(&self, reason: String) -> String {
        let mut end = Line::new(Kind::End, self.time_ns);
        end.reason = Some(reason.into());
        end.to_json()
    }
}

impl Lines for Recording {
    fn next(&mut self, lines: &mut Vec<String>) -> Next {
        lines.extend(self.header.take());
        for _ in 0..BATCH {
            if self.is_over {
                return Next::Ended;
            }
            match self.reader.next_line() {
                Ok(Some(line)) => {
                    self.time_ns = self.time_ns.max(line.time_ns);
                    self.is_over = line.event == Kind::End;
                    lines.push(text(&self.reader));
                }
                Ok(None) => {
                    self.is_over = true;
                    lines.push(self.end_because("cut off".into()));
                }
                Err(error) => {
                    self.is_over = true;
                    lines.push(self.end_because(error.to_string()));
                    self.damage = Some(error.to_string());
                }
            }
        }
        Next::More
    }

    fn end(&self) -> String {
        self.end_because("the viewer was closed".into())
    }
}

/// The line that was read last, as it is in the file. A carriage return, which JSON permits between two
/// fields, would end a line of an event stream.
fn text(reader: &Reader<BufReader<File>>) -> String {
    String::from_utf8_lossy(reader.text()).trim_end().replace('\r', " ")
}
