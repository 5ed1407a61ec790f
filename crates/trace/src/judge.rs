//! The judge: all findings of a trace, in the order in which a report shows them.

use std::collections::HashSet;

use crate::finding::{Finding, Kind, LeakReason, Severity};
use crate::model::Model;
use crate::stack::StackId;

/// The findings of a trace: errors first, then warnings, then notes; of equal severity the order of
/// [`Kind`] and then of time.
///
/// Processes that have not ended are judged as if they ended now.
#[must_use]
pub fn judge(model: &Model) -> Vec<Finding> {
    let mut findings = model.findings_at_end();
    drop_grown(&mut findings);
    findings.sort_by_key(order);
    findings
}

fn order(finding: &Finding) -> (Severity, Kind, u64, i32, i32) {
    let Finding { severity, kind, first_ns, number, process, .. } = finding;
    (*severity, *kind, *first_ns, process.pid, *number)
}

/// A place whose descriptors grow from mark to mark is one leak, although they are open at the end, too.
fn drop_grown(findings: &mut Vec<Finding>) {
    let place = |finding: &Finding| -> Option<(String, &'static str, StackId)> {
        let opening = finding.opening.as_ref()?;
        Some((finding.process.program.to_string(), opening.call, opening.stack))
    };
    let is_growth = |finding: &Finding| finding.kind == Kind::Leak(LeakReason::Growth);
    let grown: HashSet<_> =
        findings.iter().filter(|finding| is_growth(finding)).filter_map(place).collect();
    findings.retain(|finding| {
        let is_at_end = matches!(finding.kind, Kind::OpenAtExit | Kind::Leak(_));
        !is_at_end
            || is_growth(finding)
            || place(finding).is_none_or(|place| !grown.contains(&place))
    });
}
