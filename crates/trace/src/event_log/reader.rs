//! The reader of recorded events.

use std::fmt;
use std::io::{self, BufRead, Read};

use rustc_hash::FxHashMap;

use super::{FORMAT, Line, stack_of};
use crate::event::Event;
use crate::stack::{Frame, ModuleId, StackId, Stacks};

/// The longest line that is read, in bytes. The longest lines are lists of tens of thousands of open
/// descriptors.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why recorded events cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The input cannot be read.
    Io(io::Error),
    /// The first line is not that of recorded events.
    NotEvents,
    /// The events have another format: its version.
    Format(u32),
    /// A line is damaged: its number, counted from 1, and the error.
    Damaged(u64, serde_json::Error),
    /// A line refers to a module, script function or stack without a line: its number.
    Unknown(u64),
    /// A line has more than [`LINE_BYTES_MAX`] bytes: its number.
    LineTooLong(u64),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io(error) => write!(f, "failed to read events: {error}"),
            LogError::NotEvents => {
                f.write_str("failed to read events: the first line is not `{\"format\":1}`")
            }
            LogError::Format(version) => write!(
                f,
                "failed to read events: the format is {version}, and this program reads {FORMAT}"
            ),
            LogError::Damaged(line, error) => {
                // Its position is that in the line, which it takes for line 1.
                let text = error.to_string();
                let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
                write!(f, "failed to read events: line {line} is damaged: {what}")
            }
            LogError::Unknown(line) => write!(
                f,
                "failed to read events: line {line} refers to a stack, module or function that no \
                 line before it defines"
            ),
            LogError::LineTooLong(line) => {
                write!(f, "failed to read events: line {line} has more than {LINE_BYTES_MAX} bytes")
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io(error) => Some(error),
            LogError::Damaged(_, error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> LogError {
        LogError::Io(error)
    }
}

/// Reads events and their stacks.
#[derive(Debug)]
pub struct EventReader<R> {
    input: R,
    /// The number of the current line, counted from 1.
    number: u64,
    text: Vec<u8>,
    modules: FxHashMap<u32, ModuleId>,
    scripts: FxHashMap<u32, Frame>,
    stacks: FxHashMap<u32, StackId>,
}

impl<R: BufRead> EventReader<R> {
    /// Reads nothing yet.
    pub fn new(input: R) -> EventReader<R> {
        EventReader {
            input,
            number: 0,
            text: Vec::new(),
            modules: FxHashMap::default(),
            scripts: FxHashMap::default(),
            stacks: FxHashMap::default(),
        }
    }

    /// The next event; `None` at the end. A last line without its end is ignored: its writer did not
    /// finish it. Stacks are added to `stacks`, which is the same for all events.
    ///
    /// # Errors
    ///
    /// The input cannot be read, or is no list of events; see [`LogError`].
    pub fn next_event(&mut self, stacks: &mut Stacks) -> Result<Option<Event>, LogError> {
        while let Some(line) = self.line()? {
            match line {
                Line::Format(_) => {}
                Line::Module(id, module) => {
                    self.modules.insert(id, stacks.module(module));
                }
                Line::Script(id, script) => {
                    self.scripts.insert(id, stacks.script(script));
                }
                Line::Stack(id, mut frames) => {
                    for frame in &mut frames {
                        *frame = self.known_frame(*frame)?;
                    }
                    self.stacks.insert(id, stacks.intern(&frames));
                }
                Line::Event(mut event) => {
                    if let Some(id) = stack_of(&mut event.what)
                        && *id != StackId::NONE
                    {
                        let known = self.stacks.get(&id.0);
                        *id = *known.ok_or(LogError::Unknown(self.number))?;
                    }
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }

    /// The frame with the numbers of the reader's stacks.
    fn known_frame(&self, frame: Frame) -> Result<Frame, LogError> {
        let known = match frame {
            Frame::File { module, offset, is_guessed } => {
                let module = self.modules.get(&module.0).copied();
                module.map(|module| Frame::File { module, offset, is_guessed })
            }
            Frame::Script(script) => self.scripts.get(&script).copied(),
            Frame::Generated { .. } => Some(frame),
        };
        known.ok_or(LogError::Unknown(self.number))
    }

    fn line(&mut self) -> Result<Option<Line>, LogError> {
        self.text.clear();
        let mut limited = (&mut self.input).take(LINE_BYTES_MAX + 1);
        limited.read_until(b'\n', &mut self.text)?;
        self.number += 1;
        if self.text.len() as u64 > LINE_BYTES_MAX {
            return Err(LogError::LineTooLong(self.number));
        }
        if self.text.last() != Some(&b'\n') {
            let is_empty = self.number == 1;
            return if is_empty { Err(LogError::NotEvents) } else { Ok(None) };
        }
        let line = serde_json::from_slice(&self.text);
        match (self.number, line) {
            (1, Ok(Line::Format(FORMAT))) => Ok(Some(Line::Format(FORMAT))),
            (1, Ok(Line::Format(other))) => Err(LogError::Format(other)),
            (1, _) => Err(LogError::NotEvents),
            (_, Ok(line)) => Ok(Some(line)),
            (number, Err(error)) => Err(LogError::Damaged(number, error)),
        }
    }
}
