//! Findings as text: a headline, then one fact per line.

use std::fmt;
use std::time::Duration;

use crate::ownership::{
    CustodyStep, LeakReport, Report, ResourceData, Snapshot, Verdict, ViolationReport,
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Leak(report) => report.fmt(f),
            Report::Violation(report) | Report::Theft(report) | Report::Finalizer(report) => {
                report.fmt(f)
            }
        }
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.resources.len();
        let noun = if count == 1 { "resource" } else { "resources" };
        write!(f, "leak: {} ended and still owned {count} {noun}", self.task)?;
        write!(f, "\n  thread: `{}` (kernel id {})", self.thread, self.thread_id)?;
        if let Some(spawned) = self.spawned {
            write!(f, "\n  task spawned at {spawned}")?;
        }
        for resource in &self.resources {
            write!(f, "\n  {}", Headline(resource))?;
            details(f, resource)?;
        }
        f.write_str("\n  help: release it, disown it, or transfer it before the task ends")
    }
}

impl fmt::Display for ViolationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        write!(f, "\n  at {}, by {}", self.site, self.actor)?;
        match &self.resource {
            Some(resource) => {
                write!(f, "\n  {}", Headline(resource))?;
                details(f, resource)
            }
            None => Ok(()),
        }
    }
}

/// Kind, number, addresses: on one line.
struct Headline<'a>(&'a ResourceData);

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

fn details(f: &mut fmt::Formatter<'_>, resource: &ResourceData) -> fmt::Result {
    write!(f, "\n    acquired at {}, {} ago", resource.acquired, Age(resource.age_ms))?;
    if resource.bytes_in + resource.bytes_out > 0 {
        write!(f, "\n    {} bytes in, {} bytes out", resource.bytes_in, resource.bytes_out)?;
    }
    if resource.custody_omitted > 0 {
        write!(f, "\n    ({} steps of custody were not kept)", resource.custody_omitted)?;
    }
    for step in &resource.custody {
        write!(f, "\n    {step}")?;
        if let Some(backtrace) = &step.backtrace {
            for line in backtrace.lines() {
                write!(f, "\n      {line}")?;
            }
        }
    }
    Ok(())
}

impl fmt::Display for CustodyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.event)?;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, " {from} -> {to}")?,
            (None, Some(to)) => write!(f, " by {to}")?,
            (Some(from), None) => write!(f, " by {from}")?,
            (None, None) => {}
        }
        write!(f, " at {}, {} ago", self.site, Age(self.ago_ms))
    }
}

/// Milliseconds, in the unit that reads best.
struct Age(u64);

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
        let (tasks, resources) = (self.tasks.len(), self.resources.len());
        write!(f, "custody: {resources} owned by {tasks} tasks, {} declared", self.declared.len())?;
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} leaks, {} violations, {} thefts, {} failed finalizers, {} still open",
            self.leaks,
            self.violations,
            self.thefts,
            self.failed_finalizers,
            self.still_open.len()
        )?;
        for child in &self.forgotten_children {
            write!(f, "\nforgotten child: {child}")?;
        }
        for (reason, times) in &self.used_suppressions {
            write!(f, "\nsuppressed {times} times: {reason}")?;
        }
        Ok(())
    }
}
