//! `echown learn`: lessons about the ownership of descriptors.

use std::io::{self, Write};
use std::process::{Command, ExitCode};

use clap::Args;
use echown_learn::{Lesson, Run, text};

use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::lessons::{LESSONS, Variant, run_here};

/// Learn with real bugs who may close a descriptor: a story, a question, a program that runs, its
/// report, and its fix.
///
/// Without a lesson, list them all.
#[derive(Args)]
pub(super) struct LearnArguments {
    /// The lesson: its name or its number.
    #[arg(value_name = "LESSON")]
    lesson: Option<String>,

    /// Run a program of the lesson in this process, and print what was found as JSON.
    #[arg(long, hide = true, value_name = "PROGRAM", requires = "lesson", value_parser = ["broken", "fixed"])]
    program: Option<String>,

    /// Print what each lesson promises, as JSON.
    #[arg(long, hide = true)]
    data: bool,
}

pub(super) fn run(arguments: &LearnArguments) -> ExitCode {
    if arguments.data {
        return super::exit_code_of_print(print(&data()));
    }
    let Some(word) = &arguments.lesson else {
        return super::exit_code_of_print(print(&list()));
    };
    let Some((number, lesson)) = find(word) else {
        let message = format!("there is no lesson `{word}`; `echown learn` lists them");
        return fail(message, EXIT_USAGE);
    };
    if let Some(program) = &arguments.program {
        let variant = if program == "broken" { Variant::Broken } else { Variant::Fixed };
        return run_and_exit(lesson, variant);
    }
    match whole(number, lesson) {
        Ok(text) => super::exit_code_of_print(print(&text)),
        Err(error) => fail(error, EXIT_FAILURE),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut output = anstream::stdout();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// What each lesson promises, for the project's own tests.
fn data() -> String {
    let lesson = |(lesson, number): (&Lesson, usize)| {
        serde_json::json!({
            "number": number,
            "name": lesson.name,
            "finds": lesson.finds,
            "test": { "name": lesson.test.name, "finds": lesson.test.finds },
        })
    };
    let lessons: Vec<_> = LESSONS.iter().zip(1..).map(lesson).collect();
    format!("{}\n", serde_json::Value::from(lessons))
}

fn list() -> String {
    let width = LESSONS.iter().map(|lesson| lesson.name.len()).max().unwrap_or_default();
    let line = |(lesson, number): (&Lesson, usize)| {
        format!("{number:>2}  {:width$}  {}\n", lesson.name, lesson.title)
    };
    LESSONS.iter().zip(1..).map(line).collect()
}

/// A lesson and its number.
fn find(word: &str) -> Option<(usize, &'static Lesson)> {
    let mut numbered = (1..).zip(LESSONS);
    numbered.find(|(number, lesson)| lesson.name == word || number.to_string() == word)
}

/// All of a lesson, without questions to the reader.
fn whole(number: usize, lesson: &Lesson) -> Result<String, String> {
    let broken = run_apart(lesson, Variant::Broken)?;
    let fixed = run_apart(lesson, Variant::Fixed)?;
    let mut choices = text::question(&lesson.question);
    choices.push('\n');
    for index in 0..text::LETTERS.len() {
        choices += &text::explanation(&lesson.question, index);
    }
    Ok([
        text::headline(number, lesson),
        text::story(lesson),
        text::program(lesson),
        choices,
        text::run(&broken),
        text::fix(lesson),
        text::run(&fixed),
        text::why(lesson),
    ]
    .join("\n"))
}

/// Runs a program in a process of its own.
fn run_apart(lesson: &Lesson, variant: Variant) -> Result<Run, String> {
    let program = variant.file().trim_end_matches(".rs");
    let failed = |error: &dyn std::fmt::Display| format!("failed to run the program: {error}");
    let output = std::env::current_exe()
        .and_then(|this| {
            Command::new(this).args(["learn", lesson.name, "--program", program]).output()
        })
        .map_err(|error| failed(&error))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(&format!("{error}\n{}", String::from_utf8_lossy(&output.stderr))))
}

/// Runs a program in this process and ends it, whatever still runs.
fn run_and_exit(lesson: &'static Lesson, variant: Variant) -> ExitCode {
    let run = run_here(lesson, variant);
    let written = serde_json::to_string(&run).map_err(io::Error::from);
    let written = written.and_then(|text| print(&text));
    // What still runs must not delay the end.
    std::process::exit(i32::from(written.is_err()))
}
