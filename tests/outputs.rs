//! The output of tests for CI, and suppression of findings: `ECHOWN_REPORT` and the other
//! variables.
//!
//! This binary is its own test subject: the tests in `scenario` are clean, and commit their fault
//! only on request ([`FAULT`]). The tests below run them in separate processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

#[path = "common/mod.rs"]
mod common;

#[path = "outputs/suppressions.rs"]
mod suppressions;

/// The variable that makes a scenario commit its fault: `leak`, or `more` for a new one.
const FAULT: &str = "ECHOWN_OUTPUTS_FAULT";

fn fault() -> String {
    std::env::var(FAULT).unwrap_or_default()
}

/// Clean, unless a fault is requested.
mod scenario {
    use super::fault;

    fn leak_a_pipe() {
        let (reader, writer) = std::io::pipe().unwrap();
        std::mem::forget((reader, writer));
    }

    fn leak_a_file() {
        std::mem::forget(std::fs::File::open("/dev/null").unwrap());
    }

    #[echown::test]
    fn leaks() {
        if !fault().is_empty() {
            leak_a_pipe();
        }
        if fault() == "more" {
            leak_a_file();
        }
    }

    /// Leaks a resource that the registry has recorded.
    #[echown::test]
    fn forgets() {
        if !fault().is_empty() {
            std::mem::forget(echown::net::Listener::bind("127.0.0.1:0"));
        }
    }

    #[echown::test]
    #[should_panic(expected = "as it should")]
    fn panics_and_leaks() {
        if !fault().is_empty() {
            leak_a_pipe();
        }
        panic!("as it should");
    }

    #[echown::test]
    fn aborts() {
        if !fault().is_empty() {
            std::process::abort();
        }
    }

    /// Without an expected message any panic passes, even one of the harness.
    #[echown::test]
    #[should_panic]
    fn panics_bare() {
        if fault() != "none" {
            panic!("as it should");
        }
    }

    /// The number of concurrent processes.
    macro_rules! crowd {
        ($($name:ident)+) => {$(
            #[echown::test(no_trace, no_rerun)]
            fn $name() {
                if !fault().is_empty() {
                    leak_a_pipe();
                }
            }
        )+};
    }

    crowd!(c00 c01 c02 c03 c04 c05 c06 c07 c08 c09 c10 c11 c12 c13 c14 c15);
}

const CROWD: usize = 16;

/// A folder for one test, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("echown-outputs-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of its files.
    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a scenario as a test runner does, in its own process.
fn run_scenario(scenario: &str, fault: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&*format!("scenario::{scenario}"), "--exact", "--show-output"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env(FAULT, fault).env("RUST_BACKTRACE", "0");
    for other in ["REPORT", "BASELINE", "WRITE_BASELINE", "SUPPRESSIONS"] {
        command.env_remove(format!("ECHOWN_{other}"));
    }
    command.envs(variables.iter().copied()).output().expect("this binary runs again")
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn assert_passes(output: &Output) -> String {
    let text = output_text(output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

#[track_caller]
fn assert_fails(output: &Output) -> String {
    let text = output_text(output);
    assert_eq!(output.status.code(), Some(101), "{text}");
    text
}

fn destination(format: &str, path: &Path) -> String {
    format!("{format}:{}", path.display())
}

/// Many tests at once, each in its own process, and one thread that reads meanwhile.
fn play_many(report: &str, path: &Path, is_whole: impl Fn(&str) -> bool + Sync) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Before the first write there is no file, or an empty one.
            let mut has_begun = false;
            while !is_over.load(Ordering::Relaxed) {
                let text = fs::read_to_string(path).unwrap_or_default();
                has_begun |= !text.is_empty();
                assert!(!has_begun || is_whole(&text) && !text.is_empty(), "incomplete: {text:?}");
                thread::yield_now();
            }
        });
        let one = |number: usize| {
            let scenario = format!("c{number:02}");
            scope.spawn(move || {
                assert_fails(&run_scenario(&scenario, "leak", &[("ECHOWN_REPORT", report)]))
            })
        };
        let all: Vec<_> = (0..CROWD).map(one).collect();
        let all: Vec<_> = all.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(all.iter().all(Result::is_ok));
    });
}

fn sarif_tests(text: &str) -> Vec<String> {
    let sarif: Value = serde_json::from_str(text).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    results.iter().map(|it| it["properties"]["test"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sixteen_processes_write_one_sarif_document_that_is_always_complete() {
    let folder = Folder::new("sarif");
    let path = folder.file("report.sarif");
    let report = destination("sarif", &path);
    play_many(&report, &path, |text| serde_json::from_str::<Value>(text).is_ok());
    let tests = sarif_tests(&fs::read_to_string(&path).unwrap());
    assert_eq!(tests.iter().collect::<BTreeSet<_>>().len(), CROWD, "{tests:?}");
    assert_eq!(tests.len(), CROWD, "each test once: {tests:?}");
    assert_eq!(folder.names().len(), 1, "no temporary file is left: {:?}", folder.names());
    // Again: each replaces its own entry.
    assert_fails(&run_scenario("c03", "leak", &[("ECHOWN_REPORT", &report)]));
    assert_eq!(sarif_tests(&fs::read_to_string(&path).unwrap()).len(), CROWD);
    // Fixed: the finding is removed.
    assert_passes(&run_scenario("c03", "", &[("ECHOWN_REPORT", &report)]));
    let tests = sarif_tests(&fs::read_to_string(&path).unwrap());
    assert_eq!(tests.len(), CROWD - 1);
    assert!(!tests.contains(&"scenario::c03".to_owned()), "{tests:?}");
}

#[test]
fn sixteen_processes_write_one_junit_document_that_is_always_complete() {
    let folder = Folder::new("junit");
    let path = folder.file("report.xml");
    let report = destination("junit", &path);
    play_many(&report, &path, |text| roxmltree::Document::parse(text).is_ok());
    let text = fs::read_to_string(&path).unwrap();
    let xml = roxmltree::Document::parse(&text).unwrap();
    let count = CROWD.to_string();
    assert_eq!(xml.root_element().attribute("failures"), Some(&*count), "{text}");
    let suite = xml.descendants().find(|it| it.has_tag_name("testsuite")).unwrap();
    assert_eq!(suite.attribute("name"), Some("echown::outputs"), "the binary, as nextest calls it");
    assert_eq!(suite.attribute("failures"), Some(&*count));
    assert_passes(&run_scenario("c07", "", &[("ECHOWN_REPORT", &report)]));
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("scenario::c07") && text.contains("scenario::c08"), "{text}");
    assert!(text.contains(&format!("failures=\"{}\"", CROWD - 1)), "{text}");
}

#[test]
fn sixteen_processes_append_complete_records() {
    let folder = Folder::new("records");
    for (format, end) in [("json", "\n"), ("github", "\n"), ("text", "\n\n")] {
        let path = folder.file(format);
        let is_record = |record: &str| match format {
            "json" => {
                serde_json::from_str::<Value>(record).is_ok_and(|it| it["findings"].is_array())
            }
            "github" => record.starts_with("::error file=tests/outputs.rs,line="),
            _ => {
                let is_of_one = record.matches("leak: test `scenario::c").count() == 1;
                is_of_one && record.starts_with("leak: ") && record.contains("\n  help: ")
            }
        };
        // Nothing follows the end of the last record.
        let records =
            |text: &str| -> Vec<String> { text.split_terminator(end).map(str::to_owned).collect() };
        play_many(&destination(format, &path), &path, |text| {
            records(text).iter().all(|record| is_record(record))
        });
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(records(&text).len(), CROWD, "{text}");
    }
}

/// Entries of other tests are parsed and written again each time.
#[test]
fn the_junit_document_keeps_results_of_other_tests_unchanged() {
    let folder = Folder::new("letters");
    let path = folder.file("report.xml");
    let report = destination("junit", &path);
    assert_fails(&run_scenario("leaks", "more", &[("ECHOWN_REPORT", &report)]));
    // Characters with a meaning in XML, and spaces at ends of lines.
    let text = fs::read_to_string(&path).unwrap();
    let signs = "&lt;a&gt; &amp; 'b' \"c\" ]]&gt; \u{e9}  \n   help:";
    let text = text.replace("help:", signs);
    fs::write(&path, &text).unwrap();
    let of_leaks = |text: &str| {
        let xml = roxmltree::Document::parse(text).unwrap();
        let is_case =
            |it: &roxmltree::Node<'_, '_>| it.attribute("name") == Some("scenario::leaks");
        let case = xml.descendants().find(is_case).unwrap();
        let failure = case.children().find(|it| it.has_tag_name("failure")).unwrap();
        let message = failure.attribute("message").unwrap().to_owned();
        (message, failure.text().unwrap().to_owned())
    };
    let before = of_leaks(&text);
    assert!(before.1.contains("<a> & 'b' \"c\" ]]> \u{e9}  \n   help:"), "{before:?}");
    for scenario in ["forgets", "c00"] {
        assert_fails(&run_scenario(scenario, "leak", &[("ECHOWN_REPORT", &report)]));
        assert_eq!(of_leaks(&fs::read_to_string(&path).unwrap()), before);
    }
    assert_passes(&run_scenario("c00", "", &[("ECHOWN_REPORT", &report)]));
    assert_eq!(of_leaks(&fs::read_to_string(&path).unwrap()), before);
}

#[test]
fn a_finding_has_the_line_that_opened_the_fd_and_its_call_stack() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let folder = Folder::new("places");
    let path = folder.file("report.sarif");
    assert_fails(&run_scenario(
        "leaks",
        "leak",
        &[("ECHOWN_REPORT", &destination("sarif", &path))],
    ));
    let text = fs::read_to_string(&path).unwrap();
    let sarif: Value = serde_json::from_str(&text).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "tests/outputs.rs");
    let line = place["region"]["startLine"].as_u64().unwrap();
    let source = include_str!("outputs.rs").lines().nth(line as usize - 1).unwrap();
    assert!(source.contains("std::io::pipe()"), "{line}: {source}");
    let fingerprint = result["partialFingerprints"]["echown/v1"].as_str().unwrap();
    assert_eq!(fingerprint, "leak | pipe | tests/outputs.rs | fn outputs::scenario::leak_a_pipe");
    let frames = result["stacks"][0]["frames"].as_array().unwrap();
    let functions: Vec<&str> = frames
        .iter()
        .filter_map(|it| it["location"]["logicalLocations"][0]["fullyQualifiedName"].as_str())
        .collect();
    let is_test = |function: &&str| function.starts_with("outputs::scenario::leaks");
    assert!(functions.iter().any(is_test), "{functions:?}");
}

#[test]
fn a_registered_resource_is_reported_at_its_acquisition_with_its_custody() {
    let folder = Folder::new("record");
    let path = folder.file("report.sarif");
    assert_fails(&run_scenario(
        "forgets",
        "leak",
        &[("ECHOWN_REPORT", &destination("sarif", &path))],
    ));
    let text = fs::read_to_string(&path).unwrap();
    let sarif: Value = serde_json::from_str(&text).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    let fingerprint = result["partialFingerprints"]["echown/v1"].as_str().unwrap();
    let line = "std::mem::forget(echown::net::Listener::bind(\"127.0.0.1:0\"));";
    assert_eq!(fingerprint, format!("leak | tcp listener | tests/outputs.rs | `{line}`"));
    let way = &result["codeFlows"][0]["threadFlows"][0]["locations"][0]["location"];
    assert!(way["message"]["text"].as_str().unwrap().starts_with("acquired by task "), "{way}");
}

#[test]
fn a_clean_run_writes_a_document_without_findings() {
    let folder = Folder::new("clean");
    for format in ["sarif", "junit"] {
        let path = folder.file(format);
        assert_passes(&run_scenario(
            "leaks",
            "",
            &[("ECHOWN_REPORT", &destination(format, &path))],
        ));
        let text = fs::read_to_string(&path).unwrap();
        let is_whole = match format {
            "sarif" => sarif_tests(&text).is_empty(),
            _ => roxmltree::Document::parse(&text).is_ok(),
        };
        assert!(is_whole, "{text}");
    }
}

/// Some readers treat a document without a case as a failed run.
#[test]
fn a_junit_document_without_findings_has_one_case() {
    let folder = Folder::new("cases");
    let path = folder.file("report.xml");
    let report = destination("junit", &path);
    let cases = |fault: &str| {
        let output = run_scenario("leaks", fault, &[("ECHOWN_REPORT", &report)]);
        assert_eq!(output.status.success(), fault.is_empty(), "{}", output_text(&output));
        let text = fs::read_to_string(&path).unwrap();
        let xml = roxmltree::Document::parse(&text).unwrap();
        let cases = xml.descendants().filter(|it| it.has_tag_name("testcase"));
        cases.map(|it| it.attribute("name").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(cases(""), ["no findings"]);
    assert_eq!(cases(""), ["no findings"], "again");
    assert_eq!(cases("leak"), ["scenario::leaks"]);
    assert_eq!(cases(""), ["no findings"], "fixed");
}

#[test]
fn an_invalid_variable_fails_the_test_and_states_the_valid_form() {
    let folder = Folder::new("wrong");
    for (report, expected) in [
        ("report.xml", "expected FORMAT:FILE, as in `junit:target/echown.xml`, got `report.xml`"),
        ("xml:report", "unknown format `xml`, expected one of: text, json, junit, sarif, github"),
        (
            "sarif:/nonexistent/x",
            "ECHOWN_REPORT: failed to write the report to /nonexistent/x: No such file",
        ),
        ("sarif:/dev/null", "a whole document needs a regular file"),
    ] {
        let output_text = assert_fails(&run_scenario("leaks", "", &[("ECHOWN_REPORT", report)]));
        assert!(output_text.contains(expected), "{output_text}");
    }
    // The error is detected before the test body runs, whose time and report would be lost
    // otherwise.
    let report = ("ECHOWN_REPORT", "json:/nonexistent/x");
    let output_text = assert_fails(&run_scenario("leaks", "leak", &[report]));
    assert!(
        output_text.contains("failed to write the report to /nonexistent/x: No such file"),
        "{output_text}"
    );
    assert!(!output_text.contains("descriptors open"), "{output_text}");
    let fifo = folder.file("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let output_text = assert_fails(&run_scenario(
        "leaks",
        "leak",
        &[("ECHOWN_REPORT", &destination("json", &fifo))],
    ));
    assert!(output_text.contains("no process reads this FIFO"), "{output_text}");
    let baseline = ("ECHOWN_WRITE_BASELINE", "/nonexistent/x");
    let output_text = assert_fails(&run_scenario("leaks", "leak", &[baseline]));
    assert!(!output_text.contains("descriptors open"), "{output_text}");
    // If a panic means success, the harness does not panic.
    for report in ["xml:report", "sarif:/nonexistent/x"] {
        let output_text =
            assert_fails(&run_scenario("panics_bare", "", &[("ECHOWN_REPORT", report)]));
        assert!(output_text.contains("test did not panic as expected"), "{output_text}");
        assert!(
            output_text.contains("unknown format") || output_text.contains("failed to write"),
            "{output_text}"
        );
    }
    assert_passes(&run_scenario("panics_bare", "", &[]));
    assert_fails(&run_scenario("panics_bare", "none", &[]));
    // A document of another program is not touched.
    for (format, text) in [("sarif", "{\"runs\": []}"), ("junit", "[package]"), ("junit", "<a/>")] {
        let path = folder.file("precious");
        fs::write(&path, text).unwrap();
        let report = destination(format, &path);
        let output_text =
            assert_fails(&run_scenario("leaks", "leak", &[("ECHOWN_REPORT", &report)]));
        assert!(output_text.contains("name another file"), "{output_text}");
        assert!(
            output_text.contains("left 2 descriptors open"),
            "its own failure is kept: {output_text}"
        );
        let output_text = assert_fails(&run_scenario("leaks", "", &[("ECHOWN_REPORT", &report)]));
        assert!(output_text.contains("name another file"), "without findings: {output_text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
