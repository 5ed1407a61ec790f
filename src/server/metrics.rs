//! Reading the numbers of a running server, from any thread.
//!
//! A read takes a few locks for a moment each and makes no list of tasks or resources, so other machines
//! may read as often as they like.
//!
//! # Limits
//!
//! The bytes of a connection are counted when it ends, as in the summary.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::end_counts::ConnectionCounts;
use super::latency::LatencyCounts;
use super::limiter::ConnectionLimiter;
use super::parking_counts::ParkingCounts;
use super::refusals::Limit;
use super::{ControlHandle, Server, ServerSummary, ShutdownResult};
use crate::faults::FaultInjector;
use crate::ownership::Registry;
use crate::pool::Pool;
use crate::report::Code;

/// Reads a server's connection counts.
#[derive(Clone, Debug)]
pub(crate) struct CountsReader(Arc<ConnectionLimiter>);

impl CountsReader {
    /// Returns the counts so far.
    #[must_use]
    pub(crate) fn read(&self) -> ConnectionCounts {
        self.0.counts()
    }

    /// Returns the numbers of the summary so far. The drain has none yet.
    #[must_use]
    pub(crate) fn totals(
        &self,
        registry: &Registry,
        injector: Option<&FaultInjector>,
    ) -> ServerSummary {
        ServerSummary::new(&self.0.counters, registry, injector, ShutdownResult::default())
    }
}

/// Reads all numbers of a server. Keeps the threads of its pool.
pub(crate) struct MetricsReader {
    counts: CountsReader,
    registry: Registry,
    pool: Pool,
    control: ControlHandle,
    blocked_max: usize,
    started: SystemTime,
}

/// The numbers of a server at one moment.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: ConnectionCounts,
    /// How many connections there can be at a time.
    pub(crate) connections_max: usize,
    /// Rejected connections by limit.
    pub(crate) refused: [(Limit, u64); Limit::ALL.len()],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) parking: ParkingCounts,
    /// How many connections may wait for their clients to read; 0 without parking.
    pub(crate) blocked_max: usize,
    /// From accept to the start of the handler.
    pub(crate) latency: LatencyCounts,
    /// Findings by code, without those that are ignored.
    pub(crate) findings: Vec<(Code, u64)>,
    /// Descriptors that tasks own.
    pub(crate) owned_descriptors: usize,
    /// Threads with a task.
    pub(crate) threads_running: usize,
    /// Threads that wait for a task.
    pub(crate) threads_idle: usize,
    pub(crate) threads_max: usize,
    /// Whether the server drains or aborts.
    pub(crate) is_stopping: bool,
    pub(crate) started: SystemTime,
}

impl Server {
    /// Returns a handle that reads this server's connection counts, also while it serves.
    #[must_use]
    pub(crate) fn counts_reader(&self) -> CountsReader {
        CountsReader(Arc::clone(&self.limiter))
    }

    /// Returns a handle that reads all numbers of this server, also while it serves.
    #[must_use]
    pub(crate) fn metrics_reader(&self) -> MetricsReader {
        MetricsReader {
            counts: self.counts_reader(),
            registry: self.registry.clone(),
            pool: self.pool.clone(),
            control: self.control(),
            blocked_max: self.capacity.blocked,
            started: SystemTime::now(),
        }
    }
}

impl MetricsReader {
    /// Returns the numbers so far.
    #[must_use]
    pub(crate) fn read(&self) -> Metrics {
        let limiter = &self.counts.0;
        let (bytes_in, bytes_out) = limiter.counters.bytes();
        Metrics {
            connections: self.counts.read(),
            connections_max: limiter.limit(),
            refused: limiter.counters.refusals.counts(),
            bytes_in,
            bytes_out,
            parking: limiter.counters.parking.counts(),
            blocked_max: self.blocked_max,
            latency: limiter.counters.latency.counts(),
            findings: self.findings(),
            owned_descriptors: self.registry.owned_descriptors(),
            threads_running: self.pool.running(),
            threads_idle: self.pool.idle(),
            threads_max: self.pool.limit(),
            is_stopping: self.control.is_stopping(),
            started: self.started,
        }
    }

    /// Every code that a registry reports, also those without findings: otherwise the first finding would
    /// be a new series, in which no increase is visible. The codes of tests come last and are omitted.
    fn findings(&self) -> Vec<(Code, u64)> {
        let reported = self.registry.reported();
        let count = |code: &Code| reported.get(code).copied().unwrap_or_default();
        let is_shown = |code: &&Code| **code <= Code::FinalizerPanicked || count(code) > 0;
        Code::ALL.iter().filter(is_shown).map(|code| (*code, count(code))).collect()
    }
}

impl fmt::Debug for MetricsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsReader")
    }
}
