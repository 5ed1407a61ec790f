//! The conversion of the checker's errors and leaks into the reports of `echown-report`.

use echown_report::{LeakReport, Report, ResourceData, SCHEMA_VERSION, ViolationReport};

use super::error::{Error, ErrorKind};
use super::record::Record;
use super::registry::Registry;
use super::snapshot;
use super::task::Task;

pub(super) fn of_leak(task: &Task, resources: Vec<ResourceData>) -> LeakReport {
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

pub(super) fn of_error(error: &Error, record: &Record) -> Report {
    classify(error, Some(snapshot::of_record(record)))
}

fn of_task_error(error: &Error) -> Report {
    classify(error, None)
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

impl Registry {
    /// Reports an error about a resource, if it is a violation.
    #[cold]
    pub(crate) fn report_violation(&self, error: &Error, record: &Record) {
        if error.kind().is_violation() && self.reports_violations() {
            self.deliver(of_error(error, record));
        }
    }

    /// Reports an error about tasks, if it is a violation.
    #[cold]
    pub(crate) fn report_task_violation(&self, error: &Error) {
        if error.kind().is_violation() && self.reports_violations() {
            self.deliver(of_task_error(error));
        }
    }
}
