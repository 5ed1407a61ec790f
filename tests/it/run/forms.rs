//! The forms of the report: formats, files, baselines, suppressions, and names that attack a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use super::{double_close, output, python, run};
use crate::common::temp_path::TempPath;
use crate::reports::stderr;

#[test]
fn json_is_one_object_in_one_line() {
    let Some(python) = python() else { return };
    let output = double_close(&python, &["--report", "json", "-q"]);
    assert_eq!(output.status.code(), Some(23));
    let report: Value = serde_json::from_str(&stderr(&output)).expect("it is JSON");
    assert_eq!(report["findings"][0]["code"], "double-close");
    assert_eq!(report["command"], &*python);
    assert_eq!(report["arguments"], Value::Null, "they may contain secrets");
    let with = double_close(&python, &["--report", "json", "-q", "--arguments"]);
    let report: Value = serde_json::from_str(&stderr(&with)).expect("it is JSON");
    assert_eq!(report["arguments"][0], "-c");
}

#[test]
fn a_document_is_a_new_private_file_and_the_summary_stays_on_standard_error() {
    let Some(python) = python() else { return };
    for (format, part) in [
        ("junit", "<testsuites"),
        ("sarif", "\"double-close\""),
        ("json", "\"double-close\""),
        ("text", "error[double-close]"),
        ("github", "::error "),
    ] {
        let file = TempPath::new("report");
        let output = double_close(&python, &["--report", format, "--report-file", file.text()]);
        assert_eq!(output.status.code(), Some(23), "{format}: {}", stderr(&output));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(part), "{format}: {text}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let summary = format!("echown: `{python}` exited with status 0: 1 error (double-close)");
        assert!(stderr(&output).contains(&format!("\n{summary}")), "{format}: {}", stderr(&output));
    }
}

#[test]
fn a_known_finding_does_not_fail_again_and_a_fixed_one_is_named() {
    let Some(python) = python() else { return };
    let known = TempPath::new("known.toml");
    let first = double_close(&python, &["--write-baseline", known.text()]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stderr(&first).contains("baseline: 1 finding written to "), "{}", stderr(&first));
    let second = double_close(&python, &["--baseline", known.text()]);
    assert_eq!(second.status.code(), Some(0), "{}", stderr(&second));
    assert!(!stderr(&second).contains("[double-close]"), "{}", stderr(&second));
    assert!(stderr(&second).contains("1 known in the baseline"), "{}", stderr(&second));
    let fixed = output(&["--baseline", known.text(), "--", "true"]);
    assert!(stderr(&fixed).contains("not found again, it may be fixed"), "{}", stderr(&fixed));
}

#[test]
fn a_suppression_accepts_a_finding_with_its_reason() {
    let Some(python) = python() else { return };
    let file = TempPath::new("suppressions.toml");
    let text =
        "[[suppress]]\ncode = \"double-close\"\npath = \"passwd\"\nreason = \"a known one\"\n";
    fs::write(&file, text).unwrap();
    let output = double_close(&python, &["--suppressions", file.text()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("note: suppressed: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("a known one"), "{}", stderr(&output));
}

#[test]
fn a_suppression_that_cannot_or_does_not_match_is_named() {
    let file = TempPath::new("suppressions.toml");
    for (text, code, expected) in [
        ("kind = \"fille\"", 2, "unknown kind `fille`; the kinds are socket, "),
        ("code = \"leak\"", 2, "`path` or `site`, or choose what fails with `--fail-on`"),
        ("kind = \"epoll\"", 0, "unused suppression, it may be out of date: kept (kind `epoll`)"),
    ] {
        fs::write(&file, format!("[[suppress]]\n{text}\nreason = \"kept\"\n")).unwrap();
        let output = output(&["--suppressions", file.text(), "--", "true"]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn standard_error_names_the_file_of_the_report() {
    let file = TempPath::new("report");
    let text = stderr(&output(&["--report-file", file.text(), "--", "true"]));
    assert!(text.starts_with(&format!("report written to {}\n", file.text())), "{text}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("were not checked (see --check-uses)"), "{text}");
}

/// A program that names a file and its thread such that a terminal would obey.
const HOSTILE: &str = "\
import os, sys
name = sys.argv[1] + '/\\x1b[31mred\\nforged: line\\u202egnp'
open('/proc/self/comm', 'w').write('\\x1b[2Jthread')
number = os.open(name, os.O_CREAT | os.O_RDWR)
os.close(number)
try:
    os.close(number)
except OSError:
    pass
";

fn hostile(python: &str, options: &[&str]) -> Output {
    let folder = TempPath::folder("hostile");
    let words = [options, &["--", python, "-c", HOSTILE, folder.text()]].concat();
    run(&words).output().unwrap()
}

#[test]
fn names_that_a_program_chooses_are_harmless_in_every_form() {
    let Some(python) = python() else { return };
    let is_harmless = |text: &str| {
        let is_bad = |it: char| it == '\u{1b}' || it == '\u{202e}' || it == '\u{7f}';
        !text.contains(is_bad) && !text.lines().any(|line| line.starts_with("forged"))
    };
    for format in ["text", "json", "github"] {
        let output = hostile(&python, &["--report", format, "-q"]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(23), "{format}: {text}");
        assert!(is_harmless(&text), "{format}: {text:?}");
        assert!(text.contains("red"), "{format}: {text}");
    }
    for format in ["junit", "sarif"] {
        let file = TempPath::new("report");
        hostile(&python, &["--report", format, "--report-file", file.text()]);
        let text = fs::read_to_string(&file).unwrap();
        assert!(is_harmless(&text) && text.contains("red"), "{format}: {text:?}");
    }
    let recording = TempPath::new("recording.jsonl");
    hostile(&python, &["-q", "--record", recording.text()]);
    let text = fs::read_to_string(&recording).unwrap();
    assert!(is_harmless(&text) && text.contains("thread"), "{text:?}");
}
