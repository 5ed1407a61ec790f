//! A stranger who takes the attribute alone gets nothing else, and is told how to get more.

use std::fs;

use super::stranger::{Stranger, text};

#[test]
fn what_was_not_built_in_fails_the_test_and_names_the_feature() {
    for (variable, value, feature) in [
        ("ECHOWN_REPORT", "junit:report", "ci"),
        ("ECHOWN_REPORT", "sarif:report", "ci"),
        ("ECHOWN_REPORT", "json:report", "json"),
        ("ECHOWN_BASELINE", "known.toml", "ci"),
        ("ECHOWN_WRITE_BASELINE", "known.toml", "ci"),
        ("ECHOWN_SUPPRESSIONS", "known.toml", "ci"),
    ] {
        let mut runner = Stranger::corpus().binary();
        runner.args(["crowd::", "--test-threads", "8"]).env(variable, value);
        let output = runner.output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(101), "{said}");
        let wanted = format!("features = [\"macros\", \"{feature}\"]");
        assert!(said.contains(variable) && said.contains(&wanted), "{said}");
        assert!(!Stranger::corpus().folder.join("report").exists());
    }
}

#[test]
fn text_and_annotations_need_no_feature() {
    let folder = &Stranger::corpus().folder;
    for (format, begin) in [("text", "leak: test `leaks::"), ("github", "::error file=")] {
        let path = folder.join(format!("report.{format}"));
        let _ = fs::remove_file(&path);
        let mut runner = Stranger::corpus().binary();
        runner.args(["leaks::a_lock_file_forgotten", "--exact"]);
        runner.env("ECHOWN_REPORT", format!("{format}:{}", path.display()));
        let output = runner.output().unwrap();
        assert_eq!(output.status.code(), Some(101), "{}", text(&output));
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.starts_with(begin), "{written}");
    }
}

#[test]
fn the_attribute_alone_builds_nothing_that_is_for_a_ci() {
    let tree = Stranger::corpus().cargo(&["tree", "--edges", "normal,dev", "--prefix", "none"]);
    let tree = text(&tree);
    assert!(tree.contains("echown v"), "{tree}");
    for heavy in ["quick-junit", "toml", "serde", "clap"] {
        assert!(!tree.lines().any(|line| line.starts_with(&format!("{heavy} "))), "{tree}");
    }
}
