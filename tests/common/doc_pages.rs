//! Recorded outputs in the pages (`README.md`, `docs/`): compared with the program's output, or
//! written.
//!
//! `ci/pages` writes them all. Numbers that differ from run to run are renumbered ([`steady`]).
//! Line numbers in `src/` are written as they are and not compared: an edit of a source file does
//! not make a page wrong that shows the right code.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Compares the block after a marker (`<!-- MARKER -->`) in a page with the output of the program,
/// or, with `UPDATE_DOCS=1`, writes it there.
#[track_caller]
pub fn assert_page_shows(page: &str, marker: &str, kind: &str, output_text: &str) {
    static PAGES: Mutex<()> = Mutex::new(());
    let _alone = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let opening = format!("<!-- {marker} -->\n```{kind}\n");
    let (before, rest) =
        text.split_once(&opening).unwrap_or_else(|| panic!("{page}: no {opening}"));
    let (block, after) = rest.split_once("```\n").expect("the block has an end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{opening}{output_text}```\n{after}")).unwrap();
    } else {
        let (block, output_text) = (without_lines(block), without_lines(output_text));
        assert_eq!(
            block, output_text,
            "{page} is out of date; with UPDATE_DOCS=1 this test writes it"
        );
    }
}

/// The text of all Rust sources below folders of this package.
pub fn rust_sources(folders: &[&str]) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut sources = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    sources
}

/// A text without the numbers of lines in `src/`, and without the widths that follow from them.
pub fn without_lines(text: &str) -> String {
    text.lines().map(|line| without_gutter(&without_positions(line)) + "\n").collect()
}

/// `src/server.rs:10:20` as `src/server.rs:_`.
fn without_positions(line: &str) -> String {
    let mut parts = line.split(".rs:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_ours =
            text.rsplit([' ', '(', '`', '"']).next().is_some_and(|path| path.starts_with("src/"));
        text += ".rs:";
        let is_position = |it: char| it.is_ascii_digit() || it == ':';
        text += if is_ours { "_" } else { "" };
        text += if is_ours { part.trim_start_matches(is_position) } else { part };
    }
    text
}

/// The margin of a report with source lines: as narrow as can be, and without numbers.
fn without_gutter(line: &str) -> String {
    let margin = line.trim_start();
    let digits = margin.chars().take_while(char::is_ascii_digit).count();
    if digits > 0 && margin[digits..].starts_with(" |") {
        return format!("_{}", &margin[digits..]);
    }
    let is_margin =
        ["|", "-->", ":::", "= note: ", "= help: "].iter().any(|it| margin.starts_with(it));
    if is_margin { margin.to_owned() } else { line.to_owned() }
}

/// Prefixes of numbers that differ from run to run. Each kind is renumbered separately, in order of
/// first occurrence. Ages become `0ms`.
pub const KERNELS: &[&str] = &[
    "fd ",
    "thread ",
    "kernel id ",
    "cookie ",
    "inode ",
    "device ",
    "socket:[",
    "pipe:[",
    // Not the kernel's, but threads take ids of resources in blocks.
    "resource ",
    "half of ",
];

/// A text without differences between runs; `counted` is a list of prefixes such as [`KERNELS`].
pub fn steady(text: &str, counted: &[&str]) -> String {
    let mut known: HashMap<(&str, String), usize> = HashMap::new();
    let mut steady = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let prefix = counted.iter().find(|prefix| rest.starts_with(**prefix));
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
        if let Some(prefix) = prefix
            // A thread's name may stand before its number.
            && let name = name_before_a_number(&rest[prefix.len()..])
            && let after = &rest[prefix.len() + name.len()..]
            && let length @ 1.. = digits(after)
        {
            // A thread has one number, by whatever name.
            let family = if *prefix == "kernel id " { "thread " } else { *prefix };
            let family = if family == "half of " { "resource " } else { family };
            let count = known.keys().filter(|(of, _)| *of == family).count();
            // Below 3 are the standard streams.
            let first = if family == "fd " { 3 } else { 1 };
            let number = known.entry((family, after[..length].to_owned())).or_insert(count + first);
            steady += &format!("{prefix}{name}{number}");
            rest = &after[length..];
            continue;
        }
        let length = digits(rest);
        if length > 0 {
            // An age: `12ms`, `1.2s`.
            let number = &rest[..length];
            let after = &rest[length..];
            let fraction = after.strip_prefix('.').map_or(0, |after| 1 + digits(after));
            let unit = ["ms ", "s "].into_iter().find(|unit| after[fraction..].starts_with(unit));
            match unit {
                Some(unit) => {
                    steady += "0ms ";
                    rest = &after[fraction + unit.len()..];
                }
                None => {
                    steady += number;
                    rest = after;
                }
            }
            continue;
        }
        let first = rest.chars().next().map_or(1, char::len_utf8);
        steady += &rest[..first];
        rest = &rest[first..];
    }
    steady
}

/// `` `echown`  `` of `` `echown` 17 ``.
fn name_before_a_number(text: &str) -> &str {
    let Some(name) = text.strip_prefix('`').and_then(|text| text.split('`').next()) else {
        return "";
    };
    let end = name.len() + 2;
    if text[end..].starts_with(' ') { &text[..=end] } else { "" }
}
