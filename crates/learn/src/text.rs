//! The parts of a lesson as plain text, at most 80 columns wide.

use std::fmt::Write;

use crate::listing::{Line, changed_lines, lines};
use crate::markdown::{inline, to_plain};
use crate::{End, Lesson, Question, Run};

/// The width of all texts but reports, in columns.
pub const COLUMNS: usize = 80;

/// The letters of the choices.
pub const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];

/// The headline of a lesson.
#[must_use]
pub fn headline(number: usize, lesson: &Lesson) -> String {
    let headline = format!("Lesson {number}: {}", lesson.title);
    format!("{headline}\n{}\n", "=".repeat(headline.chars().count()))
}

/// The story, and the reports it is taken from.
#[must_use]
pub fn story(lesson: &Lesson) -> String {
    let mut text = to_plain(lesson.story, COLUMNS);
    for source in lesson.sources {
        let _ = write!(text, "\nSource: {}\n  {}\n", source.title, source.url);
    }
    text
}

/// The program with the bug.
#[must_use]
pub fn program(lesson: &Lesson) -> String {
    listing(&lines(lesson.broken.text))
}

/// The fixed program; a `+` marks its new lines.
#[must_use]
pub fn fix(lesson: &Lesson) -> String {
    listing(&changed_lines(lesson.broken.text, lesson.fixed.text))
}

fn listing(lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    for Line { number, is_changed, text: line } in lines {
        let mark = if *is_changed { '+' } else { '|' };
        let _ = writeln!(text, "{}", format!("{number:>2} {mark} {line}").trim_end());
    }
    text
}

/// The question with its choices.
#[must_use]
pub fn question(question: &Question) -> String {
    let mut text = to_plain(question.text, COLUMNS);
    text.push('\n');
    for (letter, choice) in LETTERS.iter().zip(&question.choices) {
        text += &hanging(&format!("  {letter}) "), choice.text);
    }
    text
}

/// The explanation of one choice.
#[must_use]
pub fn explanation(question: &Question, index: usize) -> String {
    let verdict = if index == question.right { "right" } else { "wrong" };
    hanging(&format!("  {}) {verdict}: ", LETTERS[index]), question.choices[index].explanation)
}

fn hanging(label: &str, text: &str) -> String {
    let options = textwrap::Options::new(COLUMNS)
        .initial_indent(label)
        .subsequent_indent("     ")
        .break_words(false);
    textwrap::fill(&inline(text), options) + "\n"
}

/// What a run showed.
#[must_use]
pub fn run(run: &Run) -> String {
    let mut text = String::new();
    for finding in &run.findings {
        let _ = writeln!(text, "{}\n", finding.text);
    }
    if let Some(state) = &run.state {
        let _ = writeln!(text, "{state}\n");
    }
    let end = match &run.end {
        End::Returned => String::from("The program returned."),
        End::Failed(error) => format!("The program returned an error: {error}"),
        End::Panicked(message) => format!("The program panicked: {message}"),
        End::Hung(seconds) => format!("The program still ran after {seconds} s and was killed."),
    };
    let end = textwrap::fill(&end, textwrap::Options::new(COLUMNS).break_words(false));
    let _ = writeln!(text, "{end}");
    text
}

/// Why the compiler accepts the bug.
#[must_use]
pub fn why(lesson: &Lesson) -> String {
    to_plain(lesson.why, COLUMNS)
}
