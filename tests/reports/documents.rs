//! Findings in CI formats, read back by independent parsers; and the examples in `docs/ci.md`.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;

use echown::report::{BaselineState, Document, Entry, Format, github};
use serde_json::Value;
use serde_sarif::sarif::Sarif;

use super::*;
use crate::common::require_tool;

/// The schema of the standard, from the package `serde-sarif`. `None` if cargo cannot be run: a
/// user without privileges may have no access to it.
fn sarif_schema() -> Option<&'static jsonschema::Validator> {
    static SCHEMA: OnceLock<Option<jsonschema::Validator>> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // Cargo may download packages that this machine does not build, such as the peers'.
        // Packages of other platforms are filtered out.
        let host = Command::new("rustc").args(["--print", "host-tuple"]).output().ok()?;
        let host = String::from_utf8(host.stdout).unwrap();
        cargo.args(["metadata", "--format-version", "1", "--locked"]);
        cargo.args(["--filter-platform", host.trim()]);
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo lists packages");
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "serde-sarif").unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let schema = fs::read_to_string(manifest.with_file_name("src/schema.json")).unwrap();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        assert!(schema["$id"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
        Some(jsonschema::validator_for(&schema).unwrap())
    });
    require_tool("cargo and rustc, for the schema of SARIF", schema.is_some());
    schema.as_ref()
}

#[track_caller]
pub(super) fn assert_valid(text: &str) -> Sarif {
    let json: Value = serde_json::from_str(text).unwrap();
    let schema = sarif_schema().into_iter();
    let faults: Vec<String> = schema
        .flat_map(|schema| schema.iter_errors(&json))
        .map(|fault| format!("{fault:?}"))
        .collect();
    assert!(faults.is_empty(), "{text}\n{faults:#?}");
    serde_json::from_value(json).expect("a valid document has the types of the schema")
}

fn entries(scenario: Scenario) -> Vec<Entry> {
    let reports = run_scenario(Level::On, scenario);
    reports.iter().flat_map(|report| Entry::of_report(report, &Sources::nearby())).collect()
}

fn document(format: Format, entries: &[Entry], baseline_state: BaselineState) -> String {
    let mut document = Document::new(format);
    entries.iter().for_each(|entry| document.add(entry.clone(), baseline_state));
    document.to_text()
}

#[test]
fn every_finding_is_valid_sarif_by_schema_and_by_the_serde_sarif_types() {
    assert_valid(&document(Format::Sarif, &[], BaselineState::NoBaseline));
    for scenario in all_scenarios() {
        let entries = entries(scenario);
        for baseline_state in
            [BaselineState::NoBaseline, BaselineState::New, BaselineState::Unchanged]
        {
            let sarif = assert_valid(&document(Format::Sarif, &entries, baseline_state));
            let run = &sarif.runs[0];
            let rules = run.tool.driver.rules.as_ref().unwrap();
            let results = run.results.as_ref().unwrap();
            assert!(!results.is_empty());
            for result in results {
                let index = usize::try_from(result.rule_index.unwrap()).unwrap();
                assert_eq!(Some(&rules[index].id), result.rule_id.as_ref());
                let location = &result.locations.as_ref().unwrap()[0];
                let physical = location.physical_location.as_ref().unwrap();
                let region = physical.region.as_ref().unwrap();
                assert!(region.start_line.unwrap() > 0);
                let uri = physical.artifact_location.as_ref().unwrap().uri.as_ref().unwrap();
                let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(uri);
                assert!(source.exists(), "{uri} is relative to the root of the repository");
            }
        }
    }
}

#[test]
fn a_sarif_result_of_a_leak_has_the_weakness_and_the_custody_in_order() {
    let entries = entries(a_connection_that_its_task_forgot);
    let text = document(Format::Sarif, &entries, BaselineState::NoBaseline);
    let sarif: Value = serde_json::from_str(&text).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["taxa"][0]["id"], "775");
    let steps = &entries[0].steps;
    assert!(steps.len() >= 2, "steps acquired and given: {steps:?}");
    let mut way: Vec<(u64, String, u64)> = Vec::new();
    let flows = result["codeFlows"][0]["threadFlows"].as_array().unwrap();
    let threads: BTreeSet<&str> = steps.iter().map(|step| &*step.thread).collect();
    assert_eq!(flows.len(), threads.len(), "each step has its own thread");
    for place in flows.iter().flat_map(|flow| flow["locations"].as_array().unwrap()) {
        let location = &place["location"];
        way.push((
            place["executionOrder"].as_u64().unwrap(),
            location["message"]["text"].as_str().unwrap().to_owned(),
            location["physicalLocation"]["region"]["startLine"].as_u64().unwrap(),
        ));
    }
    way.sort();
    let wanted: Vec<_> = (1..)
        .zip(steps)
        .map(|(number, step)| (number, step.label.clone(), u64::from(step.location.line)))
        .collect();
    assert_eq!(way, wanted);
}

#[test]
fn each_rule_has_its_cwe() {
    let mut all = entries(a_connection_that_its_task_forgot);
    for code in Code::ALL {
        let mut other = all[0].clone();
        other.code = *code;
        all.push(other);
    }
    let text = document(Format::Sarif, &all, BaselineState::NoBaseline);
    let sarif: Value = serde_json::from_str(&text).unwrap();
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), Code::ALL.len());
    for (code, tag) in [
        ("leak", "external/cwe/cwe-775"),
        ("double-close", "external/cwe/cwe-1341"),
        ("double-release", "external/cwe/cwe-1341"),
        ("use-after-release", "external/cwe/cwe-910"),
        ("fd-replaced", "external/cwe/cwe-910"),
        ("inherited-fd", "external/cwe/cwe-403"),
    ] {
        let rule = rules.iter().find(|rule| rule["id"] == code).unwrap();
        let tags = rule["properties"]["tags"].as_array().unwrap();
        assert!(tags.iter().any(|it| it == tag), "{code}: {tags:?}");
    }
}

#[test]
fn every_finding_is_junit_that_another_parser_reads_unchanged() {
    for scenario in all_scenarios() {
        let entries = entries(scenario);
        let text = document(Format::Junit, &entries, BaselineState::NoBaseline);
        let xml =
            roxmltree::Document::parse(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"));
        let failures: Vec<_> = xml.descendants().filter(|it| it.has_tag_name("failure")).collect();
        let different: BTreeSet<String> = entries.iter().map(Entry::fingerprint).collect();
        assert_eq!(failures.len(), different.len(), "{text}");
        let root = xml.root_element();
        assert_eq!(root.attribute("failures"), Some(&*different.len().to_string()));
        for (failure, entry) in failures.iter().zip(&entries) {
            assert_eq!(failure.attribute("type"), Some(entry.code.as_str()));
            assert_eq!(failure.attribute("message"), Some(&*entry.headline));
            assert!(failure.text().unwrap().starts_with(&entry.text), "{text}");
            let case = failure.parent().unwrap();
            assert_eq!(case.attribute("file"), Some(&*entry.location.file));
        }
        let known = document(Format::Junit, &entries, BaselineState::Unchanged);
        let known = roxmltree::Document::parse(&known).unwrap();
        assert_eq!(known.root_element().attribute("failures"), Some("0"));
        assert!(known.descendants().any(|it| it.has_tag_name("skipped")));
    }
}

#[test]
fn xml_markup_and_invalid_xml_characters_are_escaped() {
    let mut entry = entries(a_connection_that_its_task_forgot).remove(0);
    entry.text = "a <b> & \"c\" ]]> \u{1b}[31m \u{0} \u{ffff} é".to_owned();
    entry.headline = "'\"<&>\n".to_owned();
    let text = document(Format::Junit, &[entry], BaselineState::NoBaseline);
    let xml = roxmltree::Document::parse(&text).unwrap_or_else(|fault| panic!("{fault}: {text}"));
    let failure = xml.descendants().find(|it| it.has_tag_name("failure")).unwrap();
    assert!(failure.text().unwrap().starts_with("a <b> & \"c\" ]]> "), "{text}");
    assert!(failure.text().unwrap().ends_with('é'), "{text}");
}

#[test]
fn an_annotation_is_one_complete_line_at_the_opening_site() {
    for scenario in all_scenarios() {
        for entry in entries(scenario) {
            let line = github::annotation(&entry);
            assert!(!line.contains('\n'), "{line}");
            let (properties, message) =
                line.strip_prefix("::error ").unwrap().split_once("::").unwrap();
            let wanted = format!(
                "file={},line={},col={},title={}",
                entry.location.file, entry.location.line, entry.location.column, entry.code
            );
            assert_eq!(properties, wanted);
            let unescaped = message.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%");
            let details = entry.text.split_once('\n').map_or("", |(_, details)| details);
            assert_eq!(unescaped, format!("{}\n{details}", entry.headline));
        }
    }
}

#[test]
fn fingerprints_are_stable_between_runs_and_differ_between_findings() {
    let mut seen = BTreeSet::new();
    for (code, scenario) in SCENARIOS {
        let once: BTreeSet<String> = entries(*scenario).iter().map(Entry::fingerprint).collect();
        let again: BTreeSet<String> = entries(*scenario).iter().map(Entry::fingerprint).collect();
        assert_eq!(once, again, "{code}");
        let own: Vec<&String> = once.iter().filter(|it| it.starts_with(code)).collect();
        assert!(!own.is_empty(), "{code}: {once:?}");
        seen.extend(own.into_iter().cloned());
    }
    assert!(seen.len() >= SCENARIOS.len());
}

#[test]
fn a_site_occurs_once_in_a_document_with_its_count() {
    let entry = entries(a_connection_that_its_task_forgot).remove(0);
    let many = vec![entry; 1000];
    let text = document(Format::Sarif, &many, BaselineState::NoBaseline);
    let sarif: Value = serde_json::from_str(&text).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["occurrenceCount"], 1000);
    let text = document(Format::Junit, &many, BaselineState::NoBaseline);
    assert_eq!(text.matches("<testcase ").count(), 1);
    assert!(text.contains("found 1000 times; this was the first"), "{text}");
}

// The examples in docs/ci.md.

#[test]
fn the_ci_page_matches_the_written_documents() {
    let reports = run_scenario(Level::On, closed_twice);
    let entries: Vec<Entry> =
        reports.iter().flat_map(|report| Entry::of_report(report, &Sources::nearby())).collect();
    let sarif = document(Format::Sarif, &entries, BaselineState::NoBaseline);
    let mut sarif: Value = serde_json::from_str(&sarif).unwrap();
    let result = sarif["runs"][0]["results"][0].take();
    for (marker, kind, text) in [
        ("an annotation", "text", github::annotation(&entries[0]) + "\n"),
        ("a JUnit document", "xml", document(Format::Junit, &entries, BaselineState::NoBaseline)),
        ("a result of SARIF", "json", format!("{result:#}\n")),
    ] {
        common::doc_pages::assert_page_shows("docs/ci.md", marker, kind, &steady(&text));
    }
}
