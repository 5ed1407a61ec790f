//! Lessons for a terminal: a story, a question, a program that runs for real, and its fix.
//!
//! A [`Lesson`] is data. A [`Session`] shows lessons to a reader in a terminal, asks the questions and
//! keeps the [`Progress`]. [`text`] has the parts as plain text, [`page`] as Markdown, and a
//! [`Project`] is a folder of exercises. The embedding program runs the lessons' programs and says what
//! a run found ([`Host`]). Nothing here knows what the lessons are about.
#![warn(unreachable_pub)]

mod host;
mod lesson;
mod listing;
mod markdown;
pub mod page;
mod progress;
mod project;
mod report;
mod run;
mod session;
mod style;
pub mod text;
mod wrap;

pub use host::{Host, Variant};
pub use lesson::{Choice, Lesson, Program, Question, Source, Test};
pub use progress::{LessonProgress, Progress, ProgressFile, State};
pub use project::Project;
pub use run::{End, Finding, Run};
pub use session::Session;
