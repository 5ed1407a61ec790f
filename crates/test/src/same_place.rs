//! Equal places over the tests of a binary. If two or more tests of one process fail with a leak at
//! the same place, one line about it follows the runner's summary.
//!
//! The runner's last output comes before its process exits, so the lines are printed by a function
//! of `atexit`. They go to standard error, because standard output may be a stream of JSON. nextest
//! runs each test in a process of its own, so that it prints no such line.

use std::io::{self, Write};
use std::process;
use std::sync::{Mutex, PoisonError};

use echown_fd::at_exit::at_exit;
use echown_report::{TestReport, TestVerdict};

/// The maximum number of tests that a line names.
const NAMES_MAX: usize = 3;

static PLACES: Mutex<Places> = Mutex::new(Places { process: None, known: Vec::new() });

struct Places {
    /// The process that prints: not one that a test forked.
    process: Option<u32>,
    known: Vec<SamePlace>,
}

/// A place at which descriptors leaked, with its tests.
struct SamePlace {
    /// What leaked, and where.
    what: String,
    tests: Vec<String>,
}

/// Adds the places of a failed test's leaks.
pub(super) fn record(report: &TestReport) {
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    add(&mut places.known, report);
    if places.process.is_none() && !places.known.is_empty() && at_exit(print) {
        places.process = Some(process::id());
    }
}

extern "C" fn print() {
    let places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    if places.process == Some(process::id()) {
        // An error cannot be reported any more.
        let _ = io::stderr().write_all(summary(&places.known).as_bytes());
    }
}

fn add(known: &mut Vec<SamePlace>, report: &TestReport) {
    for finding in &report.findings {
        let is_leak = matches!(finding.verdict, TestVerdict::Leak | TestVerdict::ExecLeak);
        let (Some(place), true) = (finding.places.first(), is_leak) else { continue };
        let kind = finding.kind().unwrap_or("descriptor");
        // The same line of a dependency, called by different code, is no common cause.
        let primary = place.primary();
        let own = place.own().filter(|own| primary.is_some_and(|it| !it.is_own && it != *own));
        let called = own.map(|own| format!(", called at {own}")).unwrap_or_default();
        let what = format!("{} of {kind}, {}{called}", finding.verdict, place.summary());
        let same = match known.iter_mut().find(|known| known.what == what) {
            Some(same) => same,
            None => {
                known.push(SamePlace { what, tests: Vec::new() });
                known.last_mut().expect("it was pushed the line before")
            }
        };
        if !same.tests.contains(&report.test) {
            same.tests.push(report.test.clone());
        }
    }
}

/// One line for each place of two or more tests; the most frequent first.
fn summary(known: &[SamePlace]) -> String {
    let mut several: Vec<&SamePlace> = known.iter().filter(|same| same.tests.len() > 1).collect();
    several.sort_by_key(|same| std::cmp::Reverse(same.tests.len()));
    let lines = several.iter().map(|SamePlace { what, tests }| {
        let named = &tests[..tests.len().min(NAMES_MAX)];
        let more = match tests.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let count = tests.len();
        format!("the same place in {count} tests: {what}; tests: {}{more}\n", named.join(", "))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use echown_report::{Descriptor, Place, SCHEMA_VERSION, StackFrame, TestFinding};

    fn report(test: &str, lines: &[u32]) -> TestReport {
        let own = |line| StackFrame {
            file: Some("src/a.rs".into()),
            line,
            is_own: true,
            ..StackFrame::default()
        };
        report_with(test, lines, |line| vec![own(line)])
    }

    fn report_with(
        test: &str,
        lines: &[u32],
        frames: impl Fn(u32) -> Vec<StackFrame>,
    ) -> TestReport {
        let finding = |&line: &u32| TestFinding {
            verdict: TestVerdict::Leak,
            message: String::new(),
            descriptors: vec![Descriptor { kind: "pipe".into(), ..Descriptor::default() }],
            places: vec![Place {
                what: "opened by pipe2".into(),
                thread: test.into(),
                frames: frames(line),
            }],
            custody: Vec::new(),
        };
        TestReport {
            schema_version: SCHEMA_VERSION,
            test: test.into(),
            file: "tests/a.rs".into(),
            line: 1,
            findings: lines.iter().map(finding).collect(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_place_of_several_tests_has_a_line_with_their_number() {
        let mut known = Vec::new();
        add(&mut known, &report("a", &[1, 2]));
        assert_eq!(summary(&known), "");
        for test in ["b", "c", "d", "e"] {
            add(&mut known, &report(test, &[2, 2]));
        }
        add(&mut known, &report("f", &[1]));
        let expected = "\
the same place in 5 tests: leak of pipe, opened by pipe2 at src/a.rs:2; tests: a, b, c and 2 more
the same place in 2 tests: leak of pipe, opened by pipe2 at src/a.rs:1; tests: a, f
";
        assert_eq!(summary(&known), expected);
    }

    #[test]
    fn a_dependencys_line_is_one_place_for_each_caller() {
        let frames = |line| {
            let file = Some("src/b.rs".to_owned());
            let package = Some("b 1.0.0".to_owned());
            let own = StackFrame { file: file.clone(), line, is_own: true, ..Default::default() };
            vec![StackFrame { file, line: 9, package, ..Default::default() }, own]
        };
        let mut known = Vec::new();
        add(&mut known, &report_with("a", &[1], frames));
        add(&mut known, &report_with("b", &[2], frames));
        assert_eq!(summary(&known), "");
        add(&mut known, &report_with("c", &[2], frames));
        let expected = "at b 1.0.0 src/b.rs:9, called at src/b.rs:2; tests: b, c\n";
        assert!(summary(&known).ends_with(expected), "{}", summary(&known));
    }
}
