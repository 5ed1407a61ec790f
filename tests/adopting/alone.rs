//! A crate that depends on `echown-test` alone: both names of the attribute, and its crate count.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::common::doc_pages::{KERNELS, assert_page_shows, steady};
use crate::downstream::{DownstreamCrate, light_manifest, root, text};

/// Crates in the default build of `echown-test`, its own four included.
const CRATES_MAX: usize = 15;

const TESTS: &str = r#"//! One test that closes what it opens, and one that leaks.

use echown_test::test;

#[test]
fn closes_the_file_it_opens() {
    drop(std::fs::File::open("/dev/null").unwrap());
}

#[echown_test::test]
fn leaks_a_file() {
    std::mem::forget(std::fs::File::open("Cargo.toml").unwrap());
}

#[echown_test::test(ignore_kind = "file", because = "it is meant to stay open")]
fn leaks_an_ignored_file() {
    std::mem::forget(std::fs::File::open("Cargo.toml").unwrap());
}
"#;

fn light() -> DownstreamCrate {
    let files = [
        (PathBuf::from("Cargo.toml"), light_manifest("light")),
        (PathBuf::from("src/lib.rs"), String::new()),
        (PathBuf::from("tests/files.rs"), TESTS.to_owned()),
    ];
    DownstreamCrate::new("light", &files)
}

#[test]
fn a_crate_that_depends_on_echown_test_alone_gets_leak_reports_with_lines() {
    let output = light().cargo(&["test", "--test", "files"]);
    let output_text = text(&output);
    assert_eq!(output.status.code(), Some(101), "{output_text}");
    for line in [
        "test closes_the_file_it_opens ... ok",
        "test leaks_an_ignored_file ... ok",
        "test leaks_a_file ... FAILED",
        "leak: test `leaks_a_file` left 1 descriptor open",
    ] {
        assert!(output_text.contains(line), "no {line:?} in\n{output_text}");
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        assert!(output_text.contains("tests/files.rs:12:"), "{output_text}");
    }
}

#[test]
fn the_default_build_of_echown_test_has_the_crate_count_the_page_states() {
    let light = light();
    let tree = light.cargo(&["tree", "--package", "echown-test", "--prefix", "none"]);
    let tree = String::from_utf8(tree.stdout).unwrap();
    let name = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let crates: BTreeSet<String> = tree.lines().map(name).collect();
    assert!((4..=CRATES_MAX).contains(&crates.len()), "{} crates: {crates:#?}", crates.len());
    let page = std::fs::read_to_string(root().join("docs/adopting.md")).unwrap();
    let output_text = format!("adds {} crates, its own four included", crates.len());
    assert!(page.contains(&output_text), "{output_text}");
}

/// `ci/pages` writes the report.
#[test]
fn the_readmes_first_test_fails_with_the_report_that_follows_it() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- the first test -->\n```rust,ignore\n").unwrap();
    let (code, _) = rest.split_once("```\n").unwrap();
    // A crate of its own: other tests remove what is not theirs.
    let files = [
        (PathBuf::from("Cargo.toml"), light_manifest("config")),
        (PathBuf::from("src/lib.rs"), String::new()),
        (PathBuf::from("tests/config.rs"), code.to_owned()),
    ];
    let downstream = DownstreamCrate::new("config", &files);
    let output_text = text(&downstream.cargo(&["test", "--test", "config"]));
    let report = output_text.lines().skip_while(|line| !line.starts_with("leak: "));
    let report: String = report
        .take_while(|line| line.starts_with("leak: ") || line.starts_with("  "))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let report = report.replace(downstream.folder.to_str().unwrap(), "/src/config");
    assert_page_shows("README.md", "the first test's report", "text", &steady(&report, KERNELS));
}
