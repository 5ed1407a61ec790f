//! A scenario for every finding, and `docs/reports.md` with the actual reports.
//!
//! `ci/pages` writes the page. Values that differ from run to run (numbers of tasks, threads,
//! descriptors and ports, identities, ages) are renumbered in each report, so that the page changes
//! only when a report does.

use std::fs;
use std::io::{Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use common::doc_pages::KERNELS;
use common::fd_misuse;
use echown::net::{Listener, Stream};
use echown::ownership::graph::{Edge, Node, TrackedArc};
use echown::ownership::{ErrorKind, Level, Lot, Registry, Report, Unparked};
use echown::pool::Pool;
use echown::report::explain::{EXPLANATIONS, Explanation};
use echown::report::{Code, Colours, RunFinding, Sources, TestVerdict};

#[path = "common/mod.rs"]
mod common;

/// Scenarios free numbers that others could get, so they run one at a time.
static SERIAL: Mutex<()> = Mutex::new(());

type Scenario = fn(&Registry);

/// The scenario of each code. Errors that are not findings have none.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("leak", a_connection_that_its_task_forgot),
    ("double-release", closed_twice),
    ("use-after-release", written_after_the_close),
    ("not-owner", used_by_a_thread_without_ownership),
    ("fd-replaced", replaced_outside_the_registry),
    ("already-owned", a_second_value_of_one_number),
    ("dropped-by-non-owner", dropped_by_a_non_owner),
    ("unclaimed", offered_and_not_claimed),
    ("in-use", released_inside_with),
    ("duplicate-give", given_twice),
    ("is-split", given_whole_while_split),
    ("mismatched-halves", halves_of_two_clients_rejoined),
    ("no-parent", transferred_by_a_root),
    ("not-a-child", joined_by_another_task),
    ("not-open", owned_after_it_was_closed),
    ("finalizer-failed", a_finalizer_that_fails),
    ("finalizer-panicked", a_finalizer_that_panics),
];

fn a_connection_that_its_task_forgot(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().inet().unwrap();
    let mut client = Stream::connect(address).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    let echo = pool.spawn_named("echo", [stream.resource()], move || {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        mem::forget(stream);
    });
    drop(echo.unwrap().join());
}

fn closed_twice(_: &Registry) {
    let (ours, _theirs) = Stream::pair().unwrap();
    ours.close().unwrap();
    assert_eq!(ours.close().unwrap_err().kind(), ErrorKind::DoubleRelease);
}

fn written_after_the_close(_: &Registry) {
    let (ours, _theirs) = Stream::pair().unwrap();
    ours.close().unwrap();
    (&ours).write(b"late").unwrap_err();
}

fn used_by_a_thread_without_ownership(_: &Registry) {
    let (ours, _theirs) = Stream::pair().unwrap();
    std::thread::scope(|threads| {
        let other = std::thread::Builder::new().name("other".to_owned());
        other.spawn_scoped(threads, || (&ours).write(b"mine").unwrap_err()).unwrap();
    });
}

fn replaced_outside_the_registry(registry: &Registry) {
    let file = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let owned = registry.own_fd(file).unwrap();
    let new_file = fs::File::open("/dev/zero").unwrap();
    owned.with(|ours| rustix::io::dup2(&new_file, ours).unwrap()).unwrap();
    assert_eq!(owned.release().unwrap_err().kind(), ErrorKind::FdReplaced);
}

fn a_second_value_of_one_number(registry: &Registry) {
    let (ours, _theirs) = std::io::pipe().unwrap();
    let number = ours.as_raw_fd();
    let _first = registry.own_fd(ours).unwrap();
    let rejected = registry.own_fd(fd_misuse::second_owner(number)).unwrap_err();
    mem::forget(rejected.into_value());
}

fn dropped_by_a_non_owner(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let (ours, _theirs) = Stream::pair().unwrap();
    pool.spawn_named("cleaner", [], move || drop(ours)).unwrap().join().unwrap();
}

fn offered_and_not_claimed(_: &Registry) {
    let (ours, _theirs) = Stream::pair().unwrap();
    let offer = ours.offer().unwrap();
    drop(offer);
}

fn released_inside_with(registry: &Registry) {
    let words = registry.own(vec!["ours"]).unwrap();
    words.with(|_| words.release().unwrap_err()).unwrap();
}

fn given_twice(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let words = registry.own(vec!["ours"]).unwrap();
    pool.spawn([words.resource(), words.resource()], || ()).unwrap_err();
}

fn given_whole_while_split(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let (ours, _theirs) = Stream::pair().unwrap();
    let whole = ours.resource();
    let (_reading, _writing) = ours.split().unwrap();
    pool.spawn([whole], || ()).unwrap_err();
}

fn halves_of_two_clients_rejoined(_: &Registry) {
    let (first, second) = Stream::pair().unwrap();
    let (reading, _) = first.split().unwrap();
    let (_, writing) = second.split().unwrap();
    reading.rejoin(writing).unwrap_err();
}

fn transferred_by_a_root(registry: &Registry) {
    let words = registry.own(vec!["ours"]).unwrap();
    words.transfer().unwrap_err();
}

fn joined_by_another_task(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let child = pool.spawn_named("child", [], || ()).unwrap();
    let joined = std::thread::scope(|threads| {
        let other_task = std::thread::Builder::new().name("other".to_owned());
        let other_task = other_task.spawn_scoped(threads, || child.join()).unwrap();
        other_task.join().unwrap()
    });
    match joined {
        Err(echown::ownership::TaskError::Refused(child, _)) => child.join().unwrap(),
        outcome => panic!("{outcome:?}"),
    }
}

fn owned_after_it_was_closed(registry: &Registry) {
    let nobodys = fd_misuse::second_owner(1_000_000_000);
    let rejected = registry.own_fd(nobodys).unwrap_err();
    let _ = rejected.into_value().unwrap().into_raw_fd();
}

fn a_finalizer_that_fails(registry: &Registry) {
    let finalizer = |_| Err(std::io::Error::other("the disk is full"));
    drop(registry.own_with(vec!["last words"], finalizer).unwrap());
}

fn a_finalizer_that_panics(registry: &Registry) {
    drop(registry.own_with(vec!["last words"], |_| panic!("surprised")).unwrap());
}

/// A connection that keeps itself alive, in a registry that records references.
struct Session {
    _stream: Stream,
    _holds: Edge,
    itself: OnceLock<TrackedArc<Session>>,
}

fn a_connection_in_a_cycle(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let (ours, _theirs) = Stream::pair().unwrap();
    let child = pool.spawn_named("session", [ours.resource()], move || {
        let node = Node::new("Session");
        let holds = node.strong_edge(&Node::of(&ours.resource()));
        let itself = OnceLock::new();
        let session = TrackedArc::new(node, Session { _stream: ours, _holds: holds, itself });
        let again = session.clone_for(session.node());
        assert!(session.itself.set(again).is_ok());
    });
    drop(child.unwrap().join());
}

fn two_forgotten_resources(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let (ours, theirs) = Stream::pair().unwrap();
    let child = pool.spawn_named("hoarder", [ours.resource(), theirs.resource()], move || {
        mem::forget((ours, theirs));
    });
    drop(child.unwrap().join());
}

/// Every scenario, including those without a code of their own.
fn all_scenarios() -> impl Iterator<Item = Scenario> + Clone {
    let others: [Scenario; 3] = [a_connection_in_a_cycle, two_forgotten_resources, left_in_a_lot];
    SCENARIOS.iter().map(|(_, scenario)| *scenario).chain(others)
}

/// Runs a scenario as a separate task and returns the reports.
fn run_scenario(level: Level, scenario: Scenario) -> Vec<Report> {
    let _alone = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let reports: &'static Mutex<Vec<Report>> = Box::leak(Box::default());
    let sink = |report: &Report| reports.lock().unwrap().push(report.clone());
    let registry = Registry::builder().level(level).sink(sink).build();
    let outcome = registry.run("main", || scenario(&registry));
    assert!(outcome.is_ok(), "{outcome:?}");
    reports.lock().unwrap().clone()
}

/// The one report of a scenario.
fn reported(code: &str) -> Option<Report> {
    let (_, scenario) = SCENARIOS.iter().find(|(of, _)| *of == code)?;
    let mut reports = run_scenario(Level::On, *scenario);
    let found = reports.iter().position(|report| report.code().as_str() == code);
    let found = found.unwrap_or_else(|| panic!("{code} was not reported: {reports:?}"));
    Some(reports.swap_remove(found))
}

// The page.

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for known in EXPLANATIONS {
        page += &format!("| [`{0}`](#{0}) | {1} |\n", known.code, known.summary);
    }
    for known in EXPLANATIONS {
        page += &section(known);
    }
    page
}

fn section(known: &Explanation) -> String {
    // One level below the code's own headline.
    let text = known.text.trim_end().replace("## ", "### ");
    let mut report = match reported(known.code.as_str()) {
        Some(report) => shown(&report),
        None if ErrorKind::ALL.iter().any(|kind| kind.code() == known.code) => {
            "An error that a correct program can get: it is not reported.".to_owned()
        }
        None if is_of_test(known.code) => {
            "A finding of `#[echown::test]`; see [adopting.md](adopting.md#findings).".to_owned()
        }
        None => String::new(),
    };
    if RunFinding::CODES.contains(&known.code) {
        let separator = if report.is_empty() { "" } else { "\n\n" };
        report += &format!("{separator}`echown run` reports it about any program.");
    }
    if known.code == Code::Leak {
        let reports = run_scenario(Level::On, a_connection_in_a_cycle);
        report +=
            "\n\nWhere references are recorded (`ownership::graph`), it says what kept it:\n\n";
        report += &shown(&reports[0]);
    }
    format!("\n## {}\n\n{report}\n\n{text}\n", known.code)
}

fn is_of_test(code: Code) -> bool {
    TestVerdict::ALL.iter().any(|verdict| verdict.code() == code)
}

fn shown(report: &Report) -> String {
    let rendered = report.render(&Sources::nearby(), Colours::Never);
    format!("```text\n{}\n```", steady(&rendered))
}

const INTRODUCTION: &str = include_str!("reports/introduction.md");

/// The text with all values renumbered from 1 that differ from run to run.
fn steady(text: &str) -> String {
    let own = ["task ", "resource ", "half of ", "127.0.0.1:"];
    common::doc_pages::steady(text, &[&own[..], KERNELS].concat())
}

#[test]
fn the_reports_page_matches_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reports.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    if let Some((is, should)) = written.lines().zip(page.lines()).find(|(is, should)| is != should)
    {
        panic!(
            "docs/reports.md is out of date; `ci/pages` writes it.\n\
             it says:   {is}\nit should: {should}"
        );
    }
    assert_eq!(written.len(), page.len(), "docs/reports.md is out of date, see above in this file");
}

#[test]
fn every_finding_code_has_a_scenario_and_error_only_codes_have_none() {
    for kind in ErrorKind::ALL {
        let is_played = SCENARIOS.iter().any(|(code, _)| *code == kind.code().as_str());
        let is_reported = kind.is_violation() || kind.code().as_str().starts_with("finalizer");
        assert_eq!(is_played, is_reported, "{}", kind.code());
    }
}

// The same facts in every format.

/// Fields of the JSON that are not separate facts.
const NO_FACTS: &[&str] = &["schema_version", "is_in_cycle", "strength"];

/// Every fact of a report's JSON, by name.
fn facts(name: &str, value: &serde_json::Value, facts: &mut Vec<(String, String)>) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            for (name, value) in
                fields.iter().filter(|(name, _)| !NO_FACTS.contains(&name.as_str()))
            {
                self::facts(name, value, facts);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| self::facts(name, value, facts)),
        Value::Null => {}
        Value::Number(number) => facts.push((name.to_owned(), number.to_string())),
        Value::String(text) => facts.push((name.to_owned(), text.clone())),
        Value::Bool(fact) => facts.push((name.to_owned(), fact.to_string())),
    }
}

/// How a fact is written in the text.
fn in_text(name: &str, fact: &str) -> Option<String> {
    match name {
        "age_ms" | "ago_ms" => Some(match fact {
            "0" => "0ms".to_owned(),
            millis => format!("{:?}", Duration::from_millis(millis.parse().unwrap())),
        }),
        // Omitted if nothing was transferred.
        "bytes_in" | "bytes_out" if fact == "0" => None,
        "custody_omitted" | "resources_omitted" if fact == "0" => None,
        // The four kinds of findings have different headlines.
        "verdict" if ["violation", "finalizer"].contains(&fact) => None,
        "identity" if fact == "anonymous" => Some("anonymous inode".to_owned()),
        _ => Some(fact.to_owned()),
    }
}

#[test]
fn every_fact_of_the_json_is_in_the_text_with_sources_and_without() {
    let nearby = Sources::nearby();
    for report in all_scenarios().flat_map(|scenario| run_scenario(Level::On, scenario)) {
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        let mut found = Vec::new();
        facts("", &json, &mut found);
        assert!(found.len() > 5, "{json}");
        let plain = report.to_string();
        let bare = report.render(&Sources::none(), Colours::Never);
        let rich = report.render(&nearby, Colours::Never);
        for (name, fact) in found {
            let Some(wanted) = in_text(&name, &fact) else { continue };
            for text in [&plain, &bare] {
                // Long lines are not wrapped, but those below the first are indented.
                let has_all = wanted.lines().all(|line| text.contains(line.trim()));
                assert!(has_all, "no {name} {wanted:?} in\n{text}");
            }
            let is_shown = match name.as_str() {
                "site" | "acquired" => {
                    // As a source line, with its number on the left.
                    let (place, _) = wanted.rsplit_once(':').unwrap();
                    let (file, line) = place.rsplit_once(':').unwrap();
                    let gutter = format!("{line} ");
                    rich.contains(&wanted)
                        || rich.contains(&format!("--> {file}:"))
                            && rich.lines().any(|shown| shown.trim_start().starts_with(&gutter))
                        || rich.contains(&format!("::: {file}:"))
                            && rich.lines().any(|shown| shown.trim_start().starts_with(&gutter))
                }
                _ => wanted.lines().all(|line| rich.contains(line.trim())),
            };
            assert!(is_shown, "no {name} {wanted:?} in\n{rich}");
        }
    }
}

#[test]
fn at_level_full_every_format_has_the_backtraces() {
    let report = run_scenario(Level::Full, closed_twice).remove(0);
    for text in
        [report.to_string(), report.render(&Sources::none(), Colours::Never), report.to_json()]
    {
        assert!(text.contains("reports::closed_twice"), "{text}");
    }
}

#[test]
fn headlines_start_with_the_code_and_its_title() {
    for (code, words) in [
        ("leak", "error[leak]: task "),
        ("double-release", "error[double-release]: fd "),
        ("use-after-release", "error[use-after-release]: fd "),
        ("not-owner", "error[not-owner]: not owner: fd "),
        ("fd-replaced", "error[fd-replaced]: fd "),
    ] {
        let report = reported(code).unwrap();
        let text = report.render(&Sources::none(), Colours::Never);
        assert!(text.starts_with(words), "{text}");
        let plain = words.trim_start_matches("error[").replace("]: ", ": ");
        assert!(report.to_string().starts_with(&plain), "{report}");
    }
}

#[test]
fn colours_change_nothing_but_the_colours() {
    let report = reported("leak").unwrap();
    let plain = report.render(&Sources::nearby(), Colours::Never);
    let coloured = report.render(&Sources::nearby(), Colours::Always);
    assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
    let mut stripped = String::new();
    let mut parts = coloured.split('\u{1b}');
    stripped += parts.next().unwrap();
    for part in parts {
        stripped += part.split_once('m').unwrap().1;
    }
    assert_eq!(stripped, plain);
}

/// The schema without additional properties: unknown fields are errors. For the test only:
/// consumers of reports must accept new fields.
fn closed(mut schema: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match &mut schema {
        Value::Object(fields) => {
            for value in fields.values_mut() {
                *value = closed(value.take());
            }
            if fields.get("type").is_some_and(|kind| kind == "object") {
                fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        Value::Array(values) => {
            for value in values {
                *value = closed(value.take());
            }
        }
        _ => {}
    }
    schema
}

#[test]
fn the_json_matches_its_schema_and_has_no_other_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reports.schema.json");
    let schema = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&closed(schema)).unwrap();
    for level in [Level::On, Level::Full] {
        for report in all_scenarios().flat_map(|scenario| run_scenario(level, scenario)) {
            let json = serde_json::from_str(&report.to_json()).unwrap();
            let faults: Vec<String> =
                schema.iter_errors(&json).map(|fault| format!("{fault:?}")).collect();
            assert!(faults.is_empty(), "{json:#}\n{faults:#?}");
        }
    }
}

#[test]
fn a_leak_of_several_resources_has_one_headline_and_a_title_for_each() {
    let report = run_scenario(Level::On, two_forgotten_resources).remove(0);
    let text = report.render(&Sources::nearby(), Colours::Never);
    assert!(text.lines().next().unwrap().ends_with("ended and still owned 2 resources"), "{text}");
    assert_eq!(text.matches("\nnote: unix stream fd ").count(), 2, "{text}");
    assert_eq!(text.matches("acquired here by").count(), 2, "{text}");
    assert_eq!(text.matches("= help: release it").count(), 1, "{text}");
}

fn left_in_a_lot(registry: &Registry) {
    let pool = Pool::builder().registry(registry).build();
    let (ours, _theirs) = Stream::pair().unwrap();
    let child = pool.spawn_named("lot", [ours.resource()], move || {
        let lot = Lot::new();
        for _ in 0..100 {
            assert!(ours.park(&lot).unwrap());
            assert_eq!(ours.unpark(&lot).unwrap(), Unparked::Claimed);
        }
        assert!(ours.park(&lot).unwrap());
        mem::forget(ours);
    });
    drop(child.unwrap().join());
}

#[test]
fn parking_in_turn_is_one_step_of_each_kind_with_its_number() {
    let report = run_scenario(Level::On, left_in_a_lot).remove(0);
    let Report::Leak(leak) = &report else { panic!("{report}") };
    let task = &leak.task;
    let shown = report.render(&Sources::none(), Colours::Never);
    for (text, times) in [
        (
            report.to_string(),
            format!("\n    parked 100 times, last by {task} at tests/reports.rs:"),
        ),
        (shown, format!("parked here 100 times, last by {task}, ")),
        (report.to_json(), "{\"event\":\"unparked\",\"times\":99,".to_owned()),
    ] {
        assert!(text.contains(&times), "no {times} in\n{text}");
    }
}

#[path = "reports/documents.rs"]
mod documents;
#[path = "reports/runs.rs"]
mod runs;
