//! A list of recorded events as JSON lines: the input of a replay, for tests and bug reports.
//!
//! The first line is `{"format":1}`. Modules, script functions and stacks have a line before the first
//! event that uses them; each has a number that later lines refer to. The list can end anywhere: it is
//! complete up to its last whole line.
//!
//! A replay of the list through a model has the findings of the live program.
//!
//! # Examples
//!
//! ```
//! use echown_trace::event::{Event, Tid, What};
//! use echown_trace::event_log::{EventReader, EventWriter};
//! use echown_trace::stack::Stacks;
//!
//! let event = Event { time_ns: 5, task: Tid(7), what: What::Ended };
//! let mut writer = EventWriter::new(Vec::new()).unwrap();
//! writer.write(&event, &Stacks::new()).unwrap();
//! let lines = writer.into_inner();
//!
//! let mut stacks = Stacks::new();
//! let mut reader = EventReader::new(&lines[..]);
//! assert_eq!(reader.next_event(&mut stacks).unwrap(), Some(event));
//! assert_eq!(reader.next_event(&mut stacks).unwrap(), None);
//! ```

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{EventReader, LINE_BYTES_MAX, LogError};
pub use writer::EventWriter;

use crate::event::{Event, What};
use crate::stack::{Frame, Module, ScriptFrame, StackId};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// One line. Numbers of modules, scripts and stacks are those of the writer.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Format(u32),
    Module(u32, Module),
    Script(u32, ScriptFrame),
    Stack(u32, Vec<Frame>),
    Event(Event),
}

/// The stack of an event.
fn stack_of(what: &mut What) -> Option<&mut StackId> {
    match what {
        What::Opened(opened) => Some(&mut opened.stack),
        What::Closed { stack, .. }
        | What::ClosedRange { stack, .. }
        | What::UsedClosed { stack, .. } => Some(stack),
        What::Started { .. }
        | What::Created { .. }
        | What::Executed { .. }
        | What::Named { .. }
        | What::Freed { .. }
        | What::CloexecSet { .. }
        | What::FilesUnshared
        | What::Used { .. }
        | What::Ending { .. }
        | What::Ended
        | What::CoverageReduced(_) => None,
    }
}
