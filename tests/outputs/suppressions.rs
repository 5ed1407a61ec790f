//! Findings that fail no test: baselines and suppressions.

use super::*;

#[test]
fn a_baseline_accepts_old_findings_and_fails_on_new_ones() {
    let folder = Folder::new("baseline");
    let (path, report) = (folder.file("known.toml"), folder.file("report.sarif"));
    let known = path.to_str().unwrap();
    let output_text =
        assert_passes(&run_scenario("leaks", "leak", &[("ECHOWN_WRITE_BASELINE", known)]));
    assert!(
        output_text.contains("added to the baseline: leak: test `scenario::leaks` left"),
        "{output_text}"
    );
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.contains("code = \"leak\"\nresource = \"pipe\"\n"), "{written}");
    // A second test adds its own, and adding it again changes nothing.
    for _ in 0..2 {
        assert_passes(&run_scenario("forgets", "leak", &[("ECHOWN_WRITE_BASELINE", known)]));
    }
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written.matches("[[known]]").count(), 2, "{written}");
    common::doc_pages::assert_page_shows("docs/ci.md", "a baseline", "toml", &written);

    let wishes = [("ECHOWN_BASELINE", known), ("ECHOWN_REPORT", &destination("sarif", &report))];
    let output_text = assert_passes(&run_scenario("leaks", "leak", &wishes));
    assert!(
        output_text.contains("known in the baseline: leak: test `scenario::leaks` left"),
        "{output_text}"
    );
    assert_passes(&run_scenario("forgets", "leak", &wishes));
    let output_text = assert_fails(&run_scenario("leaks", "more", &wishes));
    assert!(
        output_text.contains("left 1 descriptor open") && output_text.contains("/dev/null"),
        "{output_text}"
    );
    assert!(
        !output_text.contains("pipe fd"),
        "known findings are not in the report: {output_text}"
    );
    let sarif: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let states = results.iter().map(|it| {
        let kind = it["partialFingerprints"]["echown/v1"].as_str().unwrap();
        (kind.split(" | ").nth(1).unwrap(), it["baselineState"].as_str().unwrap())
    });
    let wanted = [("device", "new"), ("pipe", "unchanged"), ("tcp listener", "unchanged")];
    assert_eq!(states.collect::<BTreeSet<_>>(), BTreeSet::from(wanted));
}

#[test]
fn no_baseline_makes_a_crashed_test_pass() {
    let folder = Folder::new("process-exited");
    let path = folder.file("known.toml");
    let known = path.to_str().unwrap();
    // The entry that would match the next one.
    fs::write(
        &path,
        "version = 1\n\n[[known]]\ncode = \"process-exited\"\nfile = \"tests/outputs.rs\"\nline = 1\n\
         function = \"scenario::aborts\"\n",
    )
    .unwrap();
    for variable in ["ECHOWN_BASELINE", "ECHOWN_WRITE_BASELINE"] {
        let output_text = assert_fails(&run_scenario("aborts", "abort", &[(variable, known)]));
        assert!(
            output_text
                .contains("process-exited: test `scenario::aborts` was terminated by signal 6"),
            "{output_text}"
        );
        assert!(!output_text.contains("the baseline: process-exited"), "{output_text}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap().matches("[[known]]").count(), 1);
}

#[test]
fn sixteen_processes_write_one_baseline() {
    let folder = Folder::new("crowd");
    let path = folder.file("known.toml");
    let known = path.to_str().unwrap();
    thread::scope(|scope| {
        for number in 0..CROWD {
            let scenario = format!("c{number:02}");
            scope.spawn(move || {
                assert_passes(&run_scenario(
                    &scenario,
                    "leak",
                    &[("ECHOWN_WRITE_BASELINE", known)],
                ));
            });
        }
    });
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written.matches("[[known]]").count(), CROWD, "{written}");
    for scenario in ["c00", "c15"] {
        assert_passes(&run_scenario(scenario, "leak", &[("ECHOWN_BASELINE", known)]));
    }
    assert_fails(&run_scenario("leaks", "leak", &[("ECHOWN_BASELINE", known)]));
}

#[test]
fn a_suppression_file_of_the_server_applies_to_tests_too() {
    let folder = Folder::new("suppressed");
    let path = folder.file("suppressions.toml");
    let suppressions = path.to_str().unwrap();
    fs::write(
        &path,
        "[[suppress]]\nkind = \"pipe\"\nreason = \"they are for the child\"\n\n\
         [[suppress]]\nkind = \"tcp listener\"\nsite = \"tests/outputs.rs\"\nreason = \"permanent\"\n",
    )
    .unwrap();
    let wishes = [("ECHOWN_SUPPRESSIONS", suppressions)];
    let output_text = assert_passes(&run_scenario("leaks", "leak", &wishes));
    assert!(output_text.contains("suppressed: pipe fd "), "{output_text}");
    assert!(output_text.contains("they are for the child (kind `pipe`)"), "{output_text}");
    assert_passes(&run_scenario("forgets", "leak", &wishes));
    let output_text = assert_fails(&run_scenario("leaks", "more", &wishes));
    assert!(
        output_text.contains("left 1 descriptor open") && output_text.contains("/dev/null"),
        "{output_text}"
    );
}

#[test]
fn a_should_panic_test_with_a_suppressed_leak_still_panics() {
    let folder = Folder::new("panics");
    let path = folder.file("suppressions.toml");
    fs::write(&path, "[[suppress]]\nkind = \"pipe\"\nreason = \"known\"\n").unwrap();
    let wishes = [("ECHOWN_SUPPRESSIONS", path.to_str().unwrap())];
    assert_passes(&run_scenario("panics_and_leaks", "leak", &wishes));
    assert_fails(&run_scenario("panics_and_leaks", "leak", &[]));
}

#[test]
fn a_file_that_cannot_be_read_is_reported_with_its_variable() {
    for (name, expected) in [
        (
            "ECHOWN_BASELINE",
            "ECHOWN_BASELINE: failed to read the baseline /nonexistent/file: No such",
        ),
        ("ECHOWN_SUPPRESSIONS", "failed to read the suppressions in /nonexistent/file: No such"),
        ("ECHOWN_WRITE_BASELINE", "failed to write the baseline /nonexistent/file: No such"),
    ] {
        let output_text =
            assert_fails(&run_scenario("leaks", "leak", &[(name, "/nonexistent/file")]));
        assert!(output_text.contains(expected), "{output_text}");
    }
}
