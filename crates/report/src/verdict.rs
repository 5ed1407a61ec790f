//! The verdict of a registry: counts, an exit code, and what is still open.

use std::collections::BTreeMap;

use super::ids::TaskLabel;
use super::snapshot::ResourceData;

/// What a registry found, in numbers, and what is still open.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Verdict {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// Resources that were leaked.
    pub leaks: u64,
    /// Broken rules.
    pub violations: u64,
    /// Descriptors that were closed or replaced outside the registry.
    pub replaced: u64,
    /// Finalizers that failed or panicked where there was nobody to tell.
    pub failed_finalizers: u64,
    /// Leaks that a suppression matched.
    pub suppressed: u64,
    /// Reports that were known before (`RegistryBuilder::known`).
    pub known: u64,
    /// Resources that were leaked, reported, and kept alive by a cycle of recorded references.
    pub cycles: u64,
    /// How often each code was reported; for a leak's, each resource counts. What a policy ignores
    /// is not reported.
    pub reported: BTreeMap<&'static str, u64>,
    /// The reasons of the suppressions that matched, and how often each did.
    pub used_suppressions: Vec<(String, u64)>,
    /// The suppressions that matched nothing, with their conditions: the leak may be mended.
    pub unused_suppressions: Vec<String>,
    /// What is owned or offered still.
    pub still_open: Vec<ResourceData>,
    /// Children that nobody joined, cancelled or handed over.
    pub unjoined_children: Vec<TaskLabel>,
    /// 23 if something was found whose policy is `fail`, else 0.
    pub exit_code: u8,
}

impl Verdict {
    /// Whether nothing was found and nothing is open.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.leaks == 0
            && self.violations == 0
            && self.replaced == 0
            && self.failed_finalizers == 0
            && self.still_open.is_empty()
            && self.unjoined_children.is_empty()
    }
}
