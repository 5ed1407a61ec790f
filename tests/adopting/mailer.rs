//! The example of `docs/adopting.md`, built from the page's code: the page shows its actual output.
//! `ci/pages` writes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::common::doc_pages::assert_page_shows;
use super::downstream::{DownstreamCrate, light_manifest, root, text};
use crate::common::require_tool;

const PAGE: &str = "docs/adopting.md";

/// The block of a page after a marker.
pub fn block(page: &str, marker: &str) -> String {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n```")).expect(marker);
    let (_, rest) = rest.split_once('\n').expect("the fence is at the end of a line");
    rest.split_once("```\n").expect("the block ends").0.to_owned()
}

fn mailer() -> &'static DownstreamCrate {
    static MAILER: OnceLock<DownstreamCrate> = OnceLock::new();
    MAILER.get_or_init(|| {
        let tokio = "tokio = { version = \"1\", features = [\"macros\", \"rt\"] }\n";
        // The feature reads the files of suppressions and baselines.
        let manifest = light_manifest("mailer").replace(" }", ", features = [\"ci\"] }") + tokio;
        let files = [
            (PathBuf::from("Cargo.toml"), manifest),
            (PathBuf::from("src/lib.rs"), block(PAGE, "the mailer")),
            (PathBuf::from("tests/send.rs"), block(PAGE, "the mailer's tests")),
        ];
        // The same build folder as the corpus: common dependencies are built once.
        DownstreamCrate::corpus();
        DownstreamCrate::new("mailer", &files)
    })
}

/// Renumbers from `first` the numbers after a mark, which differ from run to run.
fn counted(text: &str, mark: &str, first: usize) -> String {
    let mut known = BTreeMap::new();
    let mut parts = text.split(mark);
    let mut counted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|sign: char| sign.is_ascii_digit());
        let number = &part[..part.len() - rest.len()];
        let next = first + known.len();
        let shown = known.entry(number.to_owned()).or_insert(next);
        counted += &format!("{mark}{shown}{rest}");
    }
    counted
}

fn shown(output_text: &str) -> String {
    // Inherited descriptors take the lowest numbers.
    counted(&counted(output_text, "127.0.0.1:", 50001), " fd ", 4)
}

#[test]
fn the_page_shows_the_output_of_cargo_test() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    // Sequentially, so that the order of lines is fixed.
    let output_text =
        text(&mailer().cargo(&["test", "--test", "send", "--", "--test-threads", "1"]));
    let (_, rest) = output_text.split_once("\nrunning 3 tests\n").expect(&output_text);
    let end = rest.find("\n\n\n\nfailures:").expect(&output_text) + 1;
    assert_page_shows(
        PAGE,
        "the mailer with cargo test",
        "text",
        &shown(&format!("running 3 tests\n{}", &rest[..end])),
    );
}

#[test]
fn the_page_shows_what_suppressions_allow() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let file = mailer().folder.join("allowed.toml");
    fs::write(&file, block(PAGE, "the mailer's suppressions")).unwrap();
    let mut command = mailer().command(&["test", "--test", "send", "--", "--show-output"]);
    command.args(["--test-threads", "1"]).env("ECHOWN_SUPPRESSIONS", &file);
    let output_text = text(&command.output().expect("cargo runs"));
    let (_, rest) = output_text.split_once("\nrunning 3 tests\n").expect(&output_text);
    let (shown_part, _) = rest.split_once("\n\n\nsuccesses:\n").expect(&output_text);
    let marker = "the mailer with suppressions";
    assert_page_shows(PAGE, marker, "text", &shown(&format!("running 3 tests\n{shown_part}\n")));
}

#[test]
fn the_page_shows_the_output_of_nextest() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        eprintln!("skipped: the places of calls are not known on this platform");
        return;
    }
    let has_nextest = mailer().cargo(&["nextest", "--version"]).status.success();
    if !require_tool("cargo-nextest", has_nextest) {
        return;
    }
    let output_text = shown(&text(&mailer().cargo(&["nextest", "run", "--no-fail-fast"])));
    for line in block(PAGE, "the mailer with nextest").lines() {
        // The status and the name; the time and the count differ.
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_said = |it: &str| match words[..] {
            [word @ ("PASS" | "FAIL"), .., name] => {
                it.trim_start().starts_with(word) && it.ends_with(&format!(" mailer::send {name}"))
            }
            _ => it.trim_end() == line,
        };
        assert!(output_text.lines().any(is_said), "`{line}` in\n{output_text}");
    }
}
