//! `echown learn`: every lesson keeps its promise, and its texts fit a terminal.

use serde_json::Value;

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
fn an_unknown_lesson_is_an_error() {
    let output = echown().args(["learn", "no-such-lesson"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`echown learn` lists them"));
}
