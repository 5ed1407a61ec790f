//! A run's findings as text.

use std::fmt;

use super::{HistoryStep, RunFinding, RunProcess, RunReport, RunStatus, Severity};
use crate::{Code, Plural};

/// The maximum number of descriptors of one finding that are described.
const DESCRIBED_MAX: usize = 5;

/// The findings, then notes, then the coverage, then a summary in one line. Without a line break at
/// the end.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            write!(f, "{finding}\n\n")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "{}", self.coverage)?;
        f.write_str(&self.summary())
    }
}

impl RunReport {
    /// The numbers of findings, in one line: `2 errors (double-close), 1 warning (leak)`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let alike: Vec<&RunFinding> =
                self.findings.iter().filter(|finding| finding.severity == severity).collect();
            if alike.is_empty() {
                continue;
            }
            let mut codes: Vec<&str> = Vec::new();
            for finding in &alike {
                if !codes.contains(&finding.code.as_str()) {
                    codes.push(finding.code.as_str());
                }
            }
            let number = Plural(alike.len() as u64, severity.as_str());
            parts.push(format!("{number} ({})", codes.join(", ")));
        }
        let found = match parts.is_empty() {
            true => "no findings".to_owned(),
            false => parts.join(", "),
        };
        let mut line = format!("`{}` {}: {found}", self.command, self.status);
        let omitted = &self.omitted;
        if omitted.suppressed > 0 {
            line += &format!("; {} suppressed", omitted.suppressed);
        }
        if omitted.known > 0 {
            line += &format!("; {} known in the baseline", omitted.known);
        }
        match omitted.notes {
            0 => {}
            1 => line += "; 1 note is not shown, `--notes` shows it",
            notes => line += &format!("; {notes} notes are not shown, `--notes` shows them"),
        }
        line
    }
}

/// `exited with status 1`, `was ended by signal 15`.
impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunStatus::Exited(status) => write!(f, "exited with status {status}"),
            RunStatus::Signalled(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

impl RunFinding {
    /// Who did what, in one line: `` `server` (pid 4211) closed fd 7 a second time``.
    #[must_use]
    pub fn headline(&self) -> String {
        format!("{} {}", self.process, self.message)
    }

    /// Whether each descriptor of it is counted once.
    fn is_of_open(&self) -> bool {
        matches!(self.code, Code::Leak | Code::OpenAtExit)
    }

    /// Whether the history has steps that the places do not have.
    fn has_more_history(&self) -> bool {
        self.history.len() > self.places.len()
    }
}

impl fmt::Display for RunFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity.as_str(), self.code, self.headline())?;
        for descriptor in self.descriptors.iter().take(DESCRIBED_MAX) {
            write!(f, "\n  {descriptor}")?;
        }
        let others = &self.descriptors[self.descriptors.len().min(DESCRIBED_MAX)..];
        if !others.is_empty() {
            let numbers: Vec<String> = others.iter().map(|it| it.number.to_string()).collect();
            write!(f, "\n  and fd {}", numbers.join(" "))?;
        }
        let listed = self.descriptors.len() as u64;
        if self.is_of_open() && listed > 0 && self.count > listed {
            write!(f, "\n  and {} more", self.count - listed)?;
        }
        for sentence in &self.story {
            write!(f, "\n  {sentence}")?;
        }
        let is_numbered = self.places.len() > 1;
        for (index, place) in self.places.iter().enumerate() {
            f.write_str("\n    ")?;
            if is_numbered {
                write!(f, "{}. ", index + 1)?;
            }
            match place.frames.is_empty() {
                true => write!(f, "{}, on thread {}", place.what, place.thread)?,
                false => write!(f, "{place}")?,
            }
        }
        if self.has_more_history() {
            let number = self.descriptors.first().map_or(0, |descriptor| descriptor.number);
            write!(f, "\n    history of fd {number} in this process:")?;
            self.history.iter().try_for_each(|step| write!(f, "\n      {step}"))?;
        }
        let is_repeated = self.count > 1 && !self.is_of_open();
        match (is_repeated, self.processes) {
            (false, ..=1) => {}
            (true, ..=1) => {
                write!(f, "\n  found {}; the first is shown", Plural(self.count, "time"))?;
            }
            (true, processes) => {
                let times = Plural(self.count, "time");
                write!(f, "\n  found {times} in {processes} processes; the first is shown")?;
            }
            (false, processes) => {
                write!(f, "\n  found in {processes} processes; the first is shown")?;
            }
        }
        write!(f, "\n  help: {}", self.help())
    }
}

/// `` `server` (pid 4211)``
impl fmt::Display for RunProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program.is_empty() {
            true => write!(f, "process {}", self.pid),
            false => write!(f, "`{}` (pid {})", self.name(), self.pid),
        }
    }
}

impl fmt::Display for HistoryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HistoryStep { time_us, what, thread, site } = self;
        write!(f, "{}.{:06} s  {what}", time_us / 1_000_000, time_us % 1_000_000)?;
        if let Some(site) = site {
            write!(f, " at {site}")?;
        }
        write!(f, ", on thread {thread}")
    }
}
