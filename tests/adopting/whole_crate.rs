//! A crate whose every `#[test]` is checked by one line, in every form that the standard attribute accepts;
//! and `echown unchecked`, which lists the tests that the line does not reach.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::common::doc_pages::assert_page_shows;
use crate::downstream::{DownstreamCrate, endings, light_manifest, text};

/// Every test leaks, so that each that is checked fails.
const LIBRARY: &str = r#"//! Tests inside and outside of a module of their own.
#![deny(warnings)]

#[cfg(test)]
#[macro_use]
extern crate echown_test;

use std::process::{ExitCode, Termination};

pub fn leak() {
    std::mem::forget(std::fs::File::open("/etc/passwd"));
}

#[test]
fn outside_of_a_module() {
    leak();
}

#[cfg_attr(test, echown_test::test)]
#[cfg_attr(not(test), test)]
fn by_cfg_attr() {
    leak();
}

#[cfg(test)]
#[echown_test::test]
fn by_cfg() {
    leak();
}

#[test]
fn with_lifetimes<'a, 'b: 'a>() {
    leak();
}

#[test]
fn with_an_empty_list<>() {
    leak();
}

#[test]
const fn constant() -> impl Termination {
    Left
}

pub struct Left;

impl Termination for Left {
    fn report(self) -> ExitCode {
        leak();
        ExitCode::SUCCESS
    }
}

#[test]
pub(in crate) fn r#match() -> Result<ExitCode, String> {
    leak();
    Ok(ExitCode::SUCCESS)
}

macro_rules! parts {
    ($(#[$meta:meta])* $visibility:vis $name:ident $result:ty, $body:block) => {
        #[test]
        $(#[$meta])*
        $visibility fn $name() -> $result $body
    };
}
parts!(of_parts (), { leak() });
parts!(#[should_panic] #[doc = "Documented."] pub panicking_of_parts (), { leak(); panic!("on purpose") });

macro_rules! items {
    ($($item:item)*) => { $(#[test] $item)* };
}
items! {
    fn an_item() {
        leak();
    }
    #[should_panic(expected = "on purpose")]
    pub fn a_panicking_item() {
        leak();
        panic!("on purpose");
    }
}

/// What `#[rstest]` makes of cases: a module that imports all of its parent.
macro_rules! cases {
    ($name:ident: $($case:ident)*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(#[test] fn $case() { leak() })*
        }
    };
}
cases!(cases: case_1 case_2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test(timeout_ms = 60_000)]
    fn with_options() {
        leak();
    }

    #[test]
    #[ignore = "it is listed, and checked when it runs"]
    fn ignored() {}
}
"#;

const UNCHECKED: &str = r#"//! Tests that expand to the compiler's own attribute.

#[macro_use]
extern crate echown_test;

#[tokio::test]
async fn of_tokio() {
    whole::leak();
}

#[echown_test::test]
#[tokio::test]
async fn of_tokio_and_checked() {
    whole::leak();
}

#[core::prelude::v1::test]
fn of_core() {
    whole::leak();
}

mod inside {
    #[core::prelude::v1::test]
    #[ignore]
    fn of_core() {}
}
"#;

fn whole_crate() -> &'static DownstreamCrate {
    // The files are written once, for all tests.
    static CRATE: OnceLock<DownstreamCrate> = OnceLock::new();
    CRATE.get_or_init(create)
}

fn create() -> DownstreamCrate {
    let harness = "tokio = { version = \"1\", features = [\"macros\", \"rt\"] }\n\
                   [[test]]\nname = \"no_harness\"\nharness = false\n";
    let files = [
        (PathBuf::from("Cargo.toml"), light_manifest("whole") + harness),
        (PathBuf::from("src/lib.rs"), LIBRARY.to_owned()),
        (PathBuf::from("tests/unchecked.rs"), UNCHECKED.to_owned()),
        (PathBuf::from("tests/no_harness.rs"), String::from("fn main() {}\n")),
    ];
    DownstreamCrate::new("whole", &files)
}

#[test]
fn one_line_checks_every_test_of_a_crate_in_every_form() {
    let whole = whole_crate();
    let built = whole.cargo(&["build"]);
    assert!(built.status.success(), "{}", text(&built));
    let output = whole.cargo(&["test", "--lib"]);
    let output_text = text(&output);
    let endings = endings(&output_text);
    assert!(endings.len() > 12, "{output_text}");
    for (name, ending) in &endings {
        let is_ignored = name == "tests::ignored";
        let expected = if is_ignored { "ignored, it is listed" } else { "FAILED" };
        assert!(ending.word.starts_with(expected), "{name}: {}\n{output_text}", ending.word);
        let leak = format!("leak: test `{name}` left 1 descriptor open");
        assert!(is_ignored || ending.section.contains(&leak), "{name}: {}", ending.section);
    }
}

/// `echown unchecked` in the folder of the crate.
fn unchecked(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echown"));
    command.arg("unchecked").args(arguments).current_dir(&whole_crate().folder);
    command.env("CARGO", env!("CARGO")).env("CARGO_NET_OFFLINE", "true");
    command.env("CARGO_TARGET_DIR", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("target"));
    command.env_remove("RUSTFLAGS").output().unwrap()
}

#[test]
fn a_command_lists_the_tests_that_are_not_checked() {
    let output = unchecked(&[]);
    let mut lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let total = lines.pop();
    lines.sort_unstable();
    let library = lines.iter().find(|line| line.starts_with("whole: "));
    let (tests, checked) = library.and_then(|line| line[7..].split_once(" tests, ")).unwrap();
    assert_eq!(checked, format!("{tests} checked"));
    lines.retain(|line| !line.starts_with("whole: "));
    let expected = [
        "  whole::unchecked inside::of_core",
        "  whole::unchecked of_core",
        "  whole::unchecked of_tokio",
        "whole::no_harness: no list of tests (harness = false)",
        "whole::unchecked: 4 tests, 1 checked",
    ];
    assert_eq!((lines, total), (expected.to_vec(), Some("3 tests are not checked")));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
fn the_page_shows_the_tests_that_are_not_checked() {
    let output = unchecked(&["--", "--test", "unchecked"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_page_shows("docs/ci.md", "the unchecked tests of a crate", "text", &stdout);
}

#[test]
fn tests_in_a_list_may_be_unchecked() {
    let list = whole_crate().folder.join("unchecked.txt");
    fs::write(&list, "# why\nwhole::unchecked of_*\n  whole::unchecked inside::of_core\n").unwrap();
    let allow = format!("--allow={}", list.display());
    let output = unchecked(&[&allow, "--", "--test", "unchecked"]);
    let shown = "whole::unchecked: 4 tests, 1 checked, 3 allowed\nno test is unchecked\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown, "{}", text(&output));
    assert_eq!(output.status.code(), Some(0));

    let output = unchecked(&[&allow, "--format", "json", "--", "--lib"]);
    let line: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["binary"], &line["tests"]), (&"whole".into(), &line["checked"]));
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let unused = "unchecked.txt:2: no unchecked test fits `whole::unchecked of_*`; remove the line";
    assert!(stderr.contains(unused), "{stderr}");

    let output = unchecked(&["--", "--no-such-argument"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("echown: the tests were not built: cargo ended with"));
}
