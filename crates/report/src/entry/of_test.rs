//! A test's findings as entries.

use super::{Entry, Location, Step, TestName};
use crate::{Place, Severity, Sources, StackFrame, TestFinding, TestReport, TestVerdict};

impl Entry {
    /// The findings of a test; `suite` is its binary.
    #[must_use]
    pub fn of_test(report: &TestReport, suite: &str, sources: &Sources) -> Vec<Entry> {
        let test = TestName { suite: suite.to_owned(), name: report.test.clone() };
        let one = |finding: &TestFinding| {
            let single = TestReport { findings: vec![finding.clone()], ..report.clone() };
            let text = single.to_string();
            let headline = text.lines().next().unwrap_or_default();
            let code = finding.verdict.code();
            let headline = headline.strip_prefix(&format!("{code}: ")).unwrap_or(headline);
            // The location is the author's line, so a dependency is named here.
            let is_dependency =
                |place: &&Place| place.primary().is_some_and(|it| it.dependency().is_some());
            let place = finding.places.first().filter(is_dependency);
            let by = place.map(|place| format!(", {}", place.summary())).unwrap_or_default();
            let location = location(finding, report);
            Entry {
                code,
                severity: Severity::Error,
                headline: format!("{headline}{by}"),
                help: finding.verdict.help(),
                resource: finding.kind().map(str::to_owned),
                source: sources.line(&location.file, location.line),
                location,
                steps: finding.custody.iter().filter_map(|line| step(line)).collect(),
                // The steps already contain the registry's record.
                stacks: if finding.custody.is_empty() {
                    finding.places.clone()
                } else {
                    Vec::new()
                },
                test: Some(test.clone()),
                program: None,
                text,
            }
        };
        report.findings.iter().map(one).collect()
    }
}

impl TestFinding {
    /// The kind of its descriptors.
    pub fn kind(&self) -> Option<&str> {
        let described = self.descriptors.first().map(|descriptor| &*descriptor.kind);
        // The registry has closed the resource at the end of the test, so no descriptor describes
        // it.
        described.or_else(|| {
            let owned = self.message.strip_prefix("ended and still owned ")?;
            let end = owned.find(" fd ").or_else(|| owned.find(" (resource "))?;
            (self.verdict == TestVerdict::Leak).then_some(&owned[..end])
        })
    }
}

/// Where the descriptor was opened or closed, or else the location of the test.
fn location(finding: &TestFinding, report: &TestReport) -> Location {
    let noted = finding.places.iter().find_map(|place| of_frame(place.own()?));
    let on_record = || finding.custody.iter().find_map(|line| Some(step(line)?.location));
    noted.or_else(on_record).unwrap_or_else(|| Location {
        function: Some(report.test.clone()),
        ..Location::new(&report.file, report.line, 0)
    })
}

/// The location of a stack frame, if known.
pub(super) fn of_frame(frame: &StackFrame) -> Option<Location> {
    let file = frame.file.as_deref()?;
    // A registry reports a task in place of a function, and task numbers change with each run.
    let is_function = !frame.function.is_empty() && !frame.function.starts_with("task ");
    let function = is_function.then(|| frame.function.clone());
    let location = match &frame.package {
        None => Location::new(file, frame.line, frame.column),
        Some(package) => Location {
            file: match &**package {
                StackFrame::STD => format!("library/{file}"),
                package => format!("{}/{file}", package.replace(' ', "-")),
            },
            is_inside: false,
            line: frame.line,
            column: frame.column,
            function: None,
        },
    };
    Some(Location { function, ..location })
}

/// Parses a step of custody from its line of text, which is how the test's process sends it:
/// `acquired by task 3 at src/a.rs:1:2, 0ms ago (thread 9)`.
fn step(line: &str) -> Option<Step> {
    let (label, rest) = line.rsplit_once(" at ")?;
    let (site, rest) = rest.split_once(", ")?;
    let (_, thread) = rest.split_once("(thread ")?;
    let mut parts = site.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    let location = Location::new(parts.next()?, line, column);
    Some(Step {
        label: label.to_owned(),
        location,
        thread: thread.trim_end_matches(')').to_owned(),
    })
}

impl Place {
    /// Each frame with its location, innermost first.
    #[cfg(feature = "ci")]
    pub fn locations(&self) -> impl Iterator<Item = (&StackFrame, Option<Location>)> {
        self.frames.iter().map(|frame| (frame, of_frame(frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CustodyStep, Descriptor, Event, SCHEMA_VERSION, Site, TaskId, TaskLabel};
    use std::num::NonZeroU64;

    #[test]
    fn a_step_is_read_out_of_its_line_as_custody_writes_it() {
        let site = Site::here();
        let id = TaskId::new(NonZeroU64::MIN);
        let written = CustodyStep {
            event: Event::Acquired,
            times: 1,
            from: None,
            to: Some(TaskLabel { id, name: "at home, here".into() }),
            site,
            ago_ms: 0,
            thread_id: 9,
            backtrace: None,
        };
        let step = step(&written.to_string()).unwrap();
        assert_eq!((step.location.line, step.location.column), (site.line(), site.column()));
        assert!(step.location.file.ends_with("src/entry/of_test.rs"), "{}", step.location.file);
        assert_eq!(step.thread, "9");
        assert!(step.label.starts_with("acquired by task "), "{}", step.label);
    }

    #[test]
    fn the_authors_line_is_the_location_and_the_headline_names_the_dependency() {
        let frame = |package: Option<&str>, file: &str| StackFrame {
            function: "f".into(),
            file: Some(file.into()),
            line: 7,
            column: 3,
            is_own: package.is_none(),
            package: package.map(str::to_owned),
            is_guessed: false,
        };
        let finding = TestFinding {
            verdict: TestVerdict::Leak,
            message: String::new(),
            descriptors: vec![Descriptor { kind: "pipe".into(), ..Descriptor::default() }],
            places: vec![Place {
                what: "opened by pipe2".into(),
                thread: "1".into(),
                frames: vec![
                    frame(Some("std"), "std/src/pipe.rs"),
                    frame(Some("ureq 2.6.0"), "src/stream.rs"),
                    frame(None, "src/a.rs"),
                ],
            }],
            custody: Vec::new(),
        };
        let report = TestReport {
            schema_version: SCHEMA_VERSION,
            test: "t".into(),
            file: "tests/t.rs".into(),
            line: 1,
            findings: vec![finding],
            notes: Vec::new(),
        };
        let [entry] = &Entry::of_test(&report, "suite", &Sources::none())[..] else {
            panic!("one finding")
        };
        let expected =
            "test `t` left 1 descriptor open, opened by pipe2 at ureq 2.6.0 src/stream.rs:7";
        assert_eq!(entry.headline, expected);
        assert!(entry.location.file.ends_with("src/a.rs"), "{:?}", entry.location);
        assert_eq!(entry.fingerprint(), "leak | pipe | src/a.rs | fn f");
        let frames = &entry.stacks[0].frames;
        let locations = frames.iter().filter_map(of_frame);
        let paths: Vec<(String, bool)> =
            locations.map(|location| (location.file, location.is_inside)).collect();
        assert_eq!(paths[0], ("library/std/src/pipe.rs".into(), false));
        assert_eq!(paths[1], ("ureq-2.6.0/src/stream.rs".into(), false));
        assert!(paths[2].1);
    }

    #[test]
    fn a_line_of_a_cycle_is_no_step() {
        assert_eq!(step("kept alive by a cycle of references:"), None);
        assert_eq!(step("  Session -> Session at src/a.rs:1:2"), None);
    }
}
