//! The judge: all findings of a trace, in the order in which a report shows them.

use crate::finding::{Finding, Kind, Severity};
use crate::model::Model;

/// The findings of a trace: errors first, then warnings, then notes; of equal severity the order of
/// [`Kind`] and then of time.
///
/// Processes that have not ended are judged as if they ended now.
#[must_use]
pub fn judge(model: &Model) -> Vec<Finding> {
    let mut findings = model.findings_at_end();
    findings.sort_by_key(order);
    findings
}

fn order(finding: &Finding) -> (Severity, Kind, u64, i32, i32) {
    let Finding { severity, kind, first_ns, number, process, .. } = finding;
    (*severity, *kind, *first_ns, process.pid, *number)
}
