//! The parts of a lesson as plain text, at most 80 columns wide.

use std::fmt::Write;

use crate::listing::{Line, changed_lines, lines};
use crate::markdown::{inline, to_plain};
use crate::progress::{Progress, State};
use crate::report;
use crate::wrap::wrapping;
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

/// The fixed program; `+` and `-` mark new and removed lines.
#[must_use]
pub fn fix(lesson: &Lesson) -> String {
    listing(&changed_lines(lesson.broken.text, lesson.fixed.text))
}

fn listing(lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    for Line { number, mark, text: line } in lines {
        let number = number.map(|number| number.to_string()).unwrap_or_default();
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
    let options = wrapping(COLUMNS).initial_indent(label).subsequent_indent("     ");
    textwrap::fill(&inline(text), options) + "\n"
}

/// What a run showed.
#[must_use]
pub fn run(run: &Run) -> String {
    let mut text = String::new();
    for finding in &run.findings {
        let _ = writeln!(text, "{}\n", report::wrapped(&finding.text, COLUMNS));
    }
    text += &paragraph(&end(run));
    if let Some(state) = &run.state {
        let _ = write!(text, "\n{}\n", report::wrapped(state, COLUMNS));
    }
    if let Some(timeline) = &run.timeline {
        let _ = write!(text, "\n{timeline}");
    }
    text
}

/// How a run ended, in a sentence.
pub(crate) fn end(run: &Run) -> String {
    match &run.end {
        End::Returned if run.findings.is_empty() => {
            String::from("The program returned. Nothing was reported.")
        }
        End::Returned => String::from("The program returned."),
        End::Failed(error) => format!("The program returned an error: {error}"),
        End::Panicked(message) => format!("The program panicked: {message}"),
        End::Hung(seconds) => {
            format!("The program still ran after {seconds} s and was killed. At that moment:")
        }
    }
}

/// The recorded output of the lesson's test, if there is one.
#[must_use]
pub fn recorded(lesson: &Lesson) -> Option<String> {
    let recorded = lesson.recorded?;
    let about = "The test of this lesson's exercise records system calls and shows more. Recorded \
                 on x86-64 Linux, with symbols:";
    Some(format!("{}\n{}\n", paragraph(about), report::wrapped(recorded, COLUMNS)))
}

/// A paragraph, wrapped.
#[must_use]
pub fn paragraph(text: &str) -> String {
    textwrap::fill(text, wrapping(COLUMNS)) + "\n"
}

/// The list of all lessons.
#[must_use]
pub fn list(lessons: &[Lesson], progress: &Progress) -> String {
    let width = lessons.iter().map(|lesson| lesson.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (number, lesson) in (1..).zip(lessons) {
        let known = progress.of(lesson.name);
        let mark = match known.map(|it| (it.state, it.first_guess_right)) {
            Some((State::Done, Some(true))) => "done, first guess right",
            Some((State::Done, _)) => "done",
            Some((State::Skipped, _)) => "skipped",
            Some((State::Begun, _)) => "begun",
            None => "",
        };
        let line = format!("{number:>2}  {:width$}  {:38}  {mark}", lesson.name, lesson.title);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Whether a lesson was read to its end.
#[must_use]
pub fn is_done(progress: &Progress, lesson: &Lesson) -> bool {
    progress.of(lesson.name).is_some_and(|it| it.state == State::Done)
}

/// The index of the first lesson that is not done; those that were skipped come last.
#[must_use]
pub fn next(lessons: &[Lesson], progress: &Progress) -> Option<usize> {
    let is_open = |lesson: &Lesson| !is_done(progress, lesson);
    let is_skipped =
        |lesson: &Lesson| progress.of(lesson.name).is_some_and(|it| it.state == State::Skipped);
    let first = lessons.iter().position(|lesson| is_open(lesson) && !is_skipped(lesson));
    first.or_else(|| lessons.iter().position(is_open))
}

/// What to do when all lessons are done.
#[must_use]
pub fn all_done() -> String {
    paragraph(
        "All lessons are done. Next: `echown learn init DIR` writes a project with an exercise for \
         each of them, a test that fails until you have fixed the program. `echown learn LESSON` \
         shows a lesson again, `echown learn --reset` forgets the progress.",
    )
}

/// All of a lesson, for a reader who is not asked: an output that is no terminal.
#[must_use]
pub fn whole(number: usize, lesson: &Lesson, broken: &Run, fixed: &Run) -> String {
    let explanations: String =
        (0..LETTERS.len()).map(|index| explanation(&lesson.question, index)).collect();
    let mut parts = vec![
        headline(number, lesson),
        story(lesson),
        title("The program"),
        program(lesson),
        title("The question"),
        question(&lesson.question),
        explanations,
        title("The run"),
        run(broken),
    ];
    parts.extend(recorded(lesson));
    parts.extend([
        title("The fixed program"),
        fix(lesson),
        title("The run of the fixed program"),
        run(fixed),
        title("Why"),
        why(lesson),
    ]);
    parts.join("\n")
}

fn title(title: &str) -> String {
    format!("{title}\n{}\n", "-".repeat(title.chars().count()))
}

/// Why the compiler accepts the bug.
#[must_use]
pub fn why(lesson: &Lesson) -> String {
    to_plain(lesson.why, COLUMNS)
}
