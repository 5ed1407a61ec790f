//! Places in the reports of several tests, and in optimised builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::doc_pages::assert_page_shows;
use super::common::require_tool;
use super::downstream::{DownstreamCrate, endings, light_manifest, text};

/// Optimised as a release build, with the debug information that it needs for places, in files of
/// its own. The other crates are built as for the corpus.
const PROFILE: &str = r#"
[dependencies]
tempfile = "3"

[profile.dev.package.optimised]
opt-level = 3
debug = "line-tables-only"
split-debuginfo = "unpacked"
debug-assertions = false

[profile.dev.package.tempfile]
opt-level = 3
debug = "line-tables-only"
"#;

const LIBRARY: &str = "
pub struct Holder(pub std::fs::File);

pub fn holder() -> Holder {
    Holder(tempfile::tempfile().unwrap())
}
";

const TESTS: &str = "
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[echown_test::test]
fn leaks() {
    std::mem::forget(optimised::holder());
}

#[echown_test::test]
fn closes_twice() {
    let holder = optimised::holder();
    let number = holder.0.as_raw_fd();
    drop(holder);
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    println!();
}
";

#[test]
fn an_optimised_build_names_the_crate_and_no_frame_of_the_harness() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let files = [
        (PathBuf::from("Cargo.toml"), light_manifest("optimised") + PROFILE),
        (PathBuf::from("src/lib.rs"), LIBRARY.to_owned()),
        (PathBuf::from("tests/files.rs"), TESTS.to_owned()),
    ];
    // The same build folder as the corpus: common dependencies are built once.
    DownstreamCrate::corpus();
    let optimised = DownstreamCrate::new("optimised", &files);
    let output_text = text(&optimised.cargo(&["test", "--test", "files"]));
    assert_named(&output_text);

    // The same without debug information in the binary, as distributions package it.
    let has_objcopy = Command::new("objcopy").arg("--version").output().is_ok();
    if !require_tool("objcopy", has_objcopy) {
        return;
    }
    let line = output_text.lines().find(|line| line.contains("Running tests/files.rs"));
    let program = line.and_then(|line| line.split(['(', ')']).nth(1)).expect(&output_text);
    let (program, stripped) = (Path::new(program), optimised.folder.join("stripped"));
    let debug_file = optimised.folder.join(".debug/stripped.debug");
    fs::create_dir_all(optimised.folder.join(".debug")).unwrap();
    let link = format!("--add-gnu-debuglink={}", debug_file.display());
    for (options, from, to) in [
        (&["--only-keep-debug"][..], program, &debug_file),
        (&["--strip-all", &link], program, &stripped),
    ] {
        let copied = Command::new("objcopy").args(options).arg(from).arg(to).output().unwrap();
        assert!(copied.status.success(), "{}", text(&copied));
    }
    let output = Command::new(stripped).current_dir(&optimised.folder).output().unwrap();
    assert_named(&text(&output));
}

fn assert_named(output_text: &str) {
    let endings = endings(output_text);
    for (test, parts) in [
        ("leaks", &["opened by openat at tempfile 3.", " (src/lib.rs:5)"][..]),
        (
            "closes_twice",
            &[
                "opened by openat at tempfile 3.",
                "closed first by close at tests/files.rs:13:",
                "in the drop of optimised::Holder",
                "closed again by close at tests/files.rs:14:",
            ],
        ),
    ] {
        let section = &endings.get(test).expect(output_text).section;
        for part in parts {
            assert!(section.contains(part), "{test}: expected `{part}` in\n{section}");
        }
        for part in ["/registry/", "/rustc/", "child.rs", "short_backtrace"] {
            assert!(!section.contains(part), "{test}: `{part}` in\n{section}");
        }
    }
}

#[test]
fn the_page_shows_the_place_of_a_dependency() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let mut runner = DownstreamCrate::corpus().binary();
    let output = runner.args(["crates::a_file_opened_in_a_task_of_a_runtime", "--exact"]).output();
    let output_text = text(&output.unwrap());
    let lines = output_text.lines().skip_while(|line| !line.contains("opened by"));
    let place: Vec<&str> = lines.take_while(|line| !line.contains("help:")).collect();
    let shown = place.join("\n") + "\n";
    assert_page_shows("docs/adopting.md", "the place of a dependency", "text", &shown);
}

#[test]
fn a_place_of_several_tests_is_summarized_after_the_runners_output() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let mut runner = DownstreamCrate::corpus().binary();
    let output = runner.args(["crowd::", "--test-threads", "8"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let begin =
        "the same place in 8 tests: leak of file, opened by openat at tests/verdicts/crowd.rs:";
    let line = stderr.lines().last().unwrap_or_default();
    assert!(line.starts_with(begin) && line.ends_with(" and 5 more"), "{stderr}");
    let mut runner = DownstreamCrate::corpus().binary();
    let output = runner.args(["crowd::guilty_1", "--exact"]).output().unwrap();
    assert!(!text(&output).contains("the same place"), "{}", text(&output));
}
