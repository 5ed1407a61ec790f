//! `echown learn`: every lesson keeps its promise, and its texts fit a terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::common::temp_path::TempPath;
use super::server::echown;

fn learn(arguments: &[&str]) -> String {
    let output = echown().arg("learn").args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&learn(arguments)).unwrap()
}

fn lessons() -> Vec<Value> {
    let Value::Array(lessons) = json(&["--data"]) else { panic!("a list of lessons") };
    assert!(!lessons.is_empty());
    lessons
}

/// The codes of a run, each once, and how it ended.
fn codes(name: &str, program: &str) -> (Vec<String>, Value) {
    let run = json(&[name, "--program", program]);
    let mut codes: Vec<String> = Vec::new();
    for finding in run["findings"].as_array().unwrap() {
        let code = finding["code"].as_str().unwrap().to_owned();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    match run["end"].as_object().and_then(|end| end.keys().next()).map(String::as_str) {
        Some("Hung") => codes.push("hang".into()),
        Some("Panicked") if codes.is_empty() => codes.push("panic".into()),
        Some("Failed") if codes.is_empty() => codes.push("error".into()),
        _ => {}
    }
    (codes, run)
}

#[test]
fn every_broken_program_is_reported_as_promised() {
    for lesson in lessons() {
        let name = lesson["name"].as_str().unwrap();
        let (codes, run) = codes(name, "broken");
        assert_eq!(Value::from(codes), lesson["finds"], "{name}: {run:#}");
    }
}

#[test]
fn every_fixed_program_returns_and_nothing_is_reported() {
    for lesson in lessons() {
        let name = lesson["name"].as_str().unwrap();
        let (codes, run) = codes(name, "fixed");
        assert!(codes.is_empty() && run["end"] == "Returned", "{name}: {run:#}");
    }
}

#[test]
fn a_report_shows_lines_of_the_embedded_program() {
    let (_, run) = codes("give", "broken");
    let text = run["findings"][0]["text"].as_str().unwrap();
    assert!(text.contains("--> broken.rs:"), "{text}");
    assert!(text.contains("Stream::pair()?"), "{text}");
}

#[test]
fn programs_are_short_enough_to_be_read_in_a_terminal() {
    for lesson in lessons() {
        for program in ["broken", "fixed"] {
            let text = lesson[program].as_str().unwrap();
            let name = format!("{} {program}", lesson["name"]);
            assert!(text.lines().count() <= 40, "{name}: {} lines", text.lines().count());
            for line in text.lines() {
                assert!(line.chars().count() <= 74, "{name}: {line}");
            }
        }
    }
}

#[test]
fn a_lesson_in_a_pipe_is_plain_and_fits_80_columns() {
    for lesson in lessons() {
        let text = learn(&[lesson["name"].as_str().unwrap()]);
        assert!(!text.contains('\u{1b}'), "{text}");
        for line in text.lines() {
            // An address is not broken.
            assert!(line.chars().count() <= 80 || line.contains("https://"), "{line}");
        }
        assert!(text.contains("The run of the fixed program"), "{text}");
    }
}

/// `echown learn` with its progress in this folder.
fn with_state(home: &Path, arguments: &[&str]) -> Command {
    let mut command = echown();
    command.arg("learn").args(arguments).env("XDG_STATE_HOME", home);
    command
}

/// What a terminal shows when this is typed into it. The program ends at the end of the input.
fn in_a_terminal(mut command: Command, typed: &str) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let user = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    command.env("TERM", "xterm");
    command.stdin(user.try_clone().unwrap()).stdout(user.try_clone().unwrap()).stderr(user);
    let mut child = command.spawn().unwrap();
    // Its copies of the terminal: otherwise reading would not end.
    drop(command);
    let mut terminal = File::from(terminal);
    // The control character that ends the input comes last.
    terminal.write_all(format!("{typed}\u{4}").as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // The end of a terminal is an error.
    while let Ok(len @ 1..) = terminal.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..len]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(seen).unwrap().replace("\r\n", "\n")
}

#[test]
fn in_a_terminal_a_lesson_asks_and_progress_is_kept() {
    let home = TempPath::new("terminal");
    let mut command = with_state(&home, &[]);
    command.env("NO_COLOR", "1");
    let seen = in_a_terminal(command, "\n\nb\n\n\n\n\nq\n");
    assert!(!seen.contains('\u{1b}'), "{seen}");
    assert!(seen.contains("b) right:") && seen.contains("error[leak]"), "{seen}");
    let file = home.join("echown/learn.json");
    let progress = fs::read_to_string(&file).unwrap();
    let progress: Value = serde_json::from_str(&progress).unwrap();
    let lesson = &progress["lessons"]["give"];
    assert_eq!((&lesson["state"], &lesson["first_guess_right"]), (&"done".into(), &true.into()));

    let listed = with_state(&home, &["--list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("done, first guess right"));
    assert!(with_state(&home, &["--reset"]).output().unwrap().status.success());
    assert!(!file.exists(), "it is forgotten");
}

#[test]
fn a_terminal_with_colours_gets_them() {
    let home = TempPath::new("colours");
    let mut command = with_state(&home, &["1"]);
    command.env_remove("NO_COLOR");
    let seen = in_a_terminal(command, "\nb\n\n\nq\n");
    assert!(seen.contains("\u{1b}[1;31merror[leak]"), "{seen}");
    assert!(seen.contains("\u{1b}[32m"), "new lines of the fix: {seen}");
}

#[test]
fn without_a_home_the_list_says_that_nothing_is_kept() {
    let mut command = echown();
    command.args(["learn", "--list"]).env_remove("XDG_STATE_HOME").env_remove("HOME");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("Progress is not kept"), "{text}");
}

#[test]
fn an_unknown_lesson_is_an_error() {
    let output = echown().args(["learn", "no-such-lesson"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`echown learn --list` lists them"));
}
