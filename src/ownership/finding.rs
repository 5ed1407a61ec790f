//! What the checker found, as values. How they are printed is the business of `report`.

use std::sync::Arc;

use super::custody::Site;
use super::error::{Error, ErrorKind};
use super::record::Record;
use super::snapshot::ResourceData;
use super::task::{Task, TaskLabel};

/// Version of the JSON form of reports, snapshots and verdicts. Grows when a field changes its
/// meaning or goes; new fields may come at any time.
pub const SCHEMA_VERSION: u32 = 1;

/// What a task left behind, all of which has been finalized.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
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
    /// How many further ones were left: [`Registry::reports`](super::Registry::reports) keeps so much
    /// of each report and no more. Zero in a report that is delivered.
    pub resources_omitted: u64,
}

impl LeakReport {
    pub(crate) fn new(task: &Task, resources: Vec<ResourceData>) -> LeakReport {
        let (thread, thread_id) = task.thread().unwrap_or_else(|| ("".into(), 0));
        LeakReport {
            schema_version: SCHEMA_VERSION,
            task: task.label(),
            thread,
            thread_id,
            spawned: task.explicit_spawn_site(),
            resources,
            resources_omitted: 0,
        }
    }

    /// The same without the resources and their number: what it costs to copy does not depend on them.
    pub(crate) fn without_resources(&self) -> LeakReport {
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
#[non_exhaustive]
pub struct ViolationReport {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The stable word for what happened; see [`ErrorKind::code`].
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
#[non_exhaustive]
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
    pub(crate) fn of_error(error: &Error, record: &Record) -> Report {
        Report::classify(error, Some(ResourceData::of_record(record)))
    }

    pub(crate) fn of_task_error(error: &Error) -> Report {
        Report::classify(error, None)
    }

    fn classify(error: &Error, resource: Option<ResourceData>) -> Report {
        let data = error.data();
        let report = ViolationReport {
            schema_version: SCHEMA_VERSION,
            code: data.kind.code(),
            message: error.to_string(),
            actor: data.actor.clone(),
            owner: data.owner.clone(),
            site: data.site,
            resource,
        };
        match data.kind {
            ErrorKind::FdReplaced => Report::FdReplaced(report),
            ErrorKind::FinalizerFailed | ErrorKind::FinalizerPanicked => Report::Finalizer(report),
            _ => Report::Violation(report),
        }
    }

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
