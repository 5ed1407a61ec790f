//! Misused numbers, with the history of each.

use std::os::fd::RawFd;

use super::history::{EVENTS_MAX, Event, History};
use super::misuse::Misuse;
use super::opened_kind::KindCode;

/// The maximum number of findings; one is enough for a failure.
pub(super) const FINDINGS_MAX: usize = 16;

/// The maximum number of events of a finding: the history, and further misuses.
const FINDING_EVENTS_MAX: usize = EVENTS_MAX + 4;

/// One misused number. Valid if all bytes are zero.
#[derive(Clone, Copy)]
pub(super) struct Finding {
    pub(super) misuse: Misuse,
    pub(super) number: RawFd,
    /// The kind of what was opened under the number last.
    pub(super) kind: KindCode,
    /// Whether the standard library would have aborted.
    pub(super) is_abort_due: bool,
    /// How many times the number had been opened. Misuses in the same generation are one finding.
    generation: u32,
    /// The run of closes to which the misuse belongs.
    run: u32,
    length: usize,
    events: [Event; FINDING_EVENTS_MAX],
}

impl Finding {
    pub(super) fn events(&self) -> &[Event] {
        &self.events[..self.length]
    }

    fn push(&mut self, event: Event) {
        if let Some(place) = self.events.get_mut(self.length) {
            *place = event;
            self.length += 1;
        }
    }
}

/// All findings. Valid if all bytes are zero.
#[derive(Clone, Copy)]
pub(super) struct Findings {
    findings: [Finding; FINDINGS_MAX],
    count: usize,
}

impl Findings {
    /// Adds the last event of a history as a misuse, to the finding of its number or as a new one.
    /// `None` if there are too many.
    pub(super) fn add(
        &mut self,
        misuse: Misuse,
        number: RawFd,
        generation: u32,
        history: &History,
        run: u32,
    ) -> Option<&mut Finding> {
        let is_same = |finding: &Finding| {
            (finding.misuse, finding.number, finding.generation) == (misuse, number, generation)
        };
        if let Some(known) = self.all().iter().position(is_same) {
            let finding = &mut self.findings[known];
            history.events().last().into_iter().for_each(|event| finding.push(event));
            return Some(finding);
        }
        let finding = self.findings.get_mut(self.count)?;
        self.count += 1;
        (finding.misuse, finding.number, finding.generation) = (misuse, number, generation);
        (finding.run, finding.is_abort_due, finding.length) = (run, false, 0);
        history.events().for_each(|event| finding.push(event));
        Some(finding)
    }

    /// Removes the findings of a run of closes that is no misuse.
    pub(super) fn remove_run(&mut self, run: u32) {
        let mut kept = 0;
        for index in 0..self.count {
            let finding = self.findings[index];
            if finding.misuse != Misuse::DoubleClose || finding.run != run {
                self.findings[kept] = finding;
                kept += 1;
            }
        }
        self.count = kept;
    }

    pub(super) fn all(&self) -> &[Finding] {
        &self.findings[..self.count]
    }
}
