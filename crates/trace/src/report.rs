//! Reports: the findings of the judge as the plain data that `echown_report` formats.
//!
//! Stacks become places with functions and lines. Findings whose places look alike to a reader become
//! one. Texts of the traced program are escaped here, where they leave the model.

mod coverage;
mod descriptor;
mod merge;
mod place;
mod words;

use echown_fd::escape;
use echown_report::{
    Code, Coverage, HistoryStep, RunFinding, RunProcess, RunReport, SCHEMA_VERSION, Severity,
    StackFrame,
};

use crate::finding::{Finding, Kind, Process};
use crate::model::Model;
use crate::stack::{StackId, Stacks};
use crate::symbolize::Symbolizer;
use place::Places;

/// A report of the judge's findings, most severe first. The caller adds the command and its status.
pub fn run_report(
    findings: &[Finding],
    model: &Model,
    stacks: &Stacks,
    symbolizer: &mut Symbolizer,
) -> RunReport {
    let mut resolve = |stack| symbolizer.resolve(stacks, stack);
    let mut report = of_findings(findings, coverage::coverage(model), &mut resolve);
    report.notes.extend_from_slice(symbolizer.notes());
    report
}

/// A report of findings. `resolve` returns the frames of a stack with functions and lines.
fn of_findings(
    findings: &[Finding],
    coverage: Coverage,
    resolve: &mut dyn FnMut(StackId) -> Vec<StackFrame>,
) -> RunReport {
    let mut report = RunReport {
        schema_version: SCHEMA_VERSION,
        findings: merge::merged(findings, &mut Places::new(resolve)),
        coverage,
        ..RunReport::default()
    };
    report.sort();
    report
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::DoubleClose => Code::DoubleClose,
        Kind::UseAfterClose => Code::UseAfterClose,
        Kind::ExecLeak => Code::ExecLeak,
        Kind::Leak(_) => Code::Leak,
        Kind::NotOpen => Code::NotOpen,
        Kind::Overwritten => Code::OverwrittenFd,
        Kind::OpenAtExit => Code::OpenAtExit,
    }
}

fn severity(severity: crate::finding::Severity) -> Severity {
    match severity {
        crate::finding::Severity::Error => Severity::Error,
        crate::finding::Severity::Warning => Severity::Warning,
        crate::finding::Severity::Note => Severity::Note,
    }
}

fn process(process: &Process) -> RunProcess {
    // A path is escaped like other bytes, so that no other path looks like it.
    let program = escape::bytes(process.program.as_bytes()).into_owned();
    RunProcess { pid: process.pid, program }
}

/// A finding without the others that look like it.
fn finding(finding: &Finding, places: &mut Places<'_>) -> RunFinding {
    let (steps, main_place) = words::steps(finding);
    let pid = finding.process.pid;
    RunFinding {
        code: code(finding.kind),
        severity: severity(finding.severity),
        message: words::message(finding, finding.count),
        process: process(&finding.process),
        descriptors: descriptor::described(finding).into_iter().collect(),
        places: steps
            .into_iter()
            .map(|step| places.place(step.what, step.thread, step.stack, pid))
            .collect(),
        main_place,
        story: words::story(finding),
        history: finding
            .history
            .iter()
            .map(|step| HistoryStep {
                time_us: step.time_ns / 1000,
                what: words::of_step(step),
                thread: place::thread(&step.thread, pid),
                site: places.site(step.stack),
            })
            .collect(),
        count: finding.count,
        processes: finding.processes,
    }
}

#[cfg(test)]
mod tests;
