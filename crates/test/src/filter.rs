//! The filter of findings: removes findings that match a suppression or the baseline. Pure.

use super::env_settings::EnvSettings;
#[cfg(feature = "ci")]
use echown_report::Suppression;
use echown_report::TestReport;
#[cfg(feature = "ci")]
use echown_report::{Baseline, Entry, TestFinding, TestVerdict};

/// A report without suppressed and baseline findings.
#[derive(Debug, Default)]
pub(super) struct Filtered {
    /// The remaining report, if a finding remains.
    pub(super) report: Option<TestReport>,
    /// Findings that match the baseline, or are to be added to it.
    #[cfg(feature = "ci")]
    pub(super) known: Vec<Entry>,
    /// What was filtered, and why.
    pub(super) notes: Vec<String>,
}

/// Filters by suppressions first, because they have reasons, then by the baseline.
#[cfg(feature = "ci")]
pub(super) fn filter(mut report: TestReport, suite: &str, settings: &EnvSettings) -> Filtered {
    let mut notes = Vec::new();
    for finding in &mut report.findings {
        suppress(finding, &settings.suppressions, &mut notes);
    }
    // A suppression may have removed all descriptors of a finding.
    report.findings.retain(|finding| !(is_of_leak(finding) && finding.kind().is_none()));
    let entries = Entry::of_test(&report, suite, &settings.sources);
    let is_known = |(finding, entry): (&TestFinding, &Entry)| {
        let by_baseline = |baseline: &Baseline| baseline.record_match(entry);
        returned(finding)
            && (settings.write_baseline.is_some()
                || settings.baseline.as_ref().is_some_and(by_baseline))
    };
    let known: Vec<bool> = report.findings.iter().zip(&entries).map(is_known).collect();
    let mut at = known.iter();
    report.findings.retain(|_| !at.next().copied().unwrap_or_default());
    let all = entries.into_iter().zip(&known);
    let known: Vec<Entry> = all.filter(|(_, known)| **known).map(|(entry, _)| entry).collect();
    let what = if settings.write_baseline.is_some() { "added to" } else { "known in" };
    notes.extend(
        known.iter().map(|it| format!("{what} the baseline: {}: {}", it.code, it.headline)),
    );
    if report.findings.is_empty() {
        return Filtered { report: None, known, notes };
    }
    report.notes.append(&mut notes);
    Filtered { report: Some(report), known, notes }
}

/// Filters nothing: without the feature `ci` there are no suppressions and no baseline.
#[cfg(not(feature = "ci"))]
pub(super) fn filter(report: TestReport, _: &str, _: &EnvSettings) -> Filtered {
    Filtered { report: Some(report), notes: Vec::new() }
}

#[cfg(feature = "ci")]
fn is_of_leak(finding: &TestFinding) -> bool {
    matches!(finding.verdict, TestVerdict::Leak | TestVerdict::ExecLeak | TestVerdict::InheritedFd)
}

/// Whether the test returned. If it did not, a baseline entry would contain only the test's name,
/// and would match the next crash even if its cause is another one.
#[cfg(feature = "ci")]
fn returned(finding: &TestFinding) -> bool {
    !matches!(finding.verdict, TestVerdict::ProcessExited | TestVerdict::Hang)
}

/// Removes the parts of a finding that a suppression matches.
#[cfg(feature = "ci")]
fn suppress(finding: &mut TestFinding, known: &[Suppression], notes: &mut Vec<String>) {
    if !is_of_leak(finding) || known.is_empty() {
        return;
    }
    // The author's line, and the dependency that the report names.
    let frames =
        finding.places.iter().flat_map(|place| place.own().into_iter().chain(place.primary()));
    let sites: Vec<String> = frames.map(ToString::to_string).collect();
    let sites = if sites.is_empty() { finding.custody.join("\n") } else { sites.join("\n") };
    let reason = |kind: &str, places: &[&str]| {
        known.iter().find(|it| it.matches(kind, places, &sites)).map(ToString::to_string)
    };
    finding.descriptors.retain(|descriptor| {
        let reason = reason(&descriptor.kind, &descriptor.places());
        notes.extend(reason.iter().map(|reason| format!("suppressed: {descriptor}: {reason}")));
        reason.is_none()
    });
    // A resource that the registry closed at the end of the test.
    let of_record = finding.descriptors.is_empty().then(|| finding.kind().map(str::to_owned));
    if let Some(reason) = of_record.flatten().and_then(|kind| reason(&kind, &[])) {
        notes.push(format!("suppressed: {}: {reason}", finding.message));
        finding.message.clear();
    }
}

#[cfg(all(test, feature = "ci"))]
mod tests {
    use super::*;
    use echown_report::{Descriptor, Place, Sources, StackFrame};

    fn leak(kind: &str, path: &str, function: &str) -> TestFinding {
        let descriptor = Descriptor {
            number: 5,
            kind: kind.to_owned(),
            path: Some(path.to_owned()),
            ..Descriptor::default()
        };
        let frame = StackFrame {
            function: function.to_owned(),
            file: Some("src/a.rs".to_owned()),
            line: 7,
            is_own: true,
            ..StackFrame::default()
        };
        TestFinding {
            verdict: TestVerdict::Leak,
            message: String::new(),
            descriptors: vec![descriptor],
            places: vec![Place { frames: vec![frame], ..Place::default() }],
            custody: Vec::new(),
        }
    }

    fn report(findings: Vec<TestFinding>) -> TestReport {
        TestReport {
            schema_version: 1,
            test: "t".to_owned(),
            file: "tests/t.rs".to_owned(),
            line: 1,
            findings,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_suppression_removes_matches_and_notes_the_reason() {
        let log =
            Suppression::because("it is the log").kind("file").path("/var/log").site("a.rs:7");
        let settings = EnvSettings { suppressions: vec![log], ..EnvSettings::none() };
        let (log, other) = (leak("file", "/var/log/x", "f"), leak("file", "/etc/x", "f"));
        let filtered = filter(report(vec![log.clone()]), "s", &settings);
        assert!(filtered.report.is_none());
        assert!(
            filtered.notes[0].starts_with("suppressed: file fd 5, /var/log/x: it is the log (")
        );
        let both = TestFinding {
            descriptors: [log.descriptors.clone(), other.descriptors.clone()].concat(),
            ..other.clone()
        };
        let left = filter(report(vec![both]), "s", &settings).report.unwrap();
        assert_eq!(left.findings, [other]);
        assert!(left.notes[0].starts_with("suppressed: "), "{:?}", left.notes);
    }

    #[test]
    fn a_resource_closed_at_the_end_is_suppressed_by_its_kind_and_site() {
        let owned = TestFinding {
            message: "ended and still owned tcp stream fd 5, which was then closed".to_owned(),
            descriptors: Vec::new(),
            places: Vec::new(),
            custody: vec!["acquired by task 2 at src/a.rs:3:1, 0ms ago (thread 4)".to_owned()],
            ..leak("", "", "")
        };
        let by = |known: Suppression| {
            let settings = EnvSettings { suppressions: vec![known], ..EnvSettings::none() };
            filter(report(vec![owned.clone()]), "s", &settings).report
        };
        assert!(by(Suppression::because("x").kind("tcp stream").site("src/a.rs:3")).is_none());
        assert!(by(Suppression::because("x").kind("pipe")).is_some());
        assert!(by(Suppression::because("x").site("src/b.rs")).is_some());
    }

    #[test]
    fn findings_of_the_baseline_are_removed_and_new_ones_stay() {
        let (old, new) = (leak("pipe", "p", "f"), leak("pipe", "p", "g"));
        let entries = Entry::of_test(&report(vec![old.clone()]), "s", &Sources::none());
        let text = Baseline::written("", &entries).unwrap();
        let baseline = Baseline::parse(&text, &Sources::none()).unwrap();
        let settings = EnvSettings { baseline: Some(baseline), ..EnvSettings::none() };
        assert!(filter(report(vec![old.clone()]), "s", &settings).report.is_none());
        let filtered = filter(report(vec![old, new.clone()]), "s", &settings);
        assert_eq!(filtered.report.unwrap().findings, [new]);
        assert_eq!(filtered.known.len(), 1);
    }

    fn bare(verdict: TestVerdict) -> TestFinding {
        TestFinding {
            verdict,
            message: "did not return".to_owned(),
            descriptors: Vec::new(),
            places: Vec::new(),
            custody: Vec::new(),
        }
    }

    #[test]
    fn a_finding_that_no_suppression_matches_stays() {
        let settings =
            EnvSettings { suppressions: vec![Suppression::because("all")], ..EnvSettings::none() };
        let hang = bare(TestVerdict::Hang);
        assert!(filter(report(vec![hang]), "s", &settings).report.is_some());
    }

    #[test]
    fn a_test_that_did_not_return_matches_no_baseline() {
        for (verdict, is_known) in [
            (TestVerdict::ProcessExited, false),
            (TestVerdict::Hang, false),
            (TestVerdict::UnjoinedTask, true),
        ] {
            let found = report(vec![bare(verdict)]);
            let entries = Entry::of_test(&found, "s", &Sources::none());
            let text = Baseline::written("", &entries).unwrap();
            let baseline = Some(Baseline::parse(&text, &Sources::none()).unwrap());
            let known = EnvSettings { baseline, ..EnvSettings::none() };
            let entered =
                EnvSettings { write_baseline: Some("known.toml".into()), ..EnvSettings::none() };
            for settings in [known, entered] {
                let filtered = filter(found.clone(), "s", &settings);
                assert_eq!(filtered.report.is_none(), is_known, "{verdict}");
                assert_eq!(filtered.known.len(), usize::from(is_known), "{verdict}");
            }
        }
    }
}
