//! Lessons for a terminal: a story, a question, a program that runs for real, and its fix.
//!
//! A [`Lesson`] is data. This crate shows it ([`text`]); the program that embeds it runs the lesson's
//! programs and says what a run found ([`Run`]). Nothing here knows what the lessons are about.
#![warn(unreachable_pub)]

mod lesson;
mod listing;
mod markdown;
mod run;
pub mod text;

pub use lesson::{Choice, Lesson, Program, Question, Source, Test};
pub use run::{End, Finding, Run};
