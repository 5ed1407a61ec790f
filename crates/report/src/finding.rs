//! Findings of the checker as plain data.

use std::sync::Arc;

use super::ids::TaskLabel;
use super::site::Site;
use super::snapshot::ResourceData;

/// Version of the JSON form of reports, snapshots and verdicts. Grows when a field changes its
/// meaning or goes; new fields may come at any time.
pub const SCHEMA_VERSION: u32 = 1;

/// What a task left behind, all of which has been finalized.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct LeakReport {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The task that ended as the owner.
    pub task: TaskLabel,
    /// Name of the thread that it ran on.
    pub thread: Arc<str>,
    /// The kernel's id of that thread.
    pub thread_id: u32,
    /// Where the task was spawned, unless it is a thread that nobody started as a task.
    pub spawned: Option<Site>,
    /// What was left, in the order of finalizing: the latest acquisition first.
    pub resources: Vec<ResourceData>,
    /// How many further ones were left: `Registry::reports` keeps so much
    /// of each report and no more. Zero in a report that is delivered.
    pub resources_omitted: u64,
}

impl LeakReport {
    /// The same about its first resources; how many are omitted is part of it.
    #[must_use]
    pub fn of_first(&self, count: usize) -> LeakReport {
        let omitted = self.resources.len().saturating_sub(count) as u64;
        LeakReport {
            resources: self.resources.iter().take(count).cloned().collect(),
            resources_omitted: self.resources_omitted + omitted,
            ..self.without_resources()
        }
    }

    /// The same without the resources and their number: what it costs to copy does not depend on them.
    #[must_use]
    pub fn without_resources(&self) -> LeakReport {
        LeakReport {
            schema_version: self.schema_version,
            task: self.task.clone(),
            thread: Arc::clone(&self.thread),
            thread_id: self.thread_id,
            spawned: self.spawned,
            resources: Vec::new(),
            resources_omitted: 0,
        }
    }
}

/// Somebody did what only the owner may do, or a finalizer failed.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct ViolationReport {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The stable word for what happened; see `ErrorKind::code`.
    pub code: &'static str,
    /// The sentence that the offender got as its error.
    pub message: String,
    /// Who did it.
    pub actor: TaskLabel,
    /// Who was entitled.
    pub owner: Option<TaskLabel>,
    /// Where it was done.
    pub site: Site,
    /// What it was done to; `None` for a broken rule about tasks.
    pub resource: Option<ResourceData>,
}

/// One finding.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(tag = "verdict", rename_all = "kebab-case"))]
pub enum Report {
    /// A task ended normally and still owned something.
    Leak(LeakReport),
    /// A rule was broken; the offender was refused.
    Violation(ViolationReport),
    /// A descriptor was closed or replaced outside the registry; its replacement was not touched.
    FdReplaced(ViolationReport),
    /// A finalizer failed or panicked where there was nobody to tell.
    Finalizer(ViolationReport),
}

impl Report {
    /// The stable word for the verdict: `leak`, `fd-replaced`, `not-owner` and so on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Report::Leak(_) => "leak",
            Report::Violation(report) | Report::FdReplaced(report) | Report::Finalizer(report) => {
                report.code
            }
        }
    }
}
