//! A run's findings as entries.

use super::of_test::of_frame;
use super::{Entry, Location};
use crate::{Place, RunFinding, RunReport, Sources, StackFrame};

impl Entry {
    /// The findings of a run, one entry for each, in their order.
    #[must_use]
    pub fn of_run(report: &RunReport, sources: &Sources) -> Vec<Entry> {
        report.findings.iter().map(|finding| of_finding(finding, sources)).collect()
    }
}

fn of_finding(finding: &RunFinding, sources: &Sources) -> Entry {
    let location = location(finding);
    Entry {
        code: finding.code,
        severity: finding.severity,
        headline: finding.headline(),
        text: finding.to_string(),
        help: finding.help(),
        resource: finding.descriptors.first().map(|descriptor| descriptor.kind.clone()),
        source: sources.line(&location.file, location.line),
        location,
        steps: Vec::new(),
        stacks: finding.places.clone(),
        test: None,
        program: Some(finding.process.name().to_owned()),
    }
}

/// The line that matters most; without debug information, the function in the program's file, or else
/// the offset.
fn location(finding: &RunFinding) -> Location {
    let others = || finding.places.iter();
    let main = || finding.main_place().into_iter();
    let with_line = main().chain(others()).find_map(|place| of_frame(source_frame(place)?));
    with_line.unwrap_or_else(|| {
        let named = main().chain(others()).find_map(named_frame);
        let function = named.or_else(|| main().chain(others()).find_map(unnamed_frame));
        let package = function.and_then(|frame| frame.package.clone());
        let file = package.unwrap_or_else(|| finding.process.name().to_owned());
        Location {
            file,
            is_inside: false,
            line: 0,
            column: 0,
            function: function.map(|frame| frame.function.clone()),
        }
    })
}

/// The innermost frame with a source line in the program's own code, or else in a library.
fn source_frame(place: &Place) -> Option<&StackFrame> {
    let own = place.frames.iter().find(|frame| frame.is_own && frame.file.is_some());
    own.or_else(|| place.primary())
}

/// The innermost frame outside the C library, with a name and not only an address.
fn named_frame(place: &Place) -> Option<&StackFrame> {
    place.frames.iter().find(|frame| !frame.is_between() && !has_address(frame))
}

/// The innermost frame of which only the offset in its file is known. It stays the same until the
/// file is built again, unlike that of code that was generated at run time.
fn unnamed_frame(place: &Place) -> Option<&StackFrame> {
    place.frames.iter().find(|frame| !frame.is_between() && !frame.function.starts_with("0x"))
}

/// Whether it has an address in place of a function: `0x1234`, or `FILE+0x1234`.
fn has_address(frame: &StackFrame) -> bool {
    frame.function.starts_with("0x") || frame.function.contains("+0x")
}
