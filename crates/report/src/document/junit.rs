//! JUnit documents: findings as failed test cases.
//!
//! For tests, a case is a test and a suite is a binary, as in the runner's own JUnit. Only tests
//! with findings are included; if there are none, one case says so. For a server, a case is a place
//! in the source. For `echown run`, a case is a place in the source, too, and a suite is a program.
//! Findings in the baseline, and those that do not fail a run, are skipped cases. So is a warning that
//! findings may be missing.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite, XmlString};

use super::{BaselineState, Found};
use crate::{Entry, InputError, Location, Plural, Severity, TestName};

/// The name of the test suites element, which identifies a document of echown.
const NAME: &str = "echown";

/// How each document of echown begins, after the XML declaration.
pub(super) const ROOT: &str = "<testsuites name=\"echown\"";

/// The name of a server's suite.
const OWNERSHIP: &str = "ownership";

/// The only test case of a document without findings: some readers treat a document without test
/// cases as a failed run. It cannot collide with a test, because no test name contains a space.
const NO_FINDINGS: &str = "no findings";

/// The case of a run in which not every call was followed.
const COVERAGE: &str = "coverage";

/// The document of the findings of a server or a run.
pub(super) fn document(findings: &[Found], warnings: &[String]) -> String {
    let mut report = Report::new(NAME);
    if findings.is_empty() {
        put_no_findings(&mut report);
    }
    for found in findings {
        let (suite, case) = match &found.entry.test {
            Some(test) => (&*test.suite, case(test.name.clone(), &[found])),
            None => {
                let mut case = case(place(&found.entry), &[found]);
                case.set_classname(found.entry.code.as_str());
                (found.entry.program.as_deref().unwrap_or(OWNERSHIP), case)
            }
        };
        put(&mut report, suite, case);
    }
    for warning in warnings {
        let mut status = TestCaseStatus::skipped();
        status.set_message(warning.lines().next().unwrap_or_default()).set_description(&**warning);
        put(&mut report, OWNERSHIP, TestCase::new(COVERAGE, status));
    }
    text(&counted(report))
}

/// The name of a case that is a place in the source.
fn place(entry: &Entry) -> String {
    let Location { file, line, function, .. } = &entry.location;
    let default = if entry.program.is_some() { "descriptor" } else { "task" };
    let resource = entry.resource.as_deref().unwrap_or(default);
    match (line, function) {
        (0, Some(function)) => format!("{resource} in {function} ({file})"),
        (0, None) => format!("{resource} in {file}"),
        (line, _) => format!("{resource} at {file}:{line}"),
    }
}

/// See [`Document::merge_into`](super::Document::merge_into).
pub(super) fn merge(
    old: &str,
    test: &TestName,
    findings: &[Found],
) -> Result<Option<String>, InputError> {
    let mut report = match old.trim() {
        "" => Report::new(NAME),
        _ => Report::deserialize_from_str(old).map_err(|error| {
            InputError::with_source(format!("it is no JUnit document ({error})"), error)
        })?,
    };
    if report.name.as_str() != NAME {
        let name = report.name.as_str();
        return Err(InputError::new(format!("it is a JUnit document of `{name}`")));
    }
    let mut had = old.trim().is_empty();
    for suite in report.test_suites.iter_mut().filter(|it| it.name.as_str() == test.suite) {
        let before = suite.test_cases.len();
        suite.test_cases.retain(|case| case.name.as_str() != test.name);
        had |= suite.test_cases.len() < before;
    }
    if !findings.is_empty() {
        let mut case = case(test.name.clone(), &findings.iter().collect::<Vec<_>>());
        case.set_classname(test.suite.clone());
        put(&mut report, &test.suite, case);
    } else if !had {
        return Ok(None);
    }
    for suite in &mut report.test_suites {
        suite.test_cases.retain(|case| case.name.as_str() != NO_FINDINGS);
    }
    report.test_suites.retain(|suite| !suite.test_cases.is_empty());
    if report.test_suites.is_empty() {
        put_no_findings(&mut report);
    }
    Ok(Some(text(&counted(report))))
}

/// A test case for the findings of one test, or at one place.
fn case(name: String, all: &[&Found]) -> TestCase {
    let is_new = |found: &&Found| found.baseline_state != BaselineState::Unchanged;
    let is_failing = |found: &&Found| is_new(found) && found.entry.severity == Severity::Error;
    let new: Vec<&Found> = all.iter().copied().filter(is_failing).collect();
    let (mut status, told) = match new.is_empty() {
        true => (TestCaseStatus::skipped(), all),
        false => (TestCaseStatus::non_success(NonSuccessKind::Failure), &new[..]),
    };
    let headline = match told {
        [one] => one.entry.headline.clone(),
        [first, others @ ..] => {
            format!("{}; {}", first.entry.headline, Plural(others.len() as u64, "further finding"))
        }
        [] => String::new(),
    };
    let mut codes: Vec<&str> = told.iter().map(|found| found.entry.code.as_str()).collect();
    codes.dedup();
    match new.is_empty() {
        true => {
            let minor = told.iter().find(|found| is_new(found));
            let why = minor.map_or("known in the baseline", |it| it.entry.severity.as_str());
            status.set_message(format!("{why}: {headline}"))
        }
        false => status.set_type(codes.join(",")).set_message(headline),
    };
    let texts: Vec<String> = told.iter().map(|found| of_one(found)).collect();
    status.set_description(texts.join("\n\n"));
    let mut case = TestCase::new(name, status);
    if let Some(first) = told.first() {
        let location = &first.entry.location;
        case.extra.insert("file".into(), XmlString::new(&location.file));
        case.extra.insert("line".into(), XmlString::new(location.line.to_string()));
    }
    case
}

fn of_one(found: &Found) -> String {
    match found.times {
        1 => found.entry.text.clone(),
        times => format!("{}\n  found {times} times; this was the first", found.entry.text),
    }
}

fn put(report: &mut Report, name: &str, case: TestCase) {
    match report.test_suites.iter_mut().find(|suite| suite.name.as_str() == name) {
        Some(suite) => drop(suite.add_test_case(case)),
        None => {
            let mut suite = TestSuite::new(name);
            suite.add_test_case(case);
            report.add_test_suite(suite);
        }
    }
}

fn put_no_findings(report: &mut Report) {
    put(report, OWNERSHIP, TestCase::new(NO_FINDINGS, TestCaseStatus::success()));
}

/// Counts the test cases again: some may have been removed since.
fn counted(report: Report) -> Report {
    let mut whole = Report::new(report.name);
    for suite in report.test_suites {
        let mut counted = TestSuite::new(suite.name);
        counted.add_test_cases(suite.test_cases);
        whole.add_test_suite(counted);
    }
    whole
}

fn text(report: &Report) -> String {
    match report.to_string() {
        // XML has no noncharacters. The library removes the other invalid characters.
        Ok(text) => text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"),
        Err(error) => unreachable!("text is written to memory: {error}"),
    }
}
