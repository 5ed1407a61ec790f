//! A document of findings, which is complete at every moment: JUnit or SARIF.
//!
//! Each place in the source appears once, with the number of its findings: a server that leaks at
//! one line a million times has one result and the number. So a document has at most as many
//! entries as the program has places, and can be rewritten after each finding.

use std::collections::HashMap;

use super::entry::{Entry, TestName};
use super::format::Format;
use super::{junit, sarif};

/// Findings, as one document.
#[derive(Debug)]
pub struct Document {
    format: Format,
    findings: Vec<Found>,
    /// Where each is, by test and fingerprint.
    known: HashMap<(Option<TestName>, String), usize>,
}

/// A finding in a document.
#[derive(Debug)]
pub(super) struct Found {
    /// As it was found first.
    pub(super) entry: Entry,
    pub(super) times: u64,
    pub(super) baseline_state: BaselineState,
}

/// A finding compared with the baseline: SARIF's `baselineState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineState {
    /// There is no baseline.
    NoBaseline,
    /// It is not in the baseline.
    New,
    /// It is in the baseline.
    Unchanged,
}

impl Document {
    /// Without a finding yet.
    ///
    /// # Panics
    /// For a format that is no document ([`Format::is_document`]).
    #[must_use]
    pub fn new(format: Format) -> Document {
        assert!(format.is_document(), "{format} has no beginning and no end");
        Document { format, findings: Vec::new(), known: HashMap::new() }
    }

    /// Enters a finding.
    pub fn add(&mut self, entry: Entry, baseline_state: BaselineState) {
        let key = (entry.test.clone(), entry.fingerprint());
        match self.known.get(&key) {
            Some(index) => self.findings[*index].times += 1,
            None => {
                self.known.insert(key, self.findings.len());
                self.findings.push(Found { entry, times: 1, baseline_state });
            }
        }
    }

    /// The whole of it, with a line break at the end.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self.format {
            Format::Junit => junit::document(&self.findings),
            _ => sarif::document(&self.findings),
        }
    }

    /// Whether a text looks like such a document of ours, without reading all of it. When it does not,
    /// [`merge_into`](Document::merge_into) says what is wrong with it, if something is.
    #[must_use]
    pub fn resembles(&self, text: &str) -> bool {
        match self.format {
            Format::Junit => text.contains(junit::ROOT),
            _ => text.contains(sarif::DRIVER),
        }
    }

    /// Puts these findings, all of them one test's, into a document that has those of others, in the
    /// place of what that test had there before. Without a finding, and nothing there before: `None`.
    ///
    /// # Errors
    /// In words: what is there is no such document of ours.
    pub fn merge_into(&self, text: &str, test: &TestName) -> Result<Option<String>, String> {
        match self.format {
            Format::Junit => junit::merge(text, test, &self.findings),
            _ => sarif::merge(text, test, &self.findings),
        }
    }
}
