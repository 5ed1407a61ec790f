//! An entry: one finding for CI systems, with one cause, one source line and one text.
//!
//! A server's [`Report`] and a test's [`TestReport`](super::TestReport) contain different data. A
//! CI system shows the same parts of both, which are the fields of an entry. The text contains the
//! rest.

use super::paths;
use super::sources::Sources;
use super::test_report::Place;
use super::text::{Headline, Passing, Times};
use crate::{Code, CustodyStep, LeakReport, Report, ResourceData, Severity, ViolationReport};

mod of_run;
mod of_test;

/// One finding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// How severe it is: findings of servers and tests are errors.
    pub severity: Severity,
    /// What happened, in one line.
    pub headline: String,
    /// The full report, as plain text.
    pub text: String,
    /// The most frequent fix.
    pub help: &'static str,
    /// The kind of the resource: `tcp stream`, `pipe`, the name of a type.
    pub resource: Option<String>,
    /// The line that matters most: where a leaked resource was acquired, or the rule was broken.
    pub location: Location,
    /// The resource's chain of custody, oldest first.
    pub steps: Vec<Step>,
    /// Recorded stacks of the calls that led to the finding.
    pub stacks: Vec<Place>,
    /// For a test's finding: the test.
    pub test: Option<TestName>,
    /// For a finding of `echown run`: the file name of the program.
    pub program: Option<String>,
    /// The source line at the location without surrounding white space, if the source is available.
    pub source: Option<String>,
}

/// A location in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The path: relative to the top of the repository; for a dependency, it begins with the name
    /// of its package.
    pub file: String,
    /// Whether the file is in the repository.
    pub is_inside: bool,
    /// Line, counted from 1; 0 when not known.
    pub line: u32,
    /// Column, counted from 1; 0 when not known.
    pub column: u32,
    /// The function, if known.
    pub function: Option<String>,
}

/// One step of a resource's chain of custody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What was done, and by which task.
    pub label: String,
    /// Where it was done.
    pub location: Location,
    /// The kernel id of the thread that did it.
    pub thread: String,
}

/// A test, identified across all test binaries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TestName {
    /// The binary: `PACKAGE`, `PACKAGE::TEST`, `PACKAGE::bin/PROGRAM`.
    pub suite: String,
    /// The test's name in its runner.
    pub name: String,
}

impl TestName {
    /// The test `name` of the binary `suite`.
    #[must_use]
    pub fn new(suite: &str, name: &str) -> TestName {
        TestName { suite: suite.to_owned(), name: name.to_owned() }
    }
}

impl Location {
    /// A location from a path as the compiler or debug information contains it.
    #[must_use]
    pub fn new(file: &str, line: u32, column: u32) -> Location {
        let shown = paths::shown(file);
        Location { file: shown.path, is_inside: shown.is_inside, line, column, function: None }
    }
}

impl Entry {
    /// The findings of a report: one for each leaked resource.
    #[must_use]
    pub fn of_report(report: &Report, sources: &Sources) -> Vec<Entry> {
        match report {
            Report::Leak(leak) => {
                leak.resources.iter().map(|left| of_leak(leak, left, sources)).collect()
            }
            Report::Violation(report) | Report::FdReplaced(report) | Report::Finalizer(report) => {
                vec![of_violation(report, sources)]
            }
        }
    }

    /// The text without the code, because SARIF and annotations have a separate field for the code:
    /// the headline followed by `end`, then the details.
    pub(super) fn body(&self, end: &str) -> String {
        let details = self.text.split_once('\n').map_or("", |(_, details)| details);
        format!("{}{end}\n{details}", self.headline)
    }

    /// Identifies the same finding in another run, on another machine, and after other lines of the
    /// file have changed. It consists of the code, the kind of resource, the file, and an anchor:
    /// the function, or else the text of the source line, or else its number.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let resource = self.resource.as_deref().unwrap_or("-");
        let anchor = match (&self.location.function, &self.source) {
            (Some(function), _) => format!("fn {function}"),
            (None, Some(source)) => format!("`{source}`"),
            (None, None) => format!("line {}", self.location.line),
        };
        format!("{} | {resource} | {} | {anchor}", self.code, self.location.file)
    }
}

fn of_leak(report: &LeakReport, left: &ResourceData, sources: &Sources) -> Entry {
    let single = LeakReport { resources: vec![left.clone()], ..report.without_resources() };
    let site = left.acquired;
    Entry {
        code: Code::Leak,
        severity: Severity::Error,
        headline: format!("{} ended and still owned {}", report.task, Headline(left)),
        text: single.to_string(),
        help: Code::Leak.explanation().help,
        resource: Some(left.kind.to_owned()),
        location: Location::new(site.file(), site.line(), site.column()),
        steps: left.custody.iter().map(step).collect(),
        stacks: Vec::new(),
        test: None,
        program: None,
        source: sources.line(site.file(), site.line()),
    }
}

fn of_violation(report: &ViolationReport, sources: &Sources) -> Entry {
    let resource = report.resource.as_ref();
    Entry {
        code: report.code,
        severity: Severity::Error,
        headline: report.headline(),
        text: report.to_string(),
        help: report.code.explanation().help,
        resource: resource.map(|resource| resource.kind.to_owned()),
        location: Location::new(report.site.file(), report.site.line(), report.site.column()),
        steps: resource.map(|it| it.custody.iter().map(step).collect()).unwrap_or_default(),
        stacks: Vec::new(),
        test: None,
        program: None,
        source: sources.line(report.site.file(), report.site.line()),
    }
}

fn step(step: &CustodyStep) -> Step {
    let who = match (&step.from, &step.to) {
        _ if step.event.has_process() => Passing(step).to_string(),
        (Some(from), Some(to)) if from.id != to.id => format!(" by {from} to {to}"),
        (Some(by), _) | (None, Some(by)) => format!(" by {by}"),
        (None, None) => String::new(),
    };
    Step {
        label: format!("{}{}{who}", step.event, Times(step.times)),
        location: Location::new(step.site.file(), step.site.line(), step.site.column()),
        thread: step.thread_id.to_string(),
    }
}
