//! A downstream crate that uses only the attribute builds nothing else, and errors name the feature
//! that is missing.

use std::fs;
use std::io::Write;

use super::downstream::{DownstreamCrate, text};

#[test]
fn a_format_that_is_not_built_in_fails_the_test_and_names_the_feature() {
    for (variable, value, feature) in [
        ("ECHOWN_REPORT", "junit:report", "ci"),
        ("ECHOWN_REPORT", "sarif:report", "ci"),
        ("ECHOWN_REPORT", "json:report", "ci"),
        ("ECHOWN_BASELINE", "known.toml", "ci"),
        ("ECHOWN_WRITE_BASELINE", "known.toml", "ci"),
        ("ECHOWN_SUPPRESSIONS", "known.toml", "ci"),
    ] {
        let mut runner = DownstreamCrate::corpus().binary();
        runner.args(["crowd::", "--test-threads", "8"]).env(variable, value);
        let output = runner.output().unwrap();
        let output_text = text(&output);
        assert_eq!(output.status.code(), Some(101), "{output_text}");
        let wanted = format!("features = [\"macros\", \"{feature}\"]");
        assert!(output_text.contains(variable) && output_text.contains(&wanted), "{output_text}");
        assert!(!DownstreamCrate::corpus().folder.join("report").exists());
    }
}

#[test]
fn text_and_annotations_need_no_feature() {
    let folder = &DownstreamCrate::corpus().folder;
    for (format, begin) in [("text", "leak: test `leaks::"), ("github", "::error file=")] {
        let path = folder.join(format!("report.{format}"));
        let _ = fs::remove_file(&path);
        let mut runner = DownstreamCrate::corpus().binary();
        runner.args(["leaks::a_lock_file_forgotten", "--exact"]);
        runner.env("ECHOWN_REPORT", format!("{format}:{}", path.display()));
        let output = runner.output().unwrap();
        assert_eq!(output.status.code(), Some(101), "{}", text(&output));
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.starts_with(begin), "{written}");
    }
}

/// The runner captures what a test prints, but not direct writes to standard error.
#[test]
fn annotations_on_standard_error_are_not_captured() {
    let mut runner = DownstreamCrate::corpus().binary();
    runner.args(["leaks::a_lock_file_forgotten", "--exact"]);
    let output = runner.env("ECHOWN_REPORT", "github:/dev/stderr").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.lines().any(|line| line.starts_with("::error file=")), "{stderr}");
}

/// `cargo test 2>log`: each annotation is a complete line, and nothing that others wrote is lost.
#[test]
fn annotations_in_a_file_that_is_standard_error_overwrite_nothing() {
    let path = DownstreamCrate::corpus().folder.join("log");
    let log = fs::File::create(&path).unwrap();
    (&log).write_all(b"before\n").unwrap();
    let mut runner = DownstreamCrate::corpus().binary();
    runner.args(["crowd::guilty_", "--nocapture", "--test-threads", "4"]);
    let ended = runner.env("ECHOWN_REPORT", "github:/dev/stderr").stderr(log).output().unwrap();
    assert_eq!(ended.status.code(), Some(101));
    let output_text = fs::read_to_string(&path).unwrap();
    assert!(output_text.starts_with("before\n"), "{output_text}");
    for number in 1..=8 {
        let test = format!("test `crowd::guilty_{number}` left 1 descriptor open");
        let is_annotation = |line: &&str| line.starts_with("::error file=");
        let (annotations, others): (Vec<&str>, Vec<&str>) =
            output_text.lines().filter(|line| line.contains(&test)).partition(is_annotation);
        assert_eq!((annotations.len(), others.len()), (1, 1), "{test} in\n{output_text}");
    }
}

#[test]
fn the_attribute_alone_builds_no_ci_formats() {
    let tree =
        DownstreamCrate::corpus().cargo(&["tree", "--edges", "normal,dev", "--prefix", "none"]);
    let tree = text(&tree);
    assert!(tree.contains("echown v"), "{tree}");
    for heavy in ["quick-junit", "toml", "serde", "clap"] {
        assert!(!tree.lines().any(|line| line.starts_with(&format!("{heavy} "))), "{tree}");
    }
}
