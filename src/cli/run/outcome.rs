//! What is written at the end: the report in its format, and the exit code.

use std::io::{self, IsTerminal};
use std::path::Path;

use echown_fd::escape;
use echown_report::{RunReport, RunStatus, Severity};

use super::RunArguments;
use crate::cli::output::{documents, sources, sources_of_command, stderr_has_colours};
use crate::cli::reports::Reporting;
use crate::cli::stderr_line::{stderr_line, write_result};
use crate::report::{BaselineState, Colours, Document, Entry, Format, Suppression, github};

/// The exit code of a run with a finding that fails.
const EXIT_FINDING: i32 = 23;

/// The name of the report in messages.
pub(super) const REPORT: &str = "the report";

/// The selected findings of a run.
pub(super) struct Outcome {
    pub(super) report: RunReport,
    entries: Vec<(Entry, BaselineState)>,
    /// Whether a finding fails that is not in a baseline.
    is_failed: bool,
    /// The suppressions that match nothing.
    unused: Vec<String>,
}

impl Outcome {
    /// Selects the findings by the options.
    pub(super) fn new(
        mut report: RunReport,
        arguments: &RunArguments,
        reporting: &Reporting,
        suppressions: &[Suppression],
    ) -> Outcome {
        if let Some(fail_on) = &arguments.fail_on {
            fail_on.apply(&mut report);
        }
        let is_unused =
            |known: &&Suppression| !report.findings.iter().any(|it| it.is_matched_by(known));
        let unused = suppressions.iter().filter(is_unused).map(ToString::to_string).collect();
        if !arguments.notes {
            report.omit_notes();
        }
        report.suppress(suppressions);
        let entries = Entry::of_run(&report, &sources());
        let known: Vec<bool> = entries.iter().map(|entry| reporting.record(entry)).collect();
        let is_error = |index: usize| report.findings[index].severity == Severity::Error;
        let is_failed = (0..known.len()).any(|index| is_error(index) && !known[index]);
        let state = |entry: Entry| {
            let state = reporting.baseline_state(&entry);
            (entry, state)
        };
        let entries: Vec<_> = entries.into_iter().map(state).collect();
        report.omit_known(|index| entries[index].1 == BaselineState::Unchanged);
        Outcome { report, entries, is_failed, unused }
    }

    /// The exit code: that of the command, unless a finding fails.
    pub(super) fn exit_code(&self, command: i32) -> i32 {
        if self.is_failed { EXIT_FINDING } else { command }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// The error is a message for people.
    pub(super) fn write(
        &self,
        format: Format,
        path: Option<&Path>,
        is_quiet: bool,
    ) -> Result<(), String> {
        let colours = match path.is_none() && stderr_has_colours() {
            true => Colours::Always,
            false => Colours::Never,
        };
        let text = self.text(format, colours, is_quiet);
        for unused in self.unused.iter().filter(|_| !is_quiet) {
            stderr_line(format_args!("unused suppression, it may be out of date: {unused}"));
        }
        // The formats of CI services have no place for it.
        let has_coverage = matches!(format, Format::Text | Format::Json) && path.is_none();
        if !is_quiet && !has_coverage && !self.report.coverage.is_complete() {
            stderr_line(format_args!("{}", self.report.coverage));
        }
        let Some(path) = path else {
            // A terminal shows `^C` where its cursor is.
            let is_after_key =
                matches!(self.report.status, RunStatus::Signalled(_)) && io::stderr().is_terminal();
            return write_result(
                format!("{}{text}", if is_after_key { "\n" } else { "" }).as_bytes(),
            );
        };
        documents::write_private(REPORT, path, &text)?;
        if !is_quiet {
            stderr_line(format_args!("report written to {}", escape::path(path)));
            stderr_line(format_args!("echown: {}", self.report.summary()));
        }
        Ok(())
    }

    fn text(&self, format: Format, colours: Colours, is_quiet: bool) -> String {
        match format {
            Format::Text if is_quiet => {
                let sources = sources_of_command();
                let findings = self.report.findings.iter();
                findings.map(|finding| finding.render(&sources, colours) + "\n\n").collect()
            }
            Format::Text => self.report.render(&sources_of_command(), colours) + "\n",
            Format::Json => self.report.to_json() + "\n",
            Format::Github => {
                let is_new =
                    |(_, state): &&(Entry, BaselineState)| *state != BaselineState::Unchanged;
                let new = self.entries.iter().filter(is_new);
                let new = new.map(|(entry, _)| github::annotation(entry));
                let warning = self.report.coverage.warning();
                let warning = warning.map(|text| github::warning("coverage", &text));
                new.chain(warning).map(|line| line + "\n").collect()
            }
            Format::Junit | Format::Sarif => {
                let mut document = Document::new(format);
                for (entry, state) in &self.entries {
                    document.add(entry.clone(), *state);
                }
                if let Some(warning) = self.report.coverage.warning() {
                    document.add_warning(warning);
                }
                document.to_text()
            }
        }
    }
}
