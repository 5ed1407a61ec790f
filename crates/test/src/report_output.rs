//! The writer of findings to the file that `ECHOWN_REPORT` names.
//!
//! Records (`text`, `json`, `github`) are appended. In a document (`junit`, `sarif`) each test has
//! an entry, whose findings replace those of an earlier run. So a fixed test disappears from the
//! document, even if each test runs in a separate process and none of them knows where a run
//! begins.

use echown_fd::escape;

use super::case::Case;
use super::env_settings::EnvSettings;
use super::filter::Filtered;
use super::locked_file;
use echown_report::{Destination, Entry, Format, Sources, TestReport, github};

/// Writes the report of a test, which may have no findings.
///
/// # Errors
/// The file cannot be written; the message contains its name.
pub(super) fn write(
    case: &Case,
    filtered: &Filtered,
    destination: &Destination,
    settings: &EnvSettings,
) -> Result<(), String> {
    let path = &destination.path;
    let written = match (&filtered.report, destination.format.is_document()) {
        (_, true) => update_document(case, filtered, destination, settings),
        (None, false) => Ok(()),
        (Some(report), false) => {
            let record = record(report, &case.suite(), destination.format, &settings.sources);
            locked_file::append_record(path, record.as_bytes()).map_err(|error| error.to_string())
        }
    };
    written
        .map_err(|error| format!("failed to write the report to {}: {error}", escape::path(path)))
}

/// A report as one record, which is appended to the file.
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
    filtered: &Filtered,
    to: &Destination,
    settings: &EnvSettings,
) -> Result<(), String> {
    use echown_report::{BaselineState, Document, TestName};

    let mut document = Document::new(to.format);
    let new = if settings.has_baseline() { BaselineState::New } else { BaselineState::NoBaseline };
    let of_test = |report| Entry::of_test(report, &case.suite(), &settings.sources);
    for entry in filtered.report.iter().flat_map(of_test) {
        document.add(entry, new);
    }
    for entry in &filtered.known {
        document.add(entry.clone(), BaselineState::Unchanged);
    }
    let test = TestName::new(&case.suite(), &case.name());
    let is_silent = filtered.report.is_none() && filtered.known.is_empty();
    // Most tests have no findings and no entry. Reading without the lock is correct, because the
    // file is always complete.
    if is_silent {
        match std::fs::read_to_string(&to.path) {
            Ok(text) if document.resembles(&text) && !text.contains(&test.name) => return Ok(()),
            _ => {}
        }
    }
    locked_file::update(&to.path, |text| {
        document.merge_into(text, &test).map_err(|error| format!("{error}; name another file"))
    })
}

/// Unreachable: [`Destination`] rejects formats that are not compiled in.
#[cfg(not(feature = "ci"))]
fn update_document(
    _: &Case,
    _: &Filtered,
    to: &Destination,
    _: &EnvSettings,
) -> Result<(), String> {
    Err(format!("{} is not built in", to.format))
}

/// Adds findings to the baseline that `ECHOWN_WRITE_BASELINE` names.
///
/// # Errors
/// The file cannot be written; the message contains its name.
#[cfg(feature = "ci")]
pub(super) fn add_to_baseline(filtered: &Filtered, settings: &EnvSettings) -> Result<(), String> {
    let Some(path) = &settings.write_baseline else { return Ok(()) };
    let added = locked_file::update(path, |text| {
        let written = echown_report::Baseline::written(text, &filtered.known)
            .map_err(|error| error.to_string())?;
        Ok((written != text).then_some(written))
    });
    added.map_err(|error| format!("failed to write the baseline {}: {error}", escape::path(path)))
}

/// Does nothing: without the feature `ci` no baseline is written.
#[cfg(not(feature = "ci"))]
pub(super) fn add_to_baseline(_: &Filtered, _: &EnvSettings) -> Result<(), String> {
    Ok(())
}
