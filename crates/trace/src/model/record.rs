//! The findings so far, each place once.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::finding::{Finding, Kind, Severity};
use crate::stack::StackId;

/// The maximum number of different findings. A program whose every call is at another place must not
/// exhaust the tracer's memory.
const FINDINGS_MAX: usize = 4096;

/// What equal findings have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    severity: Severity,
    program: Arc<str>,
    opening: Option<(&'static str, StackId)>,
    closes: [StackId; 2],
    usage: Option<(&'static str, StackId)>,
    replaced_by: StackId,
    /// The number, if no stack tells findings apart.
    number: Option<i32>,
}

fn key_of(finding: &Finding) -> Key {
    let opening = finding.opening.as_ref().map(|opening| (opening.call, opening.stack));
    let stack_of = |closing: Option<&crate::finding::Closing>| {
        closing.map_or(StackId::NONE, |closing| closing.stack)
    };
    let closes = match finding.closes.as_slice() {
        [one] => [StackId::NONE, one.stack],
        several => [stack_of(several.iter().rev().nth(1)), stack_of(several.last())],
    };
    let usage = finding.usage.as_ref().map(|usage| (usage.call, usage.stack));
    let replaced_by = finding.replaced_by.as_ref().map_or(StackId::NONE, |opening| opening.stack);
    let stacks = [opening.map_or(StackId::NONE, |opening| opening.1), closes[0], closes[1]];
    let has_stack = stacks.iter().any(|stack| *stack != StackId::NONE)
        || usage.is_some_and(|usage| usage.1 != StackId::NONE);
    Key {
        kind: finding.kind,
        severity: finding.severity,
        program: Arc::clone(&finding.process.program),
        opening,
        closes,
        usage,
        replaced_by,
        number: (!has_stack).then_some(finding.number),
    }
}

/// Findings, merged by their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    findings: Vec<Finding>,
    /// The process of the last occurrence of each finding: counts processes without a list.
    last_pids: Vec<i32>,
    by_key: FxHashMap<Key, usize>,
    dropped: u64,
}

impl Record {
    /// Adds a finding, or counts it if its places are known.
    pub(super) fn add(&mut self, finding: Finding) {
        let key = key_of(&finding);
        let pid = finding.process.pid;
        if let Some(index) = self.by_key.get(&key) {
            let known = &mut self.findings[*index];
            known.count += finding.count;
            known.first_ns = known.first_ns.min(finding.first_ns);
            known.last_ns = known.last_ns.max(finding.last_ns);
            if self.last_pids[*index] != pid {
                self.last_pids[*index] = pid;
                known.processes += 1;
            }
            let free = Finding::HEIRS_MAX.saturating_sub(known.heirs.len());
            known.heirs.extend(finding.heirs.into_iter().take(free));
        } else if self.findings.len() < FINDINGS_MAX {
            self.by_key.insert(key, self.findings.len());
            self.last_pids.push(pid);
            self.findings.push(finding);
        } else {
            self.dropped += finding.count;
        }
    }

    /// The findings in the order of their first occurrence.
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The number of occurrences that are missing because there were too many different findings.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
