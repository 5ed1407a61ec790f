//! Merging: findings whose places look alike to a reader are one finding.

use echown_report::RunFinding;
use rustc_hash::{FxHashMap, FxHashSet};

use super::place::Places;
use super::words;
use crate::finding::Finding;

/// A finding with the others that look like it.
struct Merged<'a> {
    first: &'a Finding,
    shown: RunFinding,
    pids: FxHashSet<i32>,
}

/// The findings, alike ones merged, in the order of their first ones.
pub(super) fn merged(findings: &[Finding], places: &mut Places<'_>) -> Vec<RunFinding> {
    let mut merged: Vec<Merged<'_>> = Vec::new();
    let mut index_of: FxHashMap<String, usize> = FxHashMap::default();
    for finding in findings {
        let shown = super::finding(finding, places);
        let index = *index_of.entry(key(finding, &shown)).or_insert(merged.len());
        match merged.get_mut(index) {
            Some(known) => known.add(finding, shown),
            None => {
                let pids = [finding.process.pid].into_iter().collect();
                merged.push(Merged { first: finding, shown, pids });
            }
        }
    }
    merged
        .into_iter()
        .map(|Merged { first, mut shown, .. }| {
            shown.message = words::message(first, shown.count);
            shown
        })
        .collect()
}

impl Merged<'_> {
    fn add(&mut self, finding: &Finding, shown: RunFinding) {
        self.shown.count += shown.count;
        // The processes of a further finding of the same process are probably the same ones.
        self.shown.processes = match self.pids.insert(finding.process.pid) {
            true => self.shown.processes + shown.processes,
            false => self.shown.processes.max(shown.processes),
        };
        for descriptor in shown.descriptors {
            let known = &mut self.shown.descriptors;
            // Each process has its own, which often look the same.
            if known.len() < RunFinding::DESCRIPTORS_MAX && !known.contains(&descriptor) {
                known.push(descriptor);
            }
        }
    }
}

/// Equal for findings that a reader takes for the same: code, severity, program and places. A finding
/// without any stack is distinguished by its number and file.
fn key(finding: &Finding, shown: &RunFinding) -> String {
    let mut key = format!("{:?} {:?} {}", finding.kind, shown.severity, shown.process.program);
    let mut has_frames = false;
    for place in &shown.places {
        has_frames |= !place.frames.is_empty();
        key.push('\n');
        key += &place.shown_text();
    }
    if !has_frames {
        key += &format!("\nfd {} {:?}", finding.number, shown.descriptors);
    }
    key
}
