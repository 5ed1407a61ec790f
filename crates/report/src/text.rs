//! Findings as text: a headline, then one fact per line.

use std::fmt;
use std::time::Duration;

use super::Plural;
use crate::{
    Code, CustodyStep, Event, LeakReport, RegistrySummary, Report, ResourceData, Snapshot,
    ViolationReport,
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Leak(report) => report.fmt(f),
            Report::Violation(report) | Report::FdReplaced(report) | Report::Finalizer(report) => {
                report.fmt(f)
            }
        }
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leak: {}", self.headline())?;
        write!(f, "\n  thread: `{}` (kernel id {})", self.thread, self.thread_id)?;
        if let Some(spawned) = self.spawned {
            write!(f, "\n  task spawned at {spawned}")?;
        }
        for resource in &self.resources {
            write!(f, "\n  {}", Headline(resource))?;
            details(f, resource)?;
        }
        if self.resources_omitted > 0 {
            write!(f, "\n  ({} more omitted)", self.resources_omitted)?;
        }
        write!(f, "\n  help: {}", Code::Leak.explanation().help)
    }
}

impl LeakReport {
    /// The headline: what happened, in one line, after the code.
    pub(super) fn headline(&self) -> String {
        let count = self.resources.len() as u64 + self.resources_omitted;
        let noun = if count == 1 { "resource" } else { "resources" };
        format!("{} ended and still owned {count} {noun}", self.task)
    }
}

impl fmt::Display for ViolationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.headline())?;
        write!(f, "\n  at {}, by {}", self.site, self.actor)?;
        if let Some(owner) = &self.owner {
            write!(f, "\n  owner: {owner}")?;
        }
        if let Some(resource) = &self.resource {
            write!(f, "\n  {}", Headline(resource))?;
            details(f, resource)?;
        }
        write!(f, "\n  help: {}", self.code.explanation().help)
    }
}

impl ViolationReport {
    /// The headline: what happened, in one line, after the code.
    pub(super) fn headline(&self) -> String {
        match self.code.explanation().words {
            words if words == self.code.as_str() => self.message.clone(),
            words => format!("{words}: {}", self.message),
        }
    }
}

/// Kind, number and addresses, in one line.
pub(super) struct Headline<'a>(pub(super) &'a ResourceData);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = self.0;
        match resource.number {
            Some(number) => write!(f, "{} fd {number}", resource.kind)?,
            None => write!(f, "{} (resource {})", resource.kind, resource.id)?,
        }
        if let Some(half) = resource.half {
            write!(f, ", {half} half")?;
        }
        match (&resource.local, &resource.peer, &resource.path) {
            (Some(local), Some(peer), _) => write!(f, ", {local} <-> {peer}"),
            (Some(local), None, _) => write!(f, ", {local}"),
            (None, Some(peer), _) => write!(f, ", to {peer}"),
            (None, None, Some(path)) => write!(f, ", {path}"),
            (None, None, None) => Ok(()),
        }
    }
}

/// Owner, state and identity, in one line.
pub(super) struct Standing<'a>(pub(super) &'a ResourceData);

impl fmt::Display for Standing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = self.0;
        write!(f, "resource {}", resource.id)?;
        if let Some(whole) = resource.half_of {
            write!(f, " (half of {whole})")?;
        }
        if let Some(identity) = resource.identity {
            write!(f, ", {identity}")?;
        }
        write!(f, ", {}", resource.state)?;
        match &resource.owner {
            Some(owner) => write!(f, ", owner {owner}"),
            None => Ok(()),
        }
    }
}

/// The bytes transferred, if any.
pub(super) struct Traffic<'a>(pub(super) &'a ResourceData);

impl fmt::Display for Traffic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes_in, bytes_out) = (self.0.bytes_in, self.0.bytes_out);
        if bytes_in + bytes_out > 0 {
            write!(f, ", {} in, {} out", Plural(bytes_in, "byte"), Plural(bytes_out, "byte"))?;
        }
        Ok(())
    }
}

/// The recorded backtraces, with the numbers of their steps.
#[cfg(feature = "annotated")]
pub(super) fn backtraces(resource: &ResourceData) -> impl Iterator<Item = (usize, &str)> {
    let steps = resource.custody.iter().enumerate();
    steps.filter_map(|(index, step)| Some((index + 1, step.backtrace.as_deref()?)))
}

fn details(f: &mut fmt::Formatter<'_>, resource: &ResourceData) -> fmt::Result {
    write!(f, "\n    acquired at {}, {} ago", resource.acquired, Age(resource.age_ms))?;
    write!(f, "\n    {}{}", Standing(resource), Traffic(resource))?;
    if resource.custody_omitted > 0 {
        write!(f, "\n    ({} custody steps omitted)", resource.custody_omitted)?;
    }
    for step in &resource.custody {
        write!(f, "\n    {step}")?;
        if let Some(backtrace) = &step.backtrace {
            for line in backtrace.lines() {
                write!(f, "\n      {line}")?;
            }
        }
    }
    if let Some(cycle) = &resource.kept_alive_by {
        for line in cycle.to_string().lines() {
            write!(f, "\n    {line}")?;
        }
    }
    Ok(())
}

impl fmt::Display for CustodyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.event, Times(self.times))?;
        match (&self.from, &self.to) {
            _ if self.event.has_process() => write!(f, "{}", Passing(self))?,
            (Some(from), Some(to)) if from.id != to.id => write!(f, " {from} -> {to}")?,
            (Some(_), Some(to)) => write!(f, " by {to}")?,
            (None, Some(to)) => write!(f, " by {to}")?,
            (Some(from), None) => write!(f, " by {from}")?,
            (None, None) => {}
        }
        write!(f, " at {}, {} ago (thread {})", self.site, Age(self.ago_ms), self.thread_id)
    }
}

/// How many steps one stands for: ` 41233 times, last`.
pub(super) struct Times(pub(super) u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => Ok(()),
            times => write!(f, " {times} times, last"),
        }
    }
}

/// The parties of a step with another process: `` from process 4711 by task 1 `main` ``.
pub(super) struct Passing<'a>(pub(super) &'a CustodyStep);

impl fmt::Display for Passing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CustodyStep { event, from, to, .. } = self.0;
        let (word, process, task) = match event {
            Event::Received => ("from", from, to),
            Event::Shared => ("with", to, from),
            _ => ("to", to, from),
        };
        if let Some(process) = process {
            write!(f, " {word} {}", process.name)?;
        }
        match task {
            Some(task) => write!(f, " by {task}"),
            None => Ok(()),
        }
    }
}

/// A duration in milliseconds, shown in a suitable unit.
pub(super) struct Age(pub(super) u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0ms"),
            millis => write!(f, "{:?}", Duration::from_millis(millis)),
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tasks, resources) = (Plural(self.tasks.len() as u64, "task"), self.resources.len());
        write!(f, "custody: {resources} owned by {tasks}, {} declared", self.declared.len())?;
        for task in &self.tasks {
            write!(f, "\n{} ({}", task.task, task.state)?;
            if task.cancelled {
                f.write_str(", cancelled")?;
            }
            if let (Some(name), Some(id)) = (&task.thread, task.thread_id) {
                write!(f, ", thread `{name}` {id}")?;
            }
            f.write_str(")")?;
            if let Some(spawned) = task.spawned {
                write!(f, " spawned at {spawned}")?;
            }
            write!(f, ", {} old", Age(task.age_ms))?;
            for resource in self.resources.iter().filter(|r| task.owns.contains(&r.id)) {
                write!(f, "\n  {}", Headline(resource))?;
                details(f, resource)?;
            }
        }
        for declared in &self.declared {
            write!(f, "\nfd {} declared: {}, {}", declared.number, declared.name, declared.reason)?;
        }
        Ok(())
    }
}

impl fmt::Display for RegistrySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}, {}, {}, {} still open",
            Plural(self.leaks, "leak"),
            Plural(self.violations, "violation"),
            Plural(self.replaced, "replaced fd"),
            Plural(self.failed_finalizers, "failed finalizer"),
            self.still_open.len()
        )?;
        for child in &self.unjoined_children {
            write!(f, "\nunjoined child: {child}")?;
        }
        for (reason, times) in &self.used_suppressions {
            write!(f, "\nsuppressed {}: {reason}", Plural(*times, "time"))?;
        }
        for unused in &self.unused_suppressions {
            write!(f, "\nunused suppression: {unused}")?;
        }
        Ok(())
    }
}
