//! The server's summary: its final numbers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ShutdownResult;
use super::end_counts::EndCounts;
use super::limiter::Counters;
use crate::echo::EndReason;
use crate::faults::{Fault, FaultCounts, FaultInjector, Target};
use crate::ownership::{Registry, RegistrySummary};
use crate::report::{Code, Plural};

/// Summary of a server's run.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServerSummary {
    /// Version of this format; see [`SCHEMA_VERSION`](crate::ownership::SCHEMA_VERSION).
    pub schema_version: u32,
    /// Connections served.
    pub connections: u64,
    /// Connections closed at once: over a limit, or without a thread or descriptor.
    pub refused: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Connections that ended with an error: a reset, a timeout.
    pub errors: u64,
    /// See [`ServerSummary::ends`].
    pub(super) ends: EndCounts,
    /// Connections aborted at the drain deadline or by SIGQUIT.
    pub aborted: u64,
    /// Connections whose task panicked.
    pub panics: u64,
    /// Resources leaked by tasks.
    pub leaks: u64,
    /// Rule violations.
    pub violations: u64,
    /// Descriptors closed or replaced outside the registry.
    pub replaced: u64,
    /// Resources that connections and acceptors still hold.
    pub open_resources: u64,
    /// Faults that were injected on purpose (`--chaos`), by kind.
    pub(super) injected: FaultCounts,
    /// Findings of each kind of fault, injected or not: panics from the outcomes of tasks, the others
    /// from the registry's reports.
    pub(super) reported: FaultCounts,
    /// Injected failures of system calls (`--faults`), by kind.
    pub(super) syscall_faults: FaultCounts,
    /// Milliseconds from the command to drain until the last acceptor ended.
    pub drain_ms: u64,
    /// Tasks that were cancelled and did not end.
    pub stuck: Vec<String>,
    /// Lines and reports that are missing in an output because it was stalled or failed.
    pub dropped_output: u64,
}

impl ServerSummary {
    pub(super) fn new(
        counters: &Counters,
        registry: &Registry,
        injector: Option<&FaultInjector>,
        ended: ShutdownResult,
    ) -> ServerSummary {
        let registry_summary = registry.summary();
        // ord: Relaxed; every task that counted has ended.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ends = counters.ends.counts();
        ServerSummary {
            schema_version: crate::ownership::SCHEMA_VERSION,
            connections: count(&counters.connections),
            refused: ends.get(EndReason::Refused),
            bytes_in: count(&counters.bytes_in),
            bytes_out: count(&counters.bytes_out),
            errors: ends.errors(),
            ends,
            aborted: ends.get(EndReason::Aborted),
            panics: ends.get(EndReason::Panic),
            leaks: registry_summary.leaks,
            violations: registry_summary.violations,
            replaced: registry_summary.replaced,
            open_resources: registry_summary.still_open.len() as u64,
            injected: injected(Target::Connections, injector),
            reported: reported(ends.get(EndReason::Panic), &registry_summary),
            syscall_faults: injected(Target::Syscalls, registry.fault_injector()),
            drain_ms: u64::try_from(ended.drain.as_millis()).unwrap_or(u64::MAX),
            stuck: ended.stuck.iter().map(ToString::to_string).collect(),
            dropped_output: 0,
        }
    }
}

/// The injected faults of a kind of target; all 0 without an injector.
fn injected(target: Target, injector: Option<&FaultInjector>) -> FaultCounts {
    FaultCounts::by(target, |fault| injector.map_or(0, |injector| injector.injected(fault)))
}

/// The reported findings, mapped to the kinds of faults that cause them.
fn reported(panics: u64, registry_summary: &RegistrySummary) -> FaultCounts {
    let reports = |code| registry_summary.reported.get(&code).copied().unwrap_or_default();
    FaultCounts::by(Target::Connections, |fault| match fault {
        Fault::Panic => panics,
        Fault::Leak => reports(Code::Leak).saturating_sub(registry_summary.cycles),
        Fault::ForeignWrite => reports(Code::NotOwner),
        Fault::Cycle => registry_summary.cycles,
        Fault::DoubleRelease => reports(Code::DoubleRelease),
        Fault::FdReplaced => reports(Code::FdReplaced),
        Fault::FinalizerPanic => reports(Code::FinalizerPanicked),
        _ => 0,
    })
}

impl ServerSummary {
    /// How many connections ended for this reason, including [`EndReason::Refused`].
    #[must_use]
    pub fn ends(&self, reason: EndReason) -> u64 {
        self.ends.get(reason)
    }

    /// Sets the registry's final counts, and the number of items that the outputs dropped.
    pub fn set_final(&mut self, registry_summary: &RegistrySummary, dropped_output: u64) {
        self.dropped_output = dropped_output;
        self.leaks = registry_summary.leaks;
        self.violations = registry_summary.violations;
        self.replaced = registry_summary.replaced;
        self.open_resources = registry_summary.still_open.len() as u64;
    }
}

#[cfg(feature = "json")]
impl ServerSummary {
    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        match serde_json::to_string(self) {
            Ok(json) => json,
            Err(error) => unreachable!("plain data always serializes: {error}"),
        }
    }
}

impl ServerSummary {
    /// The numbers of a server that still serves: `totals: 3 connections, 0 refused, ...`.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn totals(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            f.write_str("totals: ")?;
            self.fmt_numbers(f)?;
            self.fmt_rare(f)
        })
    }

    fn fmt_numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} refused, {} in, {} out, {}, {} aborted, {}, {}, {}, {}, {} open",
            Plural(self.connections, "connection"),
            self.refused,
            Plural(self.bytes_in, "byte"),
            Plural(self.bytes_out, "byte"),
            Plural(self.errors, "error"),
            self.aborted,
            Plural(self.panics, "panic"),
            Plural(self.leaks, "leak"),
            Plural(self.violations, "violation"),
            Plural(self.replaced, "replaced fd"),
            self.open_resources,
        )
    }

    /// Lines about what does not occur in most runs.
    fn fmt_rare(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.injected.total() > 0 {
            write!(f, "\ninjected {}; reported {}", self.injected, self.reported)?;
        }
        if self.syscall_faults.total() > 0 {
            write!(f, "\ninjected system call failures: {}", self.syscall_faults)?;
        }
        if self.dropped_output > 0 {
            let items = Plural(self.dropped_output, "line");
            write!(f, "\n{items} of output dropped: an output stalled or failed")?;
        }
        for task in &self.stuck {
            write!(f, "\nstuck: {task}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ServerSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_numbers(f)?;
        write!(f, ", drained in {} ms", self.drain_ms)?;
        if self.ends.total() > 0 {
            write!(f, "\nconnections ended: {}", self.ends)?;
        }
        self.fmt_rare(f)
    }
}
