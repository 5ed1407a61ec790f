//! Sessions with a reader whose lines are known.

use std::path::{Path, PathBuf};

use super::*;
use crate::{Choice, End, Finding, Program, Question, Run, Test};

const fn choice(explanation: &'static str) -> Choice {
    Choice { text: "a choice", explanation }
}

const fn lesson(name: &'static str) -> Lesson {
    Lesson {
        name,
        title: "A title",
        sources: &[],
        story: "The *story*.\n",
        question: Question {
            text: "Which one?",
            choices: [choice("of a"), choice("of b"), choice("of c"), choice("of d")],
            right: 1,
        },
        broken: Program { text: "let a;\nbroken();\n", run: || Ok(()) },
        fixed: Program { text: "let a;\nfixed();\n", run: || Ok(()) },
        finds: &["leak"],
        test: Test { name: "it_passes", options: "", finds: &["leak"] },
        recorded: None,
        why: "The reason.\n",
    }
}

static LESSONS: &[Lesson] = &[lesson("one"), lesson("two"), lesson("three")];

struct FindsOneLeak;

impl Host for FindsOneLeak {
    fn run(&self, _: &'static Lesson, variant: Variant) -> Result<Run, String> {
        let leak = Finding { code: "leak".into(), text: "error[leak]: it leaks".into() };
        let findings = if variant == Variant::Broken { vec![leak] } else { Vec::new() };
        let timeline = Some(format!("a timeline: {variant:?}\n"));
        Ok(Run { end: End::Returned, findings, state: None, timeline, picture: None })
    }
}

/// A folder for one test's progress, removed at its end.
struct Reader {
    folder: PathBuf,
    progress: ProgressFile,
}

impl Reader {
    fn new(name: &str) -> Reader {
        let folder = std::env::temp_dir().join(format!("echown-{name}-{}", std::process::id()));
        let progress = ProgressFile::below(Some(folder.clone().into()), None);
        Reader { folder, progress }
    }

    /// What the reader sees who types this, without colours.
    fn sees(&self, typed: &str, go: impl FnOnce(&mut Session<'_, &[u8], &mut Vec<u8>>)) -> String {
        let mut output = Vec::new();
        go(&mut Session {
            lessons: LESSONS,
            host: &FindsOneLeak,
            progress: &self.progress,
            input: typed.as_bytes(),
            output: &mut output,
        });
        let text = String::from_utf8(output).unwrap();
        let parts = text.split("\u{1b}[");
        parts
            .enumerate()
            .map(|(n, part)| if n == 0 { part } else { &part[part.find('m').unwrap() + 1..] })
            .collect()
    }

    fn state(&self, lesson: &str) -> Option<(State, Option<bool>)> {
        self.progress.read().0.of(lesson).map(|it| (it.state, it.first_guess_right))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_lesson_is_read_to_its_end_and_the_next_one_is_offered() {
    let reader = Reader::new("learn-end");
    let seen = reader.sees("\n\na\n\n\n\n\nq\n", |session| session.run().unwrap());
    let order = [
        " 1  one",
        "Lesson 1: A title",
        "The story.",
        " 2 | broken();",
        "Which one?",
        "a) wrong: of a",
        "b) right: of b",
        "error[leak]: it leaks",
        "a timeline: Broken",
        " 2 + fixed();",
        "Nothing was reported",
        "The reason.",
        "lesson 2, A title",
    ];
    let mut rest = &*seen;
    for part in order {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} in {seen}"));
        rest = after;
    }
    assert!(!seen.contains("of c"), "only the guess and the right choice are explained: {seen}");
    assert_eq!(reader.state("one"), Some((State::Done, Some(false))));
    assert_eq!(reader.state("two"), None);
}

#[test]
fn only_the_first_guess_counts() {
    let reader = Reader::new("learn-first");
    reader.sees("\nb\nq\n", |session| session.from(0).unwrap());
    assert_eq!(reader.state("one"), Some((State::Begun, Some(true))));
    reader.sees("\nc\n\n\n\n\n\nq\n", |session| session.from(0).unwrap());
    assert_eq!(reader.state("one"), Some((State::Done, Some(true))));
}

#[test]
fn a_skipped_lesson_comes_last() {
    let reader = Reader::new("learn-skipped");
    let seen = reader.sees("\ns\n\nq\n", |session| session.run().unwrap());
    assert!(seen.contains("Lesson 2"), "{seen}");
    assert_eq!(reader.state("one"), Some((State::Skipped, None)));
    let seen = reader.sees("\nq\n", |session| session.run().unwrap());
    assert!(seen.contains("one    A title") && seen.contains("skipped"), "{seen}");
    assert!(seen.contains("Enter: lesson 2"), "{seen}");
}

#[test]
fn the_fast_track_asks_only_and_counts_right_guesses_as_done() {
    let reader = Reader::new("learn-fast");
    let seen = reader.sees("b\nx\na\n\n", |session| session.fast().unwrap());
    assert!(seen.contains("1 of 2 guesses were right"), "{seen}");
    assert!(!seen.contains("error[leak]") && !seen.contains("The story"), "{seen}");
    assert_eq!(reader.state("one"), Some((State::Done, Some(true))));
    assert_eq!(reader.state("two"), Some((State::Begun, Some(false))));
    let seen = reader.sees("b\nb\n", |session| session.fast().unwrap());
    assert!(!seen.contains("Lesson 1"), "what is done is not asked again: {seen}");
    assert!(seen.contains("All lessons are done"), "{seen}");
}

#[test]
fn at_the_end_of_all_lessons_the_next_step_is_named() {
    let reader = Reader::new("learn-all");
    let lesson = "\nb\n\n\n\n\n";
    let typed = format!("\n{lesson}\n{lesson}\n{lesson}");
    let seen = reader.sees(&typed, |session| session.run().unwrap());
    assert!(seen.contains("All lessons are done. Next: `echown learn init DIR`"), "{seen}");
    let seen = reader.sees("", |session| session.run().unwrap());
    assert!(seen.contains("All lessons are done"), "{seen}");
}

#[test]
fn the_end_of_the_input_leaves() {
    let reader = Reader::new("learn-eof");
    let seen = reader.sees("\n\n", |session| session.run().unwrap());
    assert!(seen.ends_with("q: leave] \n"), "{seen}");
    assert_eq!(reader.state("one"), None);
}

#[test]
fn a_damaged_file_is_kept_and_progress_starts_again() {
    let reader = Reader::new("learn-damaged");
    reader.sees("\ns\nq\n", |session| session.from(0).unwrap());
    let path = reader.progress.path().unwrap().to_owned();
    for kept in ["json.damaged", "json.damaged-2"] {
        std::fs::write(&path, "{\"lessons\": {\"one\"").unwrap();
        let seen = reader.sees("q\n", |session| session.run().unwrap());
        assert!(seen.contains("is damaged: EOF") && seen.contains("lesson 1"), "{seen}");
        assert!(!path.with_extension(kept).exists(), "reading changes nothing");
        reader.sees("\ns\nq\n", |session| session.from(0).unwrap());
        assert_eq!(reader.state("one"), Some((State::Skipped, None)));
        let kept = std::fs::read_to_string(path.with_extension(kept)).unwrap();
        assert_eq!(kept, "{\"lessons\": {\"one\"");
    }
}

#[test]
fn a_file_of_a_newer_version_is_left_as_it_is() {
    let reader = Reader::new("learn-newer");
    let path = reader.progress.path().unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let newer = r#"{"schema_version":2,"lessons":["one"]}"#;
    std::fs::write(path, newer).unwrap();
    let seen = reader.sees("\n\nb\nq\n", |session| session.run().unwrap());
    assert!(seen.contains("(version 2)") && seen.contains("b) right"), "{seen}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), newer);
}

#[test]
fn progress_of_lessons_that_are_not_known_is_kept() {
    let reader = Reader::new("learn-unknown");
    let path = reader.progress.path().unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, r#"{"schema_version":1,"lessons":{"later":{"state":"done"}}}"#).unwrap();
    reader.progress.change(|progress| progress.set("one", State::Done)).unwrap();
    assert_eq!(reader.state("later"), Some((State::Done, None)));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file");
}

#[test]
fn without_a_home_nothing_is_kept_and_one_sentence_says_so() {
    let progress = ProgressFile::below(None, Some("relative".into()));
    assert_eq!(progress.path().map(Path::to_owned), None);
    progress.change(|progress| progress.set("one", State::Done)).unwrap();
    let (read, warning) = progress.read();
    assert_eq!(read.of("one"), None);
    assert!(warning.unwrap().contains("Progress is not kept"));
}

#[test]
fn a_reset_removes_the_file() {
    let reader = Reader::new("learn-reset");
    assert!(!reader.progress.reset().unwrap());
    reader.progress.change(|progress| progress.set("one", State::Done)).unwrap();
    assert!(reader.progress.reset().unwrap());
    assert_eq!(reader.state("one"), None);
}
