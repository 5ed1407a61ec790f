//! `RegistrySummary`: counts of reports, an exit code, and the open resources.

use std::collections::BTreeMap;

use super::Code;
use super::ids::TaskLabel;
use super::snapshot::ResourceData;

/// The counts of a registry's reports, and the open resources.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct RegistrySummary {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// Resources that were leaked.
    pub leaks: u64,
    /// Violations.
    pub violations: u64,
    /// Descriptors that were closed or replaced outside the registry.
    pub replaced: u64,
    /// Finalizers that failed or panicked where no caller could handle the error.
    pub failed_finalizers: u64,
    /// Leaks that a suppression matched.
    pub suppressed: u64,
    /// Reports that are part of a baseline (`RegistryBuilder::baseline`).
    pub known: u64,
    /// Resources that were leaked, reported, and kept alive by a cycle of recorded references.
    pub cycles: u64,
    /// How often each code was reported. For leaks each resource counts. Ignored findings are not
    /// counted here.
    pub reported: BTreeMap<Code, u64>,
    /// The reasons of the suppressions that matched, and how often each did.
    pub used_suppressions: Vec<(String, u64)>,
    /// The suppressions that matched nothing, with their conditions: the leak may be fixed.
    pub unused_suppressions: Vec<String>,
    /// Resources that are still owned or offered.
    pub still_open: Vec<ResourceData>,
    /// Children that were not joined, cancelled or handed over.
    pub unjoined_children: Vec<TaskLabel>,
    /// 23 after a report whose policy is `fail`, else 0.
    pub exit_code: u8,
}

impl RegistrySummary {
    /// Whether nothing was reported and nothing is open.
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
