//! Selection of a run's findings: which of them fail, which are shown, which are accepted.

use super::{RunFinding, RunReport, Severity};
use crate::{Code, Suppression};

impl RunReport {
    /// Makes the findings for whose code and severity `is_failing` is true errors, and all other errors
    /// warnings. Then sorts the findings, most severe first.
    pub fn set_failing(&mut self, is_failing: impl Fn(Code, Severity) -> bool) {
        for finding in &mut self.findings {
            finding.severity = match finding.severity {
                severity if is_failing(finding.code, severity) => Severity::Error,
                Severity::Error => Severity::Warning,
                other => other,
            };
        }
        self.sort();
    }

    /// Sorts the findings, most severe first. Equally severe ones keep their order.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| finding.severity);
    }

    /// Whether a finding fails the run.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Removes the notes, and counts them.
    pub fn omit_notes(&mut self) {
        let before = self.findings.len();
        self.findings.retain(|finding| finding.severity != Severity::Note);
        self.omitted.notes += (before - self.findings.len()) as u64;
    }

    /// Removes the findings that a suppression matches, counts them, and adds a note with the reason
    /// for each.
    pub fn suppress(&mut self, suppressions: &[Suppression]) {
        let notes = &mut self.notes;
        let omitted = &mut self.omitted.suppressed;
        self.findings.retain(|finding| {
            let matching = suppressions.iter().find(|known| finding.is_matched_by(known));
            let Some(suppression) = matching else { return true };
            *omitted += 1;
            notes.push(format!("suppressed: {}: {suppression}", finding.headline()));
            false
        });
    }

    /// Removes the findings for which `is_known` is true, and counts them: those of a baseline. The
    /// argument is the index of the finding, which is also the index of its
    /// [`Entry`](crate::Entry::of_run).
    pub fn omit_known(&mut self, is_known: impl Fn(usize) -> bool) {
        let mut index = 0;
        let omitted = &mut self.omitted.known;
        self.findings.retain(|_| {
            let is_known = is_known(index);
            index += 1;
            *omitted += u64::from(is_known);
            !is_known
        });
    }
}

impl RunFinding {
    /// Whether a suppression matches it: its code (without one, the codes of descriptors that stay
    /// open), the kind and path of all its descriptors, and any frame of its places (`FUNCTION
    /// (FILE:LINE)`).
    #[must_use]
    pub fn is_matched_by(&self, suppression: &Suppression) -> bool {
        let frames = self.places.iter().flat_map(|place| &place.frames);
        let sites: Vec<String> = frames.map(|frame| frame.in_full()).collect();
        let sites = sites.join("\n");
        let is_matched = |kind: &str, places: &[&str]| {
            suppression.matches_finding(self.code, kind, places, &sites)
        };
        match &self.descriptors[..] {
            [] => is_matched("", &[]),
            all => all.iter().all(|one| is_matched(&one.kind, &one.places())),
        }
    }
}
