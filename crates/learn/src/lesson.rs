//! `Lesson`: the texts and programs of one lesson.

use std::error::Error;

/// One lesson. Texts are in the subset of Markdown that [`text`](crate::text) knows.
#[derive(Debug)]
pub struct Lesson {
    /// The name that the user types, such as `reused-number`.
    pub name: &'static str,
    /// The title in words.
    pub title: &'static str,
    /// The public reports that the story is taken from.
    pub sources: &'static [Source],
    /// The story of the bug, and what to look at.
    pub story: &'static str,
    /// The guess before the run.
    pub question: Question,
    /// The program with the bug.
    pub broken: Program,
    /// The program without it.
    pub fixed: Program,
    /// The codes that the run of the broken program finds, in order.
    pub finds: &'static [&'static str],
    /// The test that judges the exercise.
    pub test: Test,
    /// The output of that test where it shows more than a run: recorded, not made while learning.
    pub recorded: Option<&'static str>,
    /// Why the compiler accepts the bug, and how the fix differs.
    pub why: &'static str,
}

/// A public report.
#[derive(Debug)]
pub struct Source {
    /// The name of the report, such as `rust-lang/book#3545`.
    pub title: &'static str,
    /// The address.
    pub url: &'static str,
}

/// A question with four choices, one of which is right.
#[derive(Debug)]
pub struct Question {
    /// The question.
    pub text: &'static str,
    /// The choices `a` to `d`.
    pub choices: [Choice; 4],
    /// The index of the right one.
    pub right: usize,
}

/// A choice and its explanation.
#[derive(Debug)]
pub struct Choice {
    /// The choice.
    pub text: &'static str,
    /// Why it is right or wrong.
    pub explanation: &'static str,
}

/// A program that is compiled into this one.
#[derive(Debug)]
pub struct Program {
    /// Its source.
    pub text: &'static str,
    /// Its function `run`.
    pub run: fn() -> Result<(), Box<dyn Error>>,
}

/// The test of an exercise.
#[derive(Debug)]
pub struct Test {
    /// The name of the function.
    pub name: &'static str,
    /// The options of its attribute, such as `timeout_ms = 2000`.
    pub options: &'static str,
    /// The codes that it reports for the broken program.
    pub finds: &'static [&'static str],
}
