//! The interface to the program that embeds the lessons.

use crate::{Lesson, Run};

/// One of the two programs of a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The program with the bug.
    Broken,
    /// The program without it.
    Fixed,
}

/// What the embedding program does for a lesson.
pub trait Host {
    /// Runs a program of the lesson, in a process of its own.
    ///
    /// # Errors
    /// The message for the reader: no process can be started, or it ended without a result.
    fn run(&self, lesson: &'static Lesson, variant: Variant) -> Result<Run, String>;
}
