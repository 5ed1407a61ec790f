//! The writer of findings to the file that `ECHOWN_REPORT` names.
//!
//! Records (`text`, `json`, `github`) are appended. In a document (`junit`, `sarif`) each test has
//! an entry: its present findings replace those of an earlier run. So a fixed test disappears from
//! the document by itself, even if each test runs in a process of its own and no process knows
//! where a run begins.

use echown_fd::escape;

use super::case::Case;
use super::excuse::Excused;
use super::shared;
use super::wishes::Wishes;
use echown_report::{Destination, Entry, Format, Sources, TestReport, github};

/// Writes what a test has to say, which may be nothing.
///
/// # Errors
/// What cannot be written, with the file's name.
pub(super) fn deliver(
    case: &Case,
    excused: &Excused,
    destination: &Destination,
    wishes: &Wishes,
) -> Result<(), String> {
    let path = &destination.path;
    let written = match (&excused.report, destination.format.is_document()) {
        (_, true) => update_document(case, excused, destination, wishes),
        (None, false) => Ok(()),
        (Some(report), false) => {
            let record = record(report, &case.suite(), destination.format, &wishes.sources);
            shared::append_record(path, record.as_bytes()).map_err(|error| error.to_string())
        }
    };
    written.map_err(|wrong| format!("cannot write the report to {}: {wrong}", escape::path(path)))
}

/// A report as it follows others.
fn record(report: &TestReport, suite: &str, format: Format, sources: &Sources) -> String {
    match format {
        #[cfg(feature = "ci")]
        Format::Json => format!("{}\n", report.to_json()),
        Format::Github => Entry::of_test(report, suite, sources)
            .iter()
            .map(|entry| format!("{}\n", github::annotation(entry)))
            .collect(),
        _ => format!("{report}\n\n"),
    }
}

#[cfg(feature = "ci")]
fn update_document(
    case: &Case,
    excused: &Excused,
    to: &Destination,
    wishes: &Wishes,
) -> Result<(), String> {
    use echown_report::{Document, Novelty, TestName};

    let mut document = Document::new(to.format);
    let new = if wishes.has_baseline() { Novelty::New } else { Novelty::Unasked };
    let of_test = |report| Entry::of_test(report, &case.suite(), &wishes.sources);
    for entry in excused.report.iter().flat_map(of_test) {
        document.add(entry, new);
    }
    for entry in &excused.known {
        document.add(entry.clone(), Novelty::Known);
    }
    let test = TestName::new(&case.suite(), &case.name());
    let is_silent = excused.report.is_none() && excused.known.is_empty();
    // Most tests have nothing to say and never had. What is read here is whole without the lock.
    if is_silent {
        match std::fs::read_to_string(&to.path) {
            Ok(text) if document.resembles(&text) && !text.contains(&test.name) => return Ok(()),
            _ => {}
        }
    }
    shared::update(&to.path, |text| {
        document.merge_into(text, &test).map_err(|wrong| format!("{wrong}; name another file"))
    })
}

/// [`Destination`] refuses formats that are not built in.
#[cfg(not(feature = "ci"))]
fn update_document(_: &Case, _: &Excused, to: &Destination, _: &Wishes) -> Result<(), String> {
    Err(format!("{} is not built in", to.format))
}

/// Enters known findings into the baseline that is being written.
///
/// # Errors
/// What cannot be written, with the file's name.
#[cfg(feature = "ci")]
pub(super) fn enter(excused: &Excused, wishes: &Wishes) -> Result<(), String> {
    let Some(path) = &wishes.write_baseline else { return Ok(()) };
    let entered = shared::update(path, |text| {
        let written = echown_report::Baseline::written(text, &excused.known)?;
        Ok((written != text).then_some(written))
    });
    entered.map_err(|wrong| format!("cannot write the baseline {}: {wrong}", escape::path(path)))
}

/// Without the feature `ci` none is.
#[cfg(not(feature = "ci"))]
pub(super) fn enter(_: &Excused, _: &Wishes) -> Result<(), String> {
    Ok(())
}
