//! Lessons as pages of Markdown: the same parts as in a terminal, with real runs.

use std::fmt::Write;

use similar::TextDiff;

use crate::text::{LETTERS, end};
use crate::{Lesson, Run, Variant};

/// The name of a lesson's page.
#[must_use]
pub fn file_name(number: usize, lesson: &Lesson) -> String {
    format!("{number:02}-{}.md", lesson.name)
}

/// The name of a run's picture.
#[must_use]
pub fn picture_name(number: usize, lesson: &Lesson, variant: Variant) -> String {
    let which = match variant {
        Variant::Broken => "broken",
        Variant::Fixed => "fixed",
    };
    format!("{number:02}-{}-{which}.svg", lesson.name)
}

/// The page of a lesson. `index` is its index in `lessons`.
#[must_use]
pub fn page(lessons: &[Lesson], index: usize, broken: &Run, fixed: &Run) -> String {
    let lesson = &lessons[index];
    let mut page = format!("# {}. {}\n\n{}\n", index + 1, lesson.title, lesson.story.trim_end());
    let sources = lesson.sources.iter().map(|it| format!("[{}]({})", it.title, it.url));
    let sources: Vec<String> = sources.collect();
    let _ = match sources.len() {
        0 => Ok(()),
        1 => write!(page, "\nSource: {}\n", sources[0]),
        _ => write!(page, "\nSources: {}\n", sources.join(", ")),
    };
    let _ = write!(page, "\n## The program: `broken.rs`\n\n```rust\n{}```\n", lesson.broken.text);
    page += &question(lesson);
    let _ = write!(
        page,
        "\n## The run\n\n{}",
        run(broken, &picture_name(index + 1, lesson, Variant::Broken))
    );
    if let Some(recorded) = lesson.recorded {
        let about = "The test of this lesson's exercise records system calls and shows more \
                     (recorded on x86-64 Linux, with symbols):";
        let _ = write!(page, "\n{about}\n\n```text\n{}\n```\n", recorded.trim_end());
    }
    let _ = write!(page, "\n## The fix: `fixed.rs`\n\n```diff\n{}```\n", diff(lesson));
    let _ = write!(
        page,
        "\nThe run of the fixed program:\n\n{}",
        run(fixed, &picture_name(index + 1, lesson, Variant::Fixed))
    );
    let _ = write!(page, "\n## Why\n\n{}\n", lesson.why.trim_end());
    let _ = write!(page, "\n---\n\n{}\n", links(lessons, index));
    page
}

/// The page that lists the lessons.
#[must_use]
pub fn contents(lessons: &[Lesson], introduction: &str) -> String {
    let mut page = format!("{introduction}\n| | lesson | the bug |\n|---|---|---|\n");
    for (number, lesson) in (1..).zip(lessons) {
        let file = file_name(number, lesson);
        let _ = writeln!(page, "| {number} | [`{}`]({file}) | {} |", lesson.name, lesson.title);
    }
    page
}

fn question(lesson: &Lesson) -> String {
    let question = &lesson.question;
    let mut text = format!("\n## Guess first\n\n{}\n\n", question.text);
    for (letter, choice) in LETTERS.iter().zip(&question.choices) {
        let _ = writeln!(text, "- **{letter})** {}", choice.text);
    }
    text += "\n<details><summary>Which one is right, and why not the others</summary>\n\n";
    for (index, (letter, choice)) in LETTERS.iter().zip(&question.choices).enumerate() {
        let verdict = if index == question.right { "right" } else { "wrong" };
        let _ = writeln!(text, "- **{letter}) {verdict}.** {}", choice.explanation);
    }
    text + "\n</details>\n"
}

/// What a run showed; its picture is a file of its own.
fn run(run: &Run, picture: &str) -> String {
    let block = |text: &str| format!("```text\n{}\n```\n\n", text.trim_end());
    let mut text: String = run.findings.iter().map(|finding| block(&finding.text)).collect();
    text += &end(run);
    text += "\n";
    if let Some(state) = &run.state {
        text += "\n";
        text += block(state).trim_end_matches('\n');
        text += "\n";
    }
    if run.picture.is_some() {
        let _ = write!(text, "\n![Who owned which descriptor, in order]({picture})\n");
    }
    text
}

/// The whole fixed program, with the lines that were removed and added.
fn diff(lesson: &Lesson) -> String {
    let diff = TextDiff::from_lines(lesson.broken.text, lesson.fixed.text);
    let changes = diff.iter_all_changes();
    let lines = changes.map(|change| format!("{}{}", change.tag(), change.value()));
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn links(lessons: &[Lesson], index: usize) -> String {
    let link = |word: &str, index: usize| {
        let lesson = lessons.get(index)?;
        Some(format!("[{word}: {}]({})", lesson.title, file_name(index + 1, lesson)))
    };
    let before = index.checked_sub(1).and_then(|index| link("Previous", index));
    let after = link("Next", index + 1);
    let all = Some("[All lessons](README.md)".to_owned());
    let links: Vec<String> = [before, all, after].into_iter().flatten().collect();
    links.join(" · ")
}
