//! Reports of the checker, as plain data.

use std::sync::Arc;

use super::Code;
use super::ids::TaskLabel;
use super::site::Site;
use super::snapshot::ResourceData;

/// The report of resources that a task still owned at its end. All of them have been finalized.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct LeakReport {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The task that ended as the owner.
    pub task: TaskLabel,
    /// Name of the thread that it ran on.
    pub thread: Arc<str>,
    /// The kernel's id of that thread.
    pub thread_id: u32,
    /// Where the task was spawned, unless it is a thread that was not started as a task.
    pub spawned: Option<Site>,
    /// The leaked resources, in the order of finalizing: the latest acquisition first.
    pub resources: Vec<ResourceData>,
    /// How many further resources are not listed: `Registry::reports` keeps a bounded part of each
    /// report. Zero in a report that is delivered.
    pub resources_omitted: u64,
}

impl LeakReport {
    /// A copy with only the first `count` resources and the number of omitted ones.
    #[must_use]
    pub fn of_first(&self, count: usize) -> LeakReport {
        let omitted = self.resources.len().saturating_sub(count) as u64;
        LeakReport {
            resources: self.resources.iter().take(count).cloned().collect(),
            resources_omitted: self.resources_omitted + omitted,
            ..self.without_resources()
        }
    }

    /// A copy without the resources, whose cost does not depend on their number.
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

/// The report of a violation, a replaced descriptor or a failed finalizer.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct ViolationReport {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The code; see `ErrorKind::code`.
    pub code: Code,
    /// The message of the error that the caller got.
    pub message: String,
    /// The task that made the call.
    pub actor: TaskLabel,
    /// The owner, if known.
    pub owner: Option<TaskLabel>,
    /// Where the call was made.
    pub site: Site,
    /// The resource; `None` for a violation that concerns tasks.
    pub resource: Option<ResourceData>,
}

/// One report.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(tag = "verdict", rename_all = "kebab-case"))]
pub enum Report {
    /// A task ended normally and still owned something.
    Leak(LeakReport),
    /// A rule was broken; the call was rejected.
    Violation(ViolationReport),
    /// A descriptor was closed or replaced outside the registry; its replacement was not touched.
    FdReplaced(ViolationReport),
    /// A finalizer failed or panicked where no caller could handle the error.
    Finalizer(ViolationReport),
}

impl Report {
    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Report::Leak(_) => Code::Leak,
            Report::Violation(report) | Report::FdReplaced(report) | Report::Finalizer(report) => {
                report.code
            }
        }
    }
}
