//! The log of a registry's reports: the latest ones, bounded in number and in size.
//!
//! The failure story. Each report was kept as it was delivered: six tasks that each leaked 100,000
//! resources kept 637 MB until the process ended. So a kept report is truncated and states by how much.
//! A delivered report is complete.
//!
//! # Limits
//!
//! Sizes are estimates: task names are shared and not counted.

use std::collections::VecDeque;
use std::sync::Arc;

use super::moment::Moment;
use echown_report::graph::EdgeData;
use echown_report::{CustodyStep, Report, ResourceData, ViolationReport};

/// How many reports a registry keeps for [`Registry::reports`](super::Registry::reports). Older ones are
/// dropped. Each was delivered when it was made, and all are counted.
pub const REPORTS_KEPT: usize = 256;

/// The maximum size of all kept reports: about 4,000 resources at level `on`.
const BYTES_MAX: usize = 4 << 20;

/// The maximum size of one kept report, so that a large one leaves space for others.
const REPORT_BYTES_MAX: usize = BYTES_MAX / 4;

/// The maximum length of a kept message: a finalizer's error can have any length.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Reports with their sizes, oldest first.
#[derive(Default)]
pub(crate) struct ReportLog {
    reports: VecDeque<(usize, Moment, Arc<Report>)>,
    bytes: usize,
}

impl ReportLog {
    pub(crate) fn push(&mut self, at: Moment, report: Arc<Report>) {
        let size = size_of_report(&report);
        self.reports.push_back((size, at, report));
        self.bytes += size;
        while self.reports.len() > REPORTS_KEPT
            || (self.bytes > BYTES_MAX && self.reports.len() > 1)
        {
            self.bytes -= self.reports.pop_front().map_or(0, |(size, ..)| size);
        }
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        self.reports.iter().map(|(.., report)| Report::clone(report)).collect()
    }

    /// The reports with the times at which they were made.
    pub(crate) fn timed(&self) -> Vec<(Moment, Arc<Report>)> {
        self.reports.iter().map(|(_, at, report)| (*at, Arc::clone(report))).collect()
    }
}

/// A truncated copy to keep. For a leak of very many resources it contains the first ones, at least one.
pub(crate) fn truncated(report: &Report) -> Report {
    match report {
        Report::Leak(leak) => {
            let mut bytes = 0;
            let fits = |resource: &&ResourceData| {
                bytes += size_of_resource(resource);
                bytes <= REPORT_BYTES_MAX
            };
            let count = leak.resources.iter().take_while(fits).count().max(1);
            Report::Leak(leak.of_first(count))
        }
        Report::Violation(report) => Report::Violation(with_truncated_message(report)),
        Report::FdReplaced(report) => Report::FdReplaced(with_truncated_message(report)),
        Report::Finalizer(report) => Report::Finalizer(with_truncated_message(report)),
    }
}

fn with_truncated_message(report: &ViolationReport) -> ViolationReport {
    let ViolationReport { schema_version, code, message, actor, owner, site, resource } = report;
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let omitted = match message.len() - end {
        0 => String::new(),
        bytes => format!(" ({bytes} more bytes omitted)"),
    };
    ViolationReport {
        schema_version: *schema_version,
        code: *code,
        message: format!("{}{omitted}", &message[..end]),
        actor: actor.clone(),
        owner: owner.clone(),
        site: *site,
        resource: resource.clone(),
    }
}

fn size_of_report(report: &Report) -> usize {
    let inside = match report {
        Report::Leak(leak) => leak.resources.iter().map(size_of_resource).sum(),
        Report::Violation(report) | Report::FdReplaced(report) | Report::Finalizer(report) => {
            report.message.len() + report.resource.as_ref().map_or(0, size_of_resource)
        }
    };
    size_of::<Report>() + inside
}

fn size_of_resource(resource: &ResourceData) -> usize {
    let texts: usize = resource.places().into_iter().map(str::len).sum();
    let step = |step: &CustodyStep| {
        size_of::<CustodyStep>() + step.backtrace.as_ref().map_or(0, String::len)
    };
    let steps: usize = resource.custody.iter().map(step).sum();
    let edges = resource.kept_alive_by.as_ref().map_or(0, |it| it.edges.len() + it.path.len());
    size_of::<ResourceData>() + texts + steps + edges * size_of::<EdgeData>()
}
