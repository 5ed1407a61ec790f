//! The JSON of `echown run` and its schema.

use std::fs;
use std::path::Path;

use echown::report::{
    BaselineState, Code, Colours, Coverage, CoverageGap, Descriptor, Document, Entry, Format,
    GapKind, HistoryStep, Omitted, Place, RunFinding, RunProcess, RunReport, RunStatus,
    SCHEMA_VERSION, Severity, Sources, StackFrame, Suppression, github,
};

fn process() -> RunProcess {
    RunProcess { pid: 9, program: "/usr/bin/server".into() }
}

fn finding(code: Code, severity: Severity) -> RunFinding {
    let frame = |is_guessed| StackFrame {
        function: "main".into(),
        file: Some("src/main.c".into()),
        line: 3,
        is_own: true,
        is_guessed,
        ..StackFrame::default()
    };
    RunFinding {
        code,
        severity,
        message: "closed fd 7 a second time".into(),
        process: process(),
        descriptors: vec![Descriptor { number: 7, kind: "pipe".into(), ..Descriptor::default() }],
        places: vec![Place {
            what: "closed".into(),
            thread: "9 `server`".into(),
            frames: vec![frame(false), frame(true)],
        }],
        main_place: 0,
        story: vec!["It was closed twice.".into()],
        history: vec![HistoryStep {
            time_us: 12,
            what: "closed".into(),
            thread: "9 `server`".into(),
            site: Some("src/main.c:3".into()),
        }],
        count: 1,
        processes: 1,
    }
}

fn report() -> RunReport {
    let findings = RunFinding::CODES.iter().map(|code| finding(*code, Severity::Error)).collect();
    let kinds = [
        GapKind::IoUring,
        GapKind::Calls32,
        GapKind::NestedTracer,
        GapKind::SeccompNotify,
        GapKind::Missed,
        GapKind::Mismatch,
    ];
    let gap = |kind| CoverageGap { kind, processes: vec![process()], count: 1 };
    RunReport {
        schema_version: SCHEMA_VERSION,
        command: "./server".into(),
        arguments: Some(vec!["--fast".into(), "a b".into()]),
        status: RunStatus::Signalled(15),
        findings,
        omitted: Omitted { notes: 1, suppressed: 2, known: 3 },
        notes: vec!["a note".into()],
        coverage: Coverage { gaps: kinds.map(gap).into(), ..Coverage::default() },
    }
}

#[test]
fn the_json_of_a_run_matches_its_schema_and_has_no_other_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/run.schema.json");
    let schema = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&super::closed(schema)).unwrap();
    let mut without = report();
    without.arguments = None;
    without.status = RunStatus::Exited(0);
    without.coverage.gaps[0].processes = Vec::new();
    for report in [report(), without, RunReport { schema_version: 1, ..RunReport::default() }] {
        let json = serde_json::from_str(&report.to_json()).unwrap();
        let faults: Vec<String> =
            schema.iter_errors(&json).map(|fault| format!("{fault:?}")).collect();
        assert!(faults.is_empty(), "{json:#}\n{faults:#?}");
    }
}

#[test]
fn a_summary_counts_by_severity_and_says_what_is_left_out() {
    let mut report = report();
    report.findings = vec![
        finding(Code::OpenAtExit, Severity::Note),
        finding(Code::DoubleClose, Severity::Error),
        finding(Code::DoubleClose, Severity::Error),
        finding(Code::Leak, Severity::Warning),
    ];
    let was_ended = "`./server --fast \"a b\"` was ended by signal 15 (SIGTERM): ";
    report.omitted = Omitted::default();
    report.omit_notes();
    let expected =
        "2 errors (double-close), 1 warning (leak); 1 note is not shown, `--notes` shows it";
    assert_eq!(report.summary(), format!("{was_ended}{expected}"));
    report.set_failing(|code, _| code == Code::Leak);
    assert!(report.has_errors());
    assert_eq!(report.findings[0].code, Code::Leak);
    report.omit_known(|index| index == 0);
    assert!(!report.has_errors());
    let expected = "2 warnings (double-close); 1 known in the baseline; 1 note is not shown, `--notes` shows it";
    assert_eq!(report.summary(), format!("{was_ended}{expected}"));
}

#[test]
fn a_suppression_without_a_code_matches_what_stays_open_at_any_of_its_frames() {
    let here = Suppression::because("known").site("main (src/main.c");
    let double = here.clone().code(Code::DoubleClose);
    for (suppression, code, is_matched) in [
        (&here, Code::Leak, true),
        (&here, Code::ExecLeak, true),
        (&here, Code::DoubleClose, false),
        (&double, Code::DoubleClose, true),
        (&double, Code::Leak, false),
        (&Suppression::because("known").site("other.c"), Code::Leak, false),
        (&Suppression::because("known").kind("file"), Code::Leak, false),
        (&Suppression::because("known").kind("pipe"), Code::Leak, true),
    ] {
        let mut report = report();
        report.findings = vec![finding(code, Severity::Error)];
        report.suppress(std::slice::from_ref(suppression));
        assert_eq!(report.findings.is_empty(), is_matched, "{suppression} {code}");
        assert_eq!(report.omitted.suppressed, 2 + u64::from(is_matched));
        assert_eq!(report.notes.len(), 1 + usize::from(is_matched), "{:?}", report.notes);
    }
}

#[test]
fn a_warning_of_a_run_is_a_skipped_case_in_the_suite_of_its_program() {
    let mut report = report();
    report.findings =
        vec![finding(Code::Leak, Severity::Warning), finding(Code::DoubleClose, Severity::Error)];
    let mut document = Document::new(Format::Junit);
    for entry in Entry::of_run(&report, &Sources::none()) {
        document.add(entry, BaselineState::NoBaseline);
    }
    let text = document.to_text();
    for expected in [
        "<testsuite name=\"server\" tests=\"2\" disabled=\"1\" errors=\"0\" failures=\"1\">",
        "<skipped message=\"warning: `server` (pid 9) closed fd 7",
        "<failure message=\"`server` (pid 9) closed fd 7 a second time\" type=\"double-close\">",
        "<testcase name=\"pipe at src/main.c:3\" classname=\"leak\"",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
}

#[test]
fn the_source_line_of_the_main_place_is_underlined_below_the_headline() {
    let mut one = finding(Code::DoubleClose, Severity::Warning);
    let text = "\n\n\tclose(f\u{1b}d);\u{202e}\n";
    let sources = Sources::of_texts([("src/main.c".to_owned(), text)]);
    let shown = one.render(&sources, Colours::Never);
    let expected = "warning[double-close]: `server` (pid 9) closed fd 7 a second time\n \
        --> src/main.c:3:2\n  |\n3 |     close(f\u{241b}d);\u{fffd}\n  |     ^^^^^^^^^^^^ closed\n  pipe fd 7";
    assert!(shown.starts_with(expected), "{shown:?}");
    // The column of a call, and of a closing part of one.
    let sources = Sources::of_texts([("src/main.c".to_owned(), "\n\nif (a) close(a);\n")]);
    for (column, marked) in
        [(8, "\n  |        ^^^^^^^^ closed\n"), (13, "\n  | ^^^^^^^^^^^^^^^^ closed\n")]
    {
        one.places[0].frames[0].column = column;
        let shown = one.render(&sources, Colours::Never);
        assert!(shown.contains(marked), "{column}: {shown}");
    }
    // A path of a dependency does not name a file of the program.
    one.places[0].frames.iter_mut().for_each(|frame| frame.is_own = false);
    assert_eq!(one.render(&sources, Colours::Never), one.to_string());
    assert_eq!(one.render(&Sources::none(), Colours::Never), one.to_string());
    let whole = report();
    assert_eq!(whole.render(&Sources::none(), Colours::Never), whole.to_string());
    assert!(one.render(&sources, Colours::Always).contains("\u{1b}["));
}

#[test]
fn documents_and_annotations_warn_that_not_every_call_was_followed() {
    let mut report = report();
    assert_eq!(Coverage::default().warning(), None);
    report.coverage.gaps.truncate(1);
    let warning = report.coverage.warning().expect("there is a gap");
    let document = |format| {
        let mut document = Document::new(format);
        document.add_warning(warning.clone());
        document.to_text()
    };
    let junit = document(Format::Junit);
    for expected in [
        "<testcase name=\"no findings\">",
        "<testcase name=\"coverage\">",
        "<skipped message=\"coverage: not every call was followed",
        "io_uring opens and closes descriptors",
    ] {
        assert!(junit.contains(expected), "no {expected} in\n{junit}");
    }
    let sarif = super::documents::assert_valid(&document(Format::Sarif));
    let invocation = &sarif.runs[0].invocations.as_ref().unwrap()[0];
    let notifications = invocation.tool_execution_notifications.as_ref().unwrap();
    assert_eq!(notifications[0].message.text.as_deref(), Some(&*warning));
    let line = github::warning("coverage", &warning);
    assert!(line.starts_with("::warning title=coverage::coverage: not every call"), "{line}");
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn a_sarif_document_of_a_run_has_the_rules_of_its_results_only() {
    let mut report = report();
    report.findings =
        [Code::Leak, Code::NotOpen, Code::Leak].map(|code| finding(code, Severity::Error)).into();
    report.findings[2].process.program = "/usr/bin/other".into();
    let mut document = Document::new(Format::Sarif);
    for entry in Entry::of_run(&report, &Sources::none()) {
        document.add(entry, BaselineState::NoBaseline);
    }
    let sarif = super::documents::assert_valid(&document.to_text());
    let rules = sarif.runs[0].tool.driver.rules.as_ref().unwrap();
    let ids: Vec<&str> = rules.iter().map(|rule| &*rule.id).collect();
    assert_eq!(ids, ["leak", "not-open"]);
    let results = sarif.runs[0].results.as_ref().unwrap();
    let of_results: Vec<_> = results.iter().filter_map(|result| result.rule_index).collect();
    assert_eq!(of_results, [0, 1, 0]);
}
