//! Reads a recording: JSON lines, of which the last one may be cut off.
//!
//! A recording that is still being written, or whose writer was killed, ends in the middle of a line.
//! What comes before is complete and is read.

use std::fmt;
use std::io::{self, BufRead, Read};

use crate::line::{Kind, Line, SCHEMA_VERSION};

/// Why a recording cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// A system call failed.
    Io(io::Error),
    /// The first line is not that of a recording.
    NotARecording,
    /// The recording has a newer schema.
    Version(u32),
    /// A line before the last one is damaged: its number, counted from 1, and the error.
    Damaged(u64, serde_json::Error),
    /// A line has more than [`LINE_BYTES_MAX`] bytes: its number.
    LineTooLong(u64),
}

/// The longest line that is read, in bytes. The longest lines are reports of leaks of thousands of
/// descriptors.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => error.fmt(f),
            ReadError::NotARecording => f.write_str(
                "it is not a recording: its first line is not `{\"event\":\"recording\",...}`",
            ),
            ReadError::Version(version) => write!(
                f,
                "it has schema version {version}, and this program reads up to {SCHEMA_VERSION}"
            ),
            ReadError::Damaged(number, error) => {
                // Its position is that in the line, which it takes for line 1.
                let text = error.to_string();
                let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
                write!(f, "line {number} is damaged: {what}")
            }
            ReadError::LineTooLong(number) => {
                write!(f, "line {number} has more than {LINE_BYTES_MAX} bytes")
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(error) => Some(error),
            ReadError::Damaged(_, error) => Some(error),
            ReadError::NotARecording | ReadError::Version(_) | ReadError::LineTooLong(_) => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

/// Reads the lines of a recording one by one. The first is its header.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, number: 0, text: Vec::new() }
    }

    /// The next line, or `None` at the end. A damaged last line that has no line end is the end.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        self.text.clear();
        let mut line = (&mut self.input).take(LINE_BYTES_MAX + 1);
        if line.read_until(b'\n', &mut self.text)? == 0 {
            return if self.number == 0 { Err(ReadError::NotARecording) } else { Ok(None) };
        }
        self.number += 1;
        if self.text.len() as u64 > LINE_BYTES_MAX {
            return Err(ReadError::LineTooLong(self.number));
        }
        let line = match serde_json::from_slice::<Line>(&self.text) {
            Ok(line) => line,
            Err(_) if self.number == 1 => return Err(ReadError::NotARecording),
            Err(_) if !self.text.ends_with(b"\n") => return Ok(None),
            Err(error) => return Err(ReadError::Damaged(self.number, error)),
        };
        if self.number == 1 {
            match (line.event, line.schema_version) {
                (Kind::Recording, Some(version)) if version > SCHEMA_VERSION => {
                    return Err(ReadError::Version(version));
                }
                (Kind::Recording, Some(_)) => {}
                _ => return Err(ReadError::NotARecording),
            }
        }
        Ok(Some(line))
    }

    /// The line that [`next_line`](Reader::next_line) read last, as it is in the recording.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// All lines.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_all(mut self) -> Result<Vec<Line>, ReadError> {
        let mut lines = Vec::new();
        while let Some(line) = self.next_line()? {
            lines.push(line);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"event":"recording","schema_version":1,"time_ns":0}"#;

    fn read(text: &str) -> Result<Vec<Line>, ReadError> {
        Reader::new(text.as_bytes()).read_all()
    }

    #[test]
    fn a_cut_off_last_line_is_the_end() {
        let whole = r#"{"event":"acquired","time_ns":5,"resource":1,"kind":"file"}"#;
        for cut in 1..whole.len() {
            let lines = read(&format!("{HEADER}\n{whole}\n{}", &whole[..cut])).unwrap();
            assert_eq!(lines.len(), 2, "cut after {cut} bytes");
        }
        assert_eq!(read(&format!("{HEADER}\n{whole}")).unwrap().len(), 2);
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error_with_its_number() {
        let error = read(&format!("{HEADER}\n{{\"event\":\n{HEADER}\n")).unwrap_err();
        assert!(error.to_string().starts_with("line 2 is damaged: "), "{error}");
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let header = format!("{HEADER}\n");
        let endless = header.as_bytes().chain(io::repeat(b' '));
        let error = Reader::new(io::BufReader::new(endless)).read_all().unwrap_err();
        assert_eq!(error.to_string(), "line 2 has more than 16777216 bytes");
    }

    #[test]
    fn what_is_no_recording_is_rejected() {
        for text in ["", "not JSON\n", "{}\n", "{\"event\":\"acquired\",\"time_ns\":1}\n"] {
            assert!(matches!(read(text), Err(ReadError::NotARecording)), "{text:?}");
        }
        let newer = r#"{"event":"recording","schema_version":2}"#;
        assert!(matches!(read(newer), Err(ReadError::Version(2))));
    }

    #[test]
    fn unknown_events_and_fields_are_accepted() {
        let text =
            format!("{HEADER}\n{{\"event\":\"painted\",\"colour\":\"red\",\"time_ns\":7}}\n");
        let lines = read(&text).unwrap();
        assert_eq!((lines[1].event, lines[1].time_ns), (Kind::Unknown, 7));
        let mut reader = Reader::new(text.as_bytes());
        while reader.next_line().unwrap().is_some_and(|line| line.event != Kind::Unknown) {}
        let kept = "{\"event\":\"painted\",\"colour\":\"red\",\"time_ns\":7}\n";
        assert_eq!(reader.text(), kept.as_bytes(), "the text has what the line lacks");
    }

    #[test]
    fn a_line_survives_being_written_and_read() {
        let mut line = Line::new(Kind::Acquired, 12);
        line.kind = Some("tcp stream".into());
        line.number = Some(9);
        line.peer = Some("\"<b>\"\n".to_owned());
        let text = line.to_json();
        assert!(
            text.starts_with(r#"{"event":"acquired","time_ns":12,"kind":"tcp stream","#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
