//! `check`: reports the owned resources and unjoined children that a closure leaves. It works
//! inside any test, without a child process.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use echown_report::{Plural, Suppression};

use crate::ownership::{
    LeakReport, Registry, ResourceData, TaskError, TaskLabel, UnjoinedChildren, task,
};

/// How long children may take to end on their own.
const SETTLE: Duration = Duration::from_millis(1000);

/// Runs `f` as a task, and panics with a report if it left owned resources or unjoined children.
/// Returns the result of `f`.
///
/// It covers the resources in this crate's registries, and no other descriptors; for those, use the
/// attribute `#[echown::test]`, feature `macros`. It starts no process, so it works in doctests, in
/// benchmarks and in parallel with other tests.
///
/// # Panics
/// If `f` panics, or with the report.
///
/// # Examples
/// ```
/// use echown::net::Listener;
///
/// let port = echown::check(|| {
///     let listener = Listener::bind("127.0.0.1:0")?;
///     listener.local_addr()
/// });
/// assert!(port.is_ok());
/// ```
///
/// ```should_panic
/// # use echown::net::Listener;
/// echown::check(|| std::mem::forget(Listener::bind("127.0.0.1:0")));
/// ```
#[track_caller]
pub fn check<T>(f: impl FnOnce() -> T) -> T {
    Check::new().run(f)
}

/// [`check`] with options.
///
/// # Examples
/// ```
/// use echown::ownership;
///
/// echown::Check::new()
///     .ignore_kind("&str", "the table of names lives as long as the process")
///     .run(|| std::mem::forget(ownership::own("a name")));
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is checked until `run`"]
pub struct Check {
    ignores: Vec<Suppression>,
    expected: Option<(usize, &'static str)>,
    settle: Duration,
}

impl Default for Check {
    fn default() -> Check {
        Check::new()
    }
}

impl Check {
    /// No exceptions; a second for children to end.
    pub fn new() -> Check {
        Check { ignores: Vec::new(), expected: None, settle: SETTLE }
    }

    /// Ignores resources of this kind: `tcp stream`, `socket` for all sockets, or the name of a type.
    pub fn ignore_kind(mut self, what: &'static str, because: &'static str) -> Check {
        self.ignores.push(Suppression::because(because).kind(what));
        self
    }

    /// Ignores resources with this text in their path or address.
    pub fn ignore_path(mut self, what: &'static str, because: &'static str) -> Check {
        self.ignores.push(Suppression::because(because).path(what));
        self
    }

    /// Ignores resources that were acquired at a site with this text in it (`src/pool.rs`).
    pub fn ignore_site(mut self, what: &'static str, because: &'static str) -> Check {
        self.ignores.push(Suppression::because(because).site(what));
        self
    }

    /// Expects exactly this many leaks; more or fewer fail.
    pub fn expect_leaks(mut self, count: usize, because: &'static str) -> Check {
        self.expected = Some((count, because));
        self
    }

    /// How long children without a promise may take to end.
    pub fn settle_ms(mut self, millis: u64) -> Check {
        self.settle = Duration::from_millis(millis);
        self
    }

    /// Runs `f` and returns its result.
    ///
    /// # Panics
    /// See [`check`].
    #[track_caller]
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        let settled = || {
            let value = f();
            let me = task::current(Registry::global());
            let children = me.running_children();
            let all_ended = || children.iter().all(|child| child.has_ended());
            me.wait_until(all_ended, Some(Instant::now() + self.settle));
            value
        };
        let (value, leaks, children) = match Registry::global().run("check", settled) {
            Ok(value) => (value, None, Vec::new()),
            Err(TaskError::Leaked(value, report)) => (value, Some(report), Vec::new()),
            Err(TaskError::UnjoinedChildren(UnjoinedChildren {
                value, children, leaks, ..
            })) => (value, leaks, children.into_vec()),
            Err(TaskError::Panicked(panic)) => resume_unwind(panic.into_payload()),
            Err(other) => panic!("the check did not complete: {other}"),
        };
        if let Some(fault) = self.fault(leaks, &children) {
            panic!("{fault}");
        }
        value
    }

    /// The report text, if there is a finding.
    fn fault(&self, leaks: Option<LeakReport>, children: &[TaskLabel]) -> Option<String> {
        let mut faults = Vec::new();
        if !children.is_empty() {
            let names: Vec<String> = children.iter().map(ToString::to_string).collect();
            faults.push(format!(
                "unjoined-task: the check left {}: {}\n  help: join its promise, cancel it, or hand \
                 it to an `Orphans`",
                Plural(children.len() as u64, "task"),
                names.join(", ")
            ));
        }
        let leaks = leaks.map(|mut report| {
            report.resources.retain(|resource| !self.ignores(resource));
            report
        });
        let count = leaks.as_ref().map_or(0, |report| report.resources.len());
        match (self.expected, leaks) {
            (Some((expected, because)), _) if expected != count => faults.push(format!(
                "leak-count: the check left {}, expected {expected} ({because})",
                Plural(count as u64, "resource")
            )),
            (None, Some(report)) if count > 0 => faults.push(report.to_string()),
            _ => {}
        }
        (!faults.is_empty()).then(|| faults.join("\n"))
    }

    fn ignores(&self, resource: &ResourceData) -> bool {
        let (kind, places, site) =
            (resource.kind, resource.places(), resource.acquired.to_string());
        let matching = self.ignores.iter().find(|known| known.matches(kind, &places, &site));
        if let Some(known) = matching {
            eprintln!("echown: ignored: {kind} acquired at {site}: {}", known.reason);
        }
        matching.is_some()
    }
}
