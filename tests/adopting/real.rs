//! Public bugs of published crates, from `tests/corpus/real`: at the version with the bug each has its
//! verdict, and at the version with the fix none has.
//!
//! The crates are downloaded, so this runs in `ci/real` alone, which sets the variable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::doc_pages::assert_page_shows;
use super::downstream::{Ending, collect, endings, quiet, root, text};
use super::verdicts::{compare, expected_in};

/// At least as many bugs, and as many of them with a descriptor that reaches another program.
const BUGS_MIN: usize = 22;
const EXEC_BUGS_MIN: usize = 8;

const FOLDER: &str = "tests/corpus/real/tests/verdicts";

#[test]
fn each_public_bug_has_its_verdict_and_none_has_one_once_it_is_fixed() {
    if std::env::var_os("ECHOWN_REAL_CRATES").is_none() {
        eprintln!("skipped: needs a network; `ci/real` runs it");
        return;
    }
    let folder = copied();
    let expected = expected_in(FOLDER);
    let buggy = tested(&folder.join("buggy"));
    compare(&expected, &buggy);

    let fixed = tested(&folder.join("fixed"));
    let blamed: Vec<_> = fixed.iter().filter(|(_, it)| it.word != "ok").collect();
    assert!(blamed.is_empty(), "at the fixed version: {blamed:#?}");
    assert!(fixed.keys().all(|name| expected.contains_key(name)));

    let bugs = bugs(&buggy);
    let found: Vec<_> = bugs.iter().filter_map(|bug| bug.finding.as_deref()).collect();
    let exec = found.iter().filter(|code| **code == "exec-leak").count();
    assert!(found.len() >= BUGS_MIN && exec >= EXEC_BUGS_MIN, "{bugs:#?}");
    let lines = bugs.iter().map(|bug| {
        let finding = bug.finding.as_deref().unwrap_or("not found");
        let fix = if fixed.contains_key(&bug.test) { "clean" } else { "none" };
        format!("{:<22} {:<36} {finding:<17} {fix}\n", bug.version, bug.report)
    });
    let heading =
        format!("{:<22} {:<36} {:<17} {}\n", "crate", "report", "finding", "fixed version");
    let table = heading + &lines.collect::<String>();
    print!("{table}");
    assert_page_shows("docs/real-crates.md", "bugs of published crates", "text", &table);
}

/// One bug: the first sentence of the test's comment is `CRATE VERSION, REPORT: WHAT`.
#[derive(Debug)]
struct Bug {
    test: String,
    version: String,
    report: String,
    /// The code of the first finding.
    finding: Option<String>,
}

fn bugs(endings: &BTreeMap<String, Ending>) -> Vec<Bug> {
    let mut bugs = Vec::new();
    for module in ["leaks", "closes", "exec"] {
        let source = fs::read_to_string(root().join(FOLDER).join(format!("{module}.rs"))).unwrap();
        let mut heading = None;
        for line in source.lines() {
            if let Some(comment) = line.strip_prefix("/// ") {
                let named = comment.split_once(": ").and_then(|(named, _)| named.split_once(", "));
                heading = heading.or(named);
            } else if let Some(head) = line.strip_prefix("fn ") {
                let Some((version, report)) = heading.take() else { continue };
                let test = format!("{module}::{}", head.split('(').next().unwrap());
                let Some(ending) = endings.get(&test) else { continue };
                let mark = format!(": test `{test}` ");
                let codes = ending.section.lines().filter_map(|line| line.split_once(&mark));
                // The abort of the standard library is not the finding.
                let code = codes.map(|(code, _)| code).find(|code| *code != "process-exited");
                let (version, report) = (version.to_owned(), report.to_owned());
                bugs.push(Bug { test, version, report, finding: code.map(str::to_owned) });
            }
        }
    }
    bugs
}

/// The packages in a folder of their own, so that their lock files here do not change.
fn copied() -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real");
    let mut files = Vec::new();
    collect(&root().join("tests/corpus/real"), Path::new(""), &mut files);
    let attribute = format!("path = {:?}", root().join("crates/test"));
    for (path, content) in files {
        let content = content.replace("path = \"../../../../crates/test\"", &attribute);
        fs::create_dir_all(to.join(&path).parent().expect("a file is in a folder")).unwrap();
        fs::write(to.join(path), content).unwrap();
    }
    to
}

fn tested(package: &Path) -> BTreeMap<String, Ending> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(package).args(["test", "--test", "verdicts", "--", "--show-output"]);
    // One folder for both packages: most of their dependencies are the same.
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("real/target"));
    let output_text = text(&quiet(&mut command).output().expect("cargo runs"));
    let endings = endings(&output_text);
    assert!(!endings.is_empty(), "{output_text}");
    endings
}
