//! `echown learn`: lessons about the ownership of descriptors.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use echown_learn::{Host, Lesson, ProgressFile, Run, Session, Variant, page, text};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{EXIT_FAILURE, EXIT_USAGE, exit_code_of_print, fail};
use crate::lessons::{CONTENTS, LESSONS, built_in, exercises, project, run_here};

/// Learn from real bugs who closes a descriptor: a story, a question, a program that runs, its report,
/// and its fix.
///
/// Without a lesson, list them and continue with the first that is not done. If the output is no
/// terminal, the list or the lesson is printed without questions. Progress is kept in
/// `$XDG_STATE_HOME/echown/learn.json` (default: `~/.local/state`).
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct LearnArguments {
    #[command(subcommand)]
    command: Option<LearnCommand>,

    /// The lesson: its name or its number.
    #[arg(value_name = "LESSON")]
    lesson: Option<String>,

    /// Only list the lessons and the progress.
    #[arg(long, conflicts_with = "lesson")]
    list: bool,

    /// Only show the programs and ask their questions. A lesson is done if the guess is right.
    #[arg(long, conflicts_with_all = ["lesson", "list"])]
    fast: bool,

    /// Forget the progress.
    #[arg(long, conflicts_with_all = ["lesson", "list", "fast"])]
    reset: bool,

    /// Run a program of the lesson in this process, and print what was found as JSON.
    #[arg(long, hide = true, value_name = "PROGRAM", requires = "lesson", value_parser = ["broken", "fixed"])]
    program: Option<String>,

    /// Print what each lesson promises, as JSON.
    #[arg(long, hide = true)]
    data: bool,
}

#[derive(Subcommand)]
enum LearnCommand {
    /// Write a Cargo project with an exercise for each lesson: a test that fails until its program is
    /// fixed. `#[echown::test]` is the judge.
    Init {
        /// The folder, which does not exist or is empty.
        #[arg(value_name = "DIR")]
        folder: PathBuf,

        /// The folder of the package `echown`, which is not published yet. Default: where this program
        /// was built.
        #[arg(long = "echown", value_name = "PATH")]
        package: Option<PathBuf>,
    },
    /// Print the solution of a lesson's exercise.
    Solution {
        /// The lesson: its name or its number.
        #[arg(value_name = "LESSON")]
        lesson: String,
    },
    /// Write the lessons as pages of Markdown.
    #[command(hide = true)]
    Pages {
        /// The folder, which exists.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

pub(super) fn run(arguments: &LearnArguments) -> ExitCode {
    match &arguments.command {
        Some(LearnCommand::Init { folder, package }) => init(folder, package.as_deref()),
        Some(LearnCommand::Solution { lesson }) => match find(lesson) {
            Some(index) => exit_code_of_print(print(&exercises().solution(&LESSONS[index]))),
            None => no_such_lesson(lesson),
        },
        Some(LearnCommand::Pages { folder }) => match pages(folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error, EXIT_FAILURE),
        },
        None => learn(arguments),
    }
}

fn learn(arguments: &LearnArguments) -> ExitCode {
    if arguments.data {
        return exit_code_of_print(print(&data()));
    }
    let progress =
        ProgressFile::below(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"));
    if arguments.reset {
        return reset(&progress);
    }
    let lesson = match arguments.lesson.as_deref().map(find) {
        Some(None) => {
            return no_such_lesson(arguments.lesson.as_deref().unwrap_or_default());
        }
        Some(index) => index,
        None => None,
    };
    if let (Some(program), Some(index)) = (&arguments.program, lesson) {
        let variant = if program == "broken" { Variant::Broken } else { Variant::Fixed };
        return run_and_exit(&LESSONS[index], variant);
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() && !arguments.list {
        return exit_code_of_print(converse(&progress, lesson, arguments.fast));
    }
    match lesson {
        None => {
            let (progress, warning) = progress.read();
            let warning = warning.map(|warning| text::paragraph(&warning)).unwrap_or_default();
            exit_code_of_print(print(&(warning + &text::list(LESSONS, &progress))))
        }
        Some(index) => match whole(index) {
            Ok(text) => exit_code_of_print(print(&text)),
            Err(error) => fail(error, EXIT_FAILURE),
        },
    }
}

fn no_such_lesson(word: &str) -> ExitCode {
    fail(format!("there is no lesson `{word}`; `echown learn --list` lists them"), EXIT_USAGE)
}

fn print(text: &str) -> io::Result<()> {
    let mut output = anstream::stdout();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Shows lessons in a terminal until the reader leaves.
fn converse(progress: &ProgressFile, lesson: Option<usize>, is_fast: bool) -> io::Result<()> {
    let mut session = Session {
        lessons: LESSONS,
        host: &ThisProgram,
        progress,
        input: io::stdin().lock(),
        output: anstream::stdout(),
    };
    match lesson {
        Some(index) => session.from(index),
        None if is_fast => session.fast(),
        None => session.run(),
    }
}

fn reset(progress: &ProgressFile) -> ExitCode {
    match progress.reset() {
        Ok(true) => exit_code_of_print(print("The progress is forgotten.\n")),
        Ok(false) => exit_code_of_print(print("There was no progress.\n")),
        Err(error) => {
            let path = progress.path().unwrap_or("".as_ref()).display();
            fail(format_args!("failed to remove {path}: {error}"), EXIT_FAILURE)
        }
    }
}

/// Writes the project of exercises.
fn init(folder: &Path, package: Option<&Path>) -> ExitCode {
    let Some(package) = package.map(Path::to_owned).or_else(built_in) else {
        let why = "the package `echown` is not published yet: add --echown PATH, its folder";
        return fail(why, EXIT_USAGE);
    };
    let project = match project(&package) {
        Ok(project) => project,
        Err(error) => return fail(error, EXIT_USAGE),
    };
    if let Err(error) = project.write(folder) {
        let folder = folder.display();
        return fail(
            format_args!("failed to write the project to {folder}: {error}"),
            EXIT_FAILURE,
        );
    }
    let first = LESSONS[0].name;
    exit_code_of_print(print(&format!(
        "{} exercises are in {}. Begin there with README.md, or with\n\n    cargo test --test {first}\n",
        LESSONS.len(),
        folder.display()
    )))
}

/// Writes the pages of all lessons.
fn pages(folder: &Path) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    write("README.md", &page::contents(LESSONS, CONTENTS))?;
    for (index, lesson) in LESSONS.iter().enumerate() {
        let broken = ThisProgram.run(lesson, Variant::Broken)?;
        let fixed = ThisProgram.run(lesson, Variant::Fixed)?;
        let name = page::file_name(index + 1, lesson);
        write(&name, &page::page(LESSONS, index, &broken, &fixed))?;
        for (variant, run) in [(Variant::Broken, &broken), (Variant::Fixed, &fixed)] {
            if let Some(picture) = &run.picture {
                write(&page::picture_name(index + 1, lesson, variant), picture)?;
            }
        }
    }
    Ok(())
}

/// What each lesson promises, for the project's own tests.
fn data() -> String {
    let lesson = |(number, lesson): (usize, &Lesson)| {
        serde_json::json!({
            "number": number,
            "name": lesson.name,
            "broken": lesson.broken.text,
            "fixed": lesson.fixed.text,
            "finds": lesson.finds,
            "is_recorded": lesson.recorded.is_some(),
            "test": { "name": lesson.test.name, "finds": lesson.test.finds },
        })
    };
    let lessons: Vec<_> = (1..).zip(LESSONS).map(lesson).collect();
    format!("{}\n", serde_json::Value::from(lessons))
}

/// The index of a lesson.
fn find(word: &str) -> Option<usize> {
    let is_meant =
        |(number, lesson): (usize, &Lesson)| lesson.name == word || number.to_string() == word;
    (1..).zip(LESSONS).position(is_meant)
}

/// All of a lesson, without questions to the reader.
fn whole(index: usize) -> Result<String, String> {
    let lesson = &LESSONS[index];
    let broken = ThisProgram.run(lesson, Variant::Broken)?;
    let fixed = ThisProgram.run(lesson, Variant::Fixed)?;
    Ok(text::whole(index + 1, lesson, &broken, &fixed))
}

/// Runs a lesson's programs by this program itself, in a process for each.
struct ThisProgram;

impl Host for ThisProgram {
    fn run(&self, lesson: &'static Lesson, variant: Variant) -> Result<Run, String> {
        let program = match variant {
            Variant::Broken => "broken",
            Variant::Fixed => "fixed",
        };
        run_apart(&["learn", lesson.name, "--program", program])
            .map_err(|error| format!("failed to run the program: {error}"))
    }
}

/// Starts this program again, in a process group of its own, and reads its one line. Then the whole
/// group is killed: programs that a lesson started may wait for what never comes.
fn run_apart(arguments: &[&str]) -> io::Result<Run> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let read = BufReader::new(output).read_line(&mut line);
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    read?;
    serde_json::from_str(&line).map_err(|error| io::Error::other(format!("{status}: {error}")))
}

/// Runs a program in this process and ends it, whatever still runs.
fn run_and_exit(lesson: &'static Lesson, variant: Variant) -> ExitCode {
    let run = run_here(lesson, variant);
    let written = serde_json::to_string(&run).map_err(io::Error::from);
    let written = written.and_then(|text| print(&(text + "\n")));
    // What still runs must not delay the end.
    std::process::exit(i32::from(written.is_err()))
}
