//! The writer of recorded events.

use std::io::{self, Write};

use rustc_hash::FxHashSet;

use super::{FORMAT, Line, stack_of};
use crate::event::Event;
use crate::stack::{Frame, StackId, Stacks};

/// Writes events, and before each the stack that it needs.
#[derive(Debug)]
pub struct EventWriter<W> {
    output: W,
    modules: FxHashSet<u32>,
    scripts: FxHashSet<u32>,
    stacks: FxHashSet<u32>,
}

impl<W: Write> EventWriter<W> {
    /// Writes the first line.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub fn new(output: W) -> io::Result<EventWriter<W>> {
        let mut writer = EventWriter {
            output,
            modules: FxHashSet::default(),
            scripts: FxHashSet::default(),
            stacks: FxHashSet::default(),
        };
        writer.line(&Line::Format(FORMAT))?;
        Ok(writer)
    }

    /// Writes an event. All events of one list have the same stacks.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub fn write(&mut self, event: &Event, stacks: &Stacks) -> io::Result<()> {
        let mut event = event.clone();
        if let Some(id) = stack_of(&mut event.what).copied() {
            self.stack(id, stacks)?;
        }
        self.line(&Line::Event(event))
    }

    /// The output. What a buffer holds is not yet written.
    pub fn into_inner(self) -> W {
        self.output
    }

    fn stack(&mut self, id: StackId, stacks: &Stacks) -> io::Result<()> {
        if id == StackId::NONE || !self.stacks.insert(id.0) {
            return Ok(());
        }
        let frames = stacks.frames(id);
        for frame in frames {
            match frame {
                Frame::File { module, .. } if self.modules.insert(module.0) => {
                    if let Some(content) = stacks.module_of(*module) {
                        self.line(&Line::Module(module.0, content.clone()))?;
                    }
                }
                Frame::Script(script) if self.scripts.insert(*script) => {
                    if let Some(content) = stacks.script_of(*script) {
                        self.line(&Line::Script(*script, content.clone()))?;
                    }
                }
                Frame::File { .. } | Frame::Script(_) | Frame::Generated { .. } => {}
            }
        }
        self.line(&Line::Stack(id.0, frames.to_vec()))
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.output.write_all(&text)
    }
}
