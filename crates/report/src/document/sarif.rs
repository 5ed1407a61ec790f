//! SARIF 2.1.0 documents: findings as results with rules, locations and custody.
//!
//! - The location of a result is the most important line: where a leaked resource was acquired, or
//!   where a rule was violated. Its custody appears twice: in `relatedLocations`, and as a code
//!   flow with one thread flow per thread, whose `executionOrder` is the order across all threads.
//!   Recorded calls are `stacks`.
//! - Paths are relative to the top of the repository (`SRCROOT`), and are escaped as URIs.
//! - `partialFingerprints` contains only values that are stable between runs: no number of a task,
//!   descriptor or line.
//!
//! The document is written as JSON values and not with the types of a library, because it is short.
//! As a cross-check, the tests parse it with a library's types that are generated from the schema.

use serde_json::{Value, json};

use super::{BaselineState, Found};
use crate::{Code, InputError, Location, Place, Step, TestName};

mod rules;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A part of each document of echown, which identifies it.
pub(super) const DRIVER: &str = "\"name\": \"echown\"";

/// The base id of relative paths.
const BASE: &str = "SRCROOT";

/// The fingerprint's name, with the version of the algorithm.
const FINGERPRINT: &str = "echown/v1";

/// The document of the findings of a server or a run.
pub(super) fn document(findings: &[Found], warnings: &[String]) -> String {
    log(findings.iter().map(result).collect(), warnings)
}

/// See [`Document::merge_into`](super::Document::merge_into).
pub(super) fn merge(
    old: &str,
    test: &TestName,
    findings: &[Found],
) -> Result<Option<String>, InputError> {
    let is_new = old.trim().is_empty();
    let mut results = if is_new { Vec::new() } else { results(old)? };
    let before = results.len();
    let is_mine = |result: &Value| {
        let of = &result["properties"];
        of["suite"] == *test.suite && of["test"] == *test.name
    };
    results.retain(|result| !is_mine(result));
    if findings.is_empty() && results.len() == before && !is_new {
        return Ok(None);
    }
    results.extend(findings.iter().map(result));
    Ok(Some(log(results, &[])))
}

/// The results of a SARIF document of echown.
fn results(text: &str) -> Result<Vec<Value>, InputError> {
    let mut log: Value = serde_json::from_str(text).map_err(|error| {
        InputError::with_source(format!("it is no SARIF document ({error})"), error)
    })?;
    let name = log.pointer("/runs/0/tool/driver/name");
    if name.and_then(Value::as_str) != Some("echown") {
        return Err(InputError::new("it is no SARIF document of echown"));
    }
    match log.pointer_mut("/runs/0/results").map(Value::take) {
        Some(Value::Array(results)) => Ok(results),
        _ => Err(InputError::new("it is a SARIF document without results")),
    }
}

fn log(mut results: Vec<Value>, warnings: &[String]) -> String {
    let rules = rules::rules(&number_rules(&mut results));
    let mut log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "echown",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
                "supportedTaxonomies": [{ "name": "CWE", "index": 0 }],
            }},
            "taxonomies": [rules::taxonomy()],
            "originalUriBaseIds": {
                BASE: { "description": { "text": "the top of the repository" } },
            },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    if !warnings.is_empty() {
        let notifications: Vec<Value> = warnings
            .iter()
            .map(|text| json!({ "level": "warning", "message": { "text": text } }))
            .collect();
        log["runs"][0]["invocations"] = json!([{
            "executionSuccessful": true,
            "toolExecutionNotifications": notifications,
        }]);
    }
    format!("{log:#}\n")
}

/// Sets the index of each result's rule, and returns the codes of these rules. Other rules are left
/// out, because their texts are much longer than the results.
fn number_rules(results: &mut [Value]) -> Vec<Code> {
    let mut codes: Vec<Code> = Vec::new();
    for result in results {
        // A result that was merged from a document of another version can have an unknown rule.
        let code = result["ruleId"].as_str().and_then(|id| id.parse::<Code>().ok());
        let index = code.map(|code| {
            codes.iter().position(|known| *known == code).unwrap_or_else(|| {
                codes.push(code);
                codes.len() - 1
            })
        });
        match (index, result.as_object_mut()) {
            (Some(index), _) => result["ruleIndex"] = index.into(),
            (None, Some(fields)) => drop(fields.remove("ruleIndex")),
            (None, None) => {}
        }
    }
    codes
}

fn result(found: &Found) -> Value {
    let Found { entry, times, baseline_state } = found;
    let mut location = location_object(&entry.location, None);
    if let Some(test) = &entry.test {
        location["logicalLocations"] = json!([{
            "name": test.name,
            "fullyQualifiedName": format!("{}::{}", test.suite, test.name),
            "kind": "function",
        }]);
    }
    let mut result = json!({
        "ruleId": entry.code.as_str(),
        "level": entry.severity.as_str(),
        "message": { "text": entry.body(".") },
        "locations": [location],
        "occurrenceCount": times,
        "partialFingerprints": { FINGERPRINT: entry.fingerprint() },
        "taxa": rules::taxa(entry.code),
    });
    if let Some(test) = &entry.test {
        result["properties"] = json!({ "suite": test.suite, "test": test.name });
    } else if let Some(program) = &entry.program {
        result["properties"] = json!({ "program": program });
    }
    match baseline_state {
        BaselineState::NoBaseline => {}
        BaselineState::New => result["baselineState"] = "new".into(),
        BaselineState::Unchanged => result["baselineState"] = "unchanged".into(),
    }
    if !entry.steps.is_empty() {
        let related = entry.steps.iter().enumerate().map(|(index, step)| {
            let mut location = location_object(&step.location, Some(&step.label));
            location["id"] = (index + 1).into();
            location
        });
        result["relatedLocations"] = related.collect();
        result["codeFlows"] = json!([code_flow(&entry.steps)]);
    }
    if !entry.stacks.is_empty() {
        result["stacks"] = entry.stacks.iter().map(stack).collect();
    }
    result
}

/// A SARIF location object.
fn location_object(location: &Location, message: Option<&str>) -> Value {
    let mut artifact = json!({ "uri": uri(&location.file) });
    if location.is_inside {
        artifact["uriBaseId"] = BASE.into();
    }
    let mut physical = json!({ "artifactLocation": artifact });
    if location.line > 0 {
        physical["region"] = json!({ "startLine": location.line });
        if location.column > 0 {
            physical["region"]["startColumn"] = location.column.into();
        }
    }
    let mut object = json!({ "physicalLocation": physical });
    if let Some(function) = &location.function {
        object["logicalLocations"] = json!([{ "fullyQualifiedName": function }]);
    }
    if let Some(message) = message {
        object["message"] = json!({ "text": message });
    }
    object
}

/// The code flow of a resource: the steps of each thread, numbered in the order of all steps.
fn code_flow(steps: &[Step]) -> Value {
    let mut threads: Vec<(&str, Vec<Value>)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let place = json!({
            "location": location_object(&step.location, Some(&step.label)),
            "executionOrder": index + 1,
            "importance": "essential",
        });
        match threads.iter_mut().find(|(thread, _)| *thread == step.thread) {
            Some((_, places)) => places.push(place),
            None => threads.push((&step.thread, vec![place])),
        }
    }
    let flows: Vec<Value> = threads
        .into_iter()
        .map(|(thread, places)| json!({ "id": format!("thread {thread}"), "locations": places }))
        .collect();
    json!({ "message": { "text": "chain of custody" }, "threadFlows": flows })
}

fn stack(place: &Place) -> Value {
    let frames: Vec<Value> = place
        .locations()
        .map(|(frame, location)| match location {
            Some(location) => json!({ "location": location_object(&location, None) }),
            None => json!({ "location": {
                "logicalLocations": [{ "fullyQualifiedName": frame.function }],
            }}),
        })
        .collect();
    json!({
        "message": { "text": format!("{}, on thread {}", place.what, place.thread) },
        "frames": frames,
    })
}

/// A path as a URI: reserved characters and bytes outside ASCII are percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    if path.starts_with('/') {
        uri += "file://";
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into());
            }
            _ => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_characters_of_a_uri_are_escaped() {
        assert_eq!(uri("src/a b%c#d:é.rs"), "src/a%20b%25c%23d%3A%C3%A9.rs");
        assert_eq!(uri("/opt/x.rs"), "file:///opt/x.rs");
    }

    #[test]
    fn a_foreign_document_is_rejected_and_an_empty_file_is_accepted() {
        let test = TestName { suite: "s".into(), name: "t".into() };
        assert!(merge("", &test, &[]).unwrap().is_some());
        for (text, expected) in [
            (
                "{\"runs\":[{\"tool\":{\"driver\":{\"name\":\"other\"}}}]}",
                "no SARIF document of echown",
            ),
            ("{\"runs\":[]}", "no SARIF document of echown"),
            ("[]", "no SARIF document of echown"),
            ("fn main() {}", "no SARIF document ("),
        ] {
            let error = merge(text, &test, &[]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
