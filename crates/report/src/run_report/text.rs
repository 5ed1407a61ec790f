//! A run's findings as text.

use std::fmt;

use super::{HistoryStep, RunFinding, RunProcess, RunReport, RunStatus, Severity};
use crate::{Code, Place, Plural};

/// The maximum number of descriptors of one finding that are described.
const DESCRIBED_MAX: usize = 5;

/// The minimum number of outer frames that are omitted because the first place has them, too.
const COMMON_MIN: usize = 3;

/// The findings, then notes, then the coverage, then a summary in one line. Without a line break at
/// the end.
impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            write!(f, "{finding}\n\n")?;
        }
        Rest(self).fmt(f)
    }
}

/// What follows the findings of a report.
pub(super) struct Rest<'a>(pub(super) &'a RunReport);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        if !report.findings.is_empty() {
            writeln!(f, "for details, run `echown explain CODE`")?;
        }
        for note in &report.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "{}", report.coverage)?;
        f.write_str(&report.summary())
    }
}

impl RunReport {
    /// The command with its arguments, if they are recorded. Those with white space are quoted.
    fn command_line(&self) -> String {
        let mut line = self.command.clone();
        for argument in self.arguments.iter().flatten() {
            let is_plain = !argument.is_empty() && !argument.contains([' ', '\'', '"']);
            line += &if is_plain { format!(" {argument}") } else { format!(" {argument:?}") };
        }
        line
    }

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
        let mut line = format!("`{}` {}: {found}", self.command_line(), self.status);
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

/// `exited with status 1`, `was ended by signal 15 (SIGTERM)`.
impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunStatus::Exited(status) => write!(f, "exited with status {status}"),
            RunStatus::Signalled(signal) => {
                write!(f, "was ended by signal {signal}")?;
                signal_name(*signal).map_or(Ok(()), |name| write!(f, " ({name})"))
            }
        }
    }
}

/// The name of a signal that ends a process by default, with Linux's numbers on x86 and Arm.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
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

    /// The history without its first steps that are in no code of the program (those of the dynamic
    /// linker), or nothing if the places have all of it or it is a note.
    fn further_history(&self) -> &[HistoryStep] {
        if self.severity == Severity::Note {
            return &[];
        }
        let first = self.history.iter().position(|step| step.site.is_some());
        let shown = &self.history[first.unwrap_or(0)..];
        if shown.len() > self.places.len() { shown } else { &[] }
    }
}

impl fmt::Display for RunFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity.as_str(), self.code, self.headline())?;
        Details(self).fmt(f)
    }
}

/// The lines of a finding below its headline. Each begins with a line break.
pub(super) struct Details<'a>(pub(super) &'a RunFinding);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let this = self.0;
        for descriptor in this.descriptors.iter().take(DESCRIBED_MAX) {
            write!(f, "\n  {descriptor}")?;
        }
        let others = &this.descriptors[this.descriptors.len().min(DESCRIBED_MAX)..];
        if !others.is_empty() {
            let numbers: Vec<String> = others.iter().map(|it| it.number.to_string()).collect();
            write!(f, "\n  and fd {}", numbers.join(" "))?;
        }
        let listed = this.descriptors.len() as u64;
        if this.is_of_open() && listed > 0 && this.count > listed {
            write!(f, "\n  and {} more", this.count - listed)?;
        }
        for sentence in &this.story {
            write!(f, "\n  {sentence}")?;
        }
        let is_numbered = this.places.len() > 1;
        for (index, place) in this.places.iter().enumerate() {
            f.write_str("\n    ")?;
            if is_numbered {
                write!(f, "{}. ", index + 1)?;
            }
            let first = this.places.first().filter(|_| index > 0);
            write!(f, "{}", PlaceText { place, first })?;
        }
        let history = this.further_history();
        if !history.is_empty() {
            let number = this.descriptors.first().map_or(0, |descriptor| descriptor.number);
            write!(f, "\n    history of fd {number} in this process:")?;
            history.iter().try_for_each(|step| write!(f, "\n      {step}"))?;
        }
        let is_repeated = this.count > 1 && !this.is_of_open();
        match (is_repeated, this.processes) {
            (false, ..=1) => {}
            (true, ..=1) => {
                write!(f, "\n  found {}; the first is shown", Plural(this.count, "time"))?;
            }
            (true, processes) => {
                let times = Plural(this.count, "time");
                write!(f, "\n  found {times} in {processes} processes; the first is shown")?;
            }
            (false, processes) => {
                write!(f, "\n  found in {processes} processes; the first is shown")?;
            }
        }
        write!(f, "\n  help: {}", this.help())
    }
}

/// A place without the outer frames that it has in common with the first place.
struct PlaceText<'a> {
    place: &'a Place,
    first: Option<&'a Place>,
}

impl fmt::Display for PlaceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { what, thread, frames } = self.place;
        if frames.is_empty() {
            return write!(f, "{what}, on thread {thread}");
        }
        let lines = self.place.lines();
        let (summary, stack) = lines.split_first().map_or(("", &[][..]), |(it, rest)| (it, rest));
        write!(f, "{summary}, on thread {thread}")?;
        let of_first = self.first.map(Place::lines).unwrap_or_default();
        let of_first = of_first.get(1..).unwrap_or_default();
        let pairs = stack.iter().rev().zip(of_first.iter().rev());
        let common = pairs.take_while(|(line, other)| line == other).count();
        // The innermost frame is always shown.
        let common = common.min(stack.len().saturating_sub(1));
        let omitted = if common >= COMMON_MIN { common } else { 0 };
        let shown = &stack[..stack.len() - omitted];
        shown.iter().try_for_each(|line| write!(f, "\n      in {line}"))?;
        match omitted {
            0 => Ok(()),
            omitted => write!(f, "\n      and {omitted} frames as in 1"),
        }
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
            let is_line = site.rsplit(':').next().is_some_and(|it| it.parse::<u32>().is_ok());
            write!(f, " {} {site}", if is_line { "at" } else { "in" })?;
        }
        write!(f, ", on thread {thread}")
    }
}
