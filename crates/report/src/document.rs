//! A document of findings that is complete after each finding: JUnit or SARIF.
//!
//! Each place in the source appears once, with the number of its findings: a server that leaks at
//! one line a million times has one result and the number. So a document has at most as many
//! entries as the program has places, and can be rewritten after each finding.

mod junit;
mod sarif;

use std::collections::HashMap;

use super::InputError;
use super::entry::{Entry, TestName};
use super::format::Format;

/// A document of findings.
#[derive(Debug)]
pub struct Document {
    format: Format,
    findings: Vec<Found>,
    /// What may be missing in it, in lines.
    warnings: Vec<String>,
    /// The index of each finding, by test or program, and fingerprint.
    known: HashMap<(Option<TestName>, Option<String>, String), usize>,
}

/// A finding in a document.
#[derive(Debug)]
pub(super) struct Found {
    /// The first occurrence.
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
    /// An empty document.
    ///
    /// # Panics
    /// `format` is not a document format ([`Format::is_document`]).
    #[must_use]
    pub fn new(format: Format) -> Document {
        assert!(format.is_document(), "{format} has no beginning and no end");
        Document { format, findings: Vec::new(), warnings: Vec::new(), known: HashMap::new() }
    }

    /// Adds a finding.
    pub fn add(&mut self, entry: Entry, baseline_state: BaselineState) {
        let key = (entry.test.clone(), entry.program.clone(), entry.fingerprint());
        match self.known.get(&key) {
            Some(index) => self.findings[*index].times += 1,
            None => {
                self.known.insert(key, self.findings.len());
                self.findings.push(Found { entry, times: 1, baseline_state });
            }
        }
    }

    /// Adds a warning that findings may be missing or wrong, as [`Coverage::warning`] returns it. JUnit has
    /// it as a skipped case, SARIF as a notification of the tool.
    ///
    /// [`Coverage::warning`]: crate::Coverage::warning
    pub fn add_warning(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// The text of the whole document, with a line break at the end.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self.format {
            Format::Junit => junit::document(&self.findings, &self.warnings),
            _ => sarif::document(&self.findings, &self.warnings),
        }
    }

    /// Whether a text looks like a document of echown. The check does not parse the text;
    /// [`merge_into`](Document::merge_into) reports what is wrong with it.
    #[must_use]
    pub fn resembles(&self, text: &str) -> bool {
        match self.format {
            Format::Junit => text.contains(junit::ROOT),
            _ => text.contains(sarif::DRIVER),
        }
    }

    /// Merges these findings, all of one test, into an existing document. They replace the earlier
    /// findings of that test. Returns `None` if there are neither new findings nor earlier ones.
    ///
    /// # Errors
    /// `text` is not a document of echown.
    pub fn merge_into(&self, text: &str, test: &TestName) -> Result<Option<String>, InputError> {
        match self.format {
            Format::Junit => junit::merge(text, test, &self.findings),
            _ => sarif::merge(text, test, &self.findings),
        }
    }
}
