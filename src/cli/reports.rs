//! The options `--report`, `--report-file` and `--baseline`: format and destination of findings.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use echown_fd::escape;
use tracing::Level;

use super::log_arguments::OutputFormat;
use super::output::documents;
use super::stderr_line::form::{is_json, marked};
use super::stderr_line::{Line, stderr_line};
use crate::ownership::{RegistryBuilder, Report};
use crate::report::{Baseline, BaselineState, Colours, Entry, Format, Plural, Sources, github};

/// Options of the checker's reports.
#[derive(Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct ReportArguments {
    /// Format of reports. [default: text; json on standard error with --log-format json]
    #[arg(long, visible_alias = "format", value_name = "FORMAT", value_parser = formats())]
    report: Option<Format>,

    /// Append reports to this file instead of standard error. SIGHUP reopens it. Required for the
    /// document formats (`junit`, `sarif`): the file is replaced as a whole after each finding. To
    /// rotate it, move the file and send SIGHUP.
    #[arg(long, value_name = "FILE")]
    report_file: Option<PathBuf>,

    /// Known findings, from `--write-baseline`. They are counted, but not reported (`sarif` marks them
    /// as `unchanged`) and do not fail the run. At exit, entries that were not found again are listed.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Write the findings of this run to this file at exit, as a baseline, and do not fail because of
    /// them. Checked at startup.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
}

/// The name of the document in messages.
const BASELINE: &str = "the baseline";

fn formats() -> impl TypedValueParser<Value = Format> {
    let help = |format: &Format| match format {
        Format::Text => "text with source lines, where sources are available",
        Format::Json => "one JSON object per line",
        Format::Junit => "a JUnit document: one failed test per source location",
        Format::Sarif => "a SARIF 2.1.0 document, for code scanning",
        Format::Github => "GitHub Actions annotations, one per source location",
    };
    let values = Format::ALL.iter().map(move |it| PossibleValue::new(it.name()).help(help(it)));
    PossibleValuesParser::new(values).try_map(|word| word.parse())
}

impl ReportArguments {
    /// Reads the baseline. After this, every file that the process opens has an owner.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn prepare(&self, log_format: OutputFormat) -> Result<Reporting, String> {
        let is_json_stderr = log_format == OutputFormat::Json && self.report_file.is_none();
        let default = if is_json_stderr { Format::Json } else { Format::Text };
        let format = self.report.unwrap_or(default);
        if format.is_document() && self.report_file.is_none() {
            return Err(format!(
                "--report {format} is a document and cannot be mixed with other output: add \
                 --report-file FILE"
            ));
        }
        if format == Format::Github && is_json_stderr {
            return Err(format!(
                "--report {format} is lines of text and cannot be mixed with --log-format json: add \
                 --report-file FILE"
            ));
        }
        let read = |path: &PathBuf| {
            Baseline::read(path, &Sources::nearby()).map_err(|error| error.to_string())
        };
        Ok(Reporting {
            format,
            path: self.report_file.clone(),
            baseline: self.baseline.as_ref().map(read).transpose()?,
            findings: self.write_baseline.clone().map(|path| (path, Mutex::default())),
            annotated: Mutex::default(),
        })
    }
}

impl ReportArguments {
    /// Whether the findings are one document, which is replaced as a whole.
    pub(super) fn is_document(&self) -> bool {
        self.report.is_some_and(Format::is_document)
    }

    /// The output files, by option.
    pub(super) fn outputs(&self) -> [(&'static str, Option<&Path>); 2] {
        [
            ("--report-file", self.report_file.as_deref()),
            ("--write-baseline", self.write_baseline.as_deref()),
        ]
    }
}

/// Format, destination and baseline of the reports.
pub(super) struct Reporting {
    format: Format,
    path: Option<PathBuf>,
    baseline: Option<Baseline>,
    /// For `--write-baseline`: each finding once, by its fingerprint.
    findings: Option<(PathBuf, Mutex<HashMap<String, Entry>>)>,
    /// Fingerprints that were already written as GitHub annotations.
    annotated: Mutex<HashSet<String>>,
}

impl Reporting {
    /// All findings as text on standard error.
    #[cfg(target_os = "linux")]
    pub(super) fn text_to_stderr() -> Reporting {
        Reporting {
            format: Format::Text,
            path: None,
            baseline: None,
            findings: None,
            annotated: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Makes the registry ignore findings of the baseline in its exit code.
    pub(super) fn apply_baseline(
        this: &Arc<Reporting>,
        registry: RegistryBuilder,
    ) -> RegistryBuilder {
        if this.baseline.is_none() && this.findings.is_none() {
            return registry;
        }
        let this = Arc::clone(this);
        registry.baseline(move |report| {
            // No file can be opened while a report is made; the line number is enough.
            let entries = Entry::of_report(report, &Sources::none());
            let known = this.baseline.as_ref().map(|known| {
                // No short circuit: each matching entry is marked as used.
                entries.iter().filter(|entry| known.record_match(entry)).count() == entries.len()
            });
            this.findings.is_some() || known == Some(true)
        })
    }

    /// Splits a report into entries with their baseline state, and records them for `--write-baseline`.
    pub(super) fn entries(
        &self,
        report: &Report,
        sources: &Sources,
    ) -> Vec<(Entry, BaselineState)> {
        let entries = Entry::of_report(report, sources);
        entries.iter().for_each(|entry| self.collect(entry));
        let states: Vec<_> = entries.iter().map(|entry| self.baseline_state(entry)).collect();
        entries.into_iter().zip(states).collect()
    }

    /// Collects a finding for `--write-baseline`.
    fn collect(&self, entry: &Entry) {
        if let Some((_, findings)) = &self.findings {
            let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
            findings.entry(entry.fingerprint()).or_insert_with(|| entry.clone());
        }
    }

    /// Compares a finding with the baseline, marks the entry that matches as used, and collects the
    /// finding for `--write-baseline`. Whether the finding is known: it does not fail the run.
    pub(super) fn record(&self, entry: &Entry) -> bool {
        self.collect(entry);
        let is_in_baseline = self.baseline.as_ref().is_some_and(|known| known.record_match(entry));
        is_in_baseline || self.findings.is_some()
    }

    pub(super) fn baseline_state(&self, entry: &Entry) -> BaselineState {
        match &self.baseline {
            None => BaselineState::NoBaseline,
            Some(baseline) if baseline.matches(entry) => BaselineState::Unchanged,
            Some(_) => BaselineState::New,
        }
    }

    /// A report as text: followed by an empty line, or as lines. Empty if all of it is in the
    /// baseline.
    pub(super) fn render(&self, report: &Report, sources: &Sources, colours: Colours) -> String {
        let mut entries = Entry::of_report(report, sources);
        entries.retain(|entry| self.baseline_state(entry) != BaselineState::Unchanged);
        if entries.is_empty() {
            return String::new();
        }
        match self.format {
            Format::Json => format!("{}\n", report.to_json()),
            Format::Github => {
                let mut annotated = self.annotated.lock().unwrap_or_else(PoisonError::into_inner);
                entries.retain(|entry| annotated.insert(entry.fingerprint()));
                entries.iter().map(|entry| format!("{}\n", github::annotation(entry))).collect()
            }
            // Document formats print text, too, before their file is open and after it is closed.
            Format::Text | Format::Junit | Format::Sarif => {
                format!("{}\n\n", report.render(sources, colours))
            }
        }
    }

    /// A report as [`render`](Reporting::render) writes it, in the form of standard error.
    pub(super) fn for_stderr(
        &self,
        report: &Report,
        sources: &Sources,
        colours: Colours,
    ) -> Vec<u8> {
        let text = self.render(report, sources, colours);
        if text.is_empty() || !is_json() {
            return marked(text.into_bytes(), Level::ERROR);
        }
        if self.format != Format::Json {
            return Line::finding(Some(text.trim_end()), "{}").into_bytes();
        }
        let headline = report.to_string().lines().next().unwrap_or_default().to_owned();
        let message = matches!(report, Report::Leak(_)).then_some(&*headline);
        Line::finding(message, text.trim_end()).into_bytes()
    }

    /// The format of the line that reports dropped items, for a report file that people read line by
    /// line.
    pub(super) fn notice(&self) -> Option<OutputFormat> {
        (self.format == Format::Text).then_some(OutputFormat::Text)
    }

    /// Checks that the requested baseline can be written at the end.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check_writable(&self) -> Result<(), String> {
        self.findings.as_ref().map_or(Ok(()), |(path, _)| documents::attempt(BASELINE, path))
    }

    /// Finishes a run: logs how the baseline was used, and writes the requested one.
    ///
    /// # Errors
    /// The baseline cannot be written. The message contains its name.
    pub(super) fn finish(&self) -> Result<(), String> {
        if let Some(baseline) = &self.baseline {
            let (entries, findings) = baseline.used();
            if findings > 0 {
                stderr_line(format_args!(
                    "baseline: {} known (entries used: {entries})",
                    Plural(findings, "finding")
                ));
            }
            for unused in baseline.unused() {
                // `run` has no log; its messages are lines of their own.
                if tracing::enabled!(tracing::Level::WARN) {
                    tracing::warn!("baseline entry not found again, it may be fixed: {unused}");
                } else if !tracing::dispatcher::has_been_set() {
                    stderr_line(format_args!(
                        "baseline entry not found again, it may be fixed: {unused}"
                    ));
                }
            }
        }
        let Some((path, findings)) = &self.findings else { return Ok(()) };
        let findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
        let text = Baseline::written("", findings.values()).map_err(|error| error.to_string())?;
        documents::write(BASELINE, path, &text)?;
        stderr_line(format_args!(
            "baseline: {} written to {}",
            Plural(findings.len() as u64, "finding"),
            escape::path(path)
        ));
        Ok(())
    }
}
