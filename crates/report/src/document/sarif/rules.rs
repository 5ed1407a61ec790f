//! The rules of SARIF: one per code, with the CWE weakness of each.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Code;
use crate::explain::Explanation;

/// The CWE weaknesses in use: number and name, as of CWE 4.17.
const WEAKNESSES: &[(u16, &str)] = &[
    (282, "Improper Ownership Management"),
    (403, "Exposure of File Descriptor to Unintended Control Sphere ('File Descriptor Leak')"),
    (404, "Improper Resource Shutdown or Release"),
    (666, "Operation on Resource in Wrong Phase of Lifetime"),
    (775, "Missing Release of File Descriptor or Handle after Effective Lifetime"),
    (910, "Use of Expired File Descriptor"),
    (1341, "Multiple Releases of Same Resource or Handle"),
];

/// The weaknesses of a code. Ownership rules among tasks and wrong calls have none.
fn weaknesses(code: Code) -> &'static [u16] {
    match code {
        Code::Leak | Code::Unclaimed | Code::OpenAtExit => &[775],
        Code::DoubleRelease | Code::DoubleClose => &[1341],
        Code::AlreadyOwned => &[1341, 282],
        Code::NotOwner
        | Code::OverwrittenFd
        | Code::DroppedByNonOwner
        | Code::DuplicateGive
        | Code::ClosedInherited => &[282],
        Code::UseAfterRelease | Code::UseAfterClose | Code::FdReplaced | Code::NotOpen => &[910],
        Code::InUse | Code::IsSplit => &[666],
        Code::FinalizerFailed | Code::FinalizerPanicked => &[404],
        Code::InheritedFd | Code::ExecLeak => &[403],
        Code::MismatchedHalves
        | Code::NoParent
        | Code::NotAChild
        | Code::Cancelled
        | Code::TaskExiting
        | Code::ParentExiting
        | Code::ProcessExited
        | Code::Hang
        | Code::UnjoinedTask
        | Code::LeakCount => &[],
    }
}

/// The rules of these codes, in their order.
pub(super) fn rules(codes: &[Code]) -> Vec<Value> {
    codes.iter().map(|code| of_rule(code.explanation())).collect()
}

fn of_rule(rule: &Explanation) -> Value {
    let numbers = weaknesses(rule.code);
    let relationships: Vec<Value> = numbers
        .iter()
        .map(|number| json!({ "target": target(*number), "kinds": ["superset"] }))
        .collect();
    // Code hosts sort by these tags.
    let tags: BTreeSet<String> = ["descriptors", "ownership"]
        .map(String::from)
        .into_iter()
        .chain(numbers.iter().map(|number| format!("external/cwe/cwe-{number}")))
        .collect();
    let (level, severity) = match rule.code {
        Code::OpenAtExit => ("note", "recommendation"),
        _ => ("error", "error"),
    };
    let mut value = json!({
        "id": rule.code.as_str(),
        "name": rule.code.as_str(),
        "shortDescription": { "text": rule.summary },
        "fullDescription": { "text": rule.summary },
        "help": { "text": rule.help },
        "defaultConfiguration": { "level": level },
        "properties": { "tags": tags, "precision": "very-high", "problem.severity": severity },
    });
    value["help"]["markdown"] = format!("{}\n\n{}", rule.help, rule.text.trim_end()).into();
    if !relationships.is_empty() {
        value["relationships"] = relationships.into();
    }
    value
}

/// The taxa of a result: the weaknesses of its code.
pub(super) fn taxa(code: Code) -> Vec<Value> {
    weaknesses(code).iter().map(|number| target(*number)).collect()
}

fn target(number: u16) -> Value {
    json!({ "id": number.to_string(), "toolComponent": { "name": "CWE", "index": 0 } })
}

pub(super) fn taxonomy() -> Value {
    let taxa: Vec<Value> = WEAKNESSES
        .iter()
        .map(|(number, name)| {
            json!({
                "id": number.to_string(),
                "shortDescription": { "text": name },
                "helpUri": format!("https://cwe.mitre.org/data/definitions/{number}.html"),
            })
        })
        .collect();
    json!({
        "name": "CWE",
        "organization": "MITRE",
        "shortDescription": { "text": "Common Weakness Enumeration" },
        "informationUri": "https://cwe.mitre.org/",
        "isComprehensive": false,
        "taxa": taxa,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_rule_and_each_weakness_a_name() {
        let ids: BTreeSet<String> =
            rules(Code::ALL).iter().map(|rule| rule["id"].to_string()).collect();
        assert_eq!(ids.len(), Code::ALL.len(), "{ids:?}");
        for number in Code::ALL.iter().flat_map(|code| weaknesses(*code)) {
            assert!(WEAKNESSES.iter().any(|(known, _)| known == number), "CWE-{number}");
        }
        for (number, name) in WEAKNESSES {
            assert!(Code::ALL.iter().any(|code| weaknesses(*code).contains(number)), "{name}");
        }
    }
}
