//! The statistics of one client thread.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::run_context::Window;

/// The longest latency that is recorded. Longer ones count as this.
const LATENCY_MAX_NANOS: u64 = 100_000_000_000;

pub(crate) struct WorkerStats {
    /// In nanoseconds, with three significant digits.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) messages: u64,
    /// Connections that were established within the measured time.
    pub(crate) connects: u64,
    /// By name; see [`error_kind`](crate::error_kind).
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Replies of each connection.
    pub(crate) each: Vec<u64>,
    /// Connections that were established at the start.
    pub(crate) established: usize,
    /// Connections that worked until the end: no reply was missing, or bytes were still arriving when
    /// the deadline passed.
    pub(crate) working_at_end: usize,
}

impl WorkerStats {
    pub(crate) fn new(connections: usize) -> WorkerStats {
        WorkerStats {
            latencies: Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, 3)
                .unwrap_or_else(|error| unreachable!("these bounds are possible: {error}")),
            messages: 0,
            connects: 0,
            errors: BTreeMap::new(),
            each: vec![0; connections],
            established: 0,
            working_at_end: 0,
        }
    }

    /// Records the reply to a message that was due at `due`. It counts for the throughput if it arrives
    /// within the measured time. In a closed loop, so does its latency. In an open loop, the latency
    /// counts if the message was due within the measured time: otherwise a stall at the end would not
    /// be recorded at all.
    pub(crate) fn record_reply(&mut self, connection: usize, window: &Window, due: u64, now: u64) {
        let is_counted = window.contains(now);
        if is_counted {
            self.messages += 1;
            self.each[connection] += 1;
        }
        if if window.is_open_loop { window.contains(due) } else { is_counted } {
            self.latencies.saturating_record((now - due).max(1));
        }
    }

    pub(crate) fn record_error(&mut self, what: &'static str) {
        self.record_errors(what, 1);
    }

    pub(crate) fn record_errors(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.errors.entry(what).or_default() += times;
        }
    }

    /// Adds the statistics of another worker, with other connections.
    pub(crate) fn add(&mut self, other: WorkerStats) {
        // The bounds are the same.
        let _ = self.latencies.add(&other.latencies);
        self.messages += other.messages;
        self.connects += other.connects;
        self.established += other.established;
        self.working_at_end += other.working_at_end;
        self.each.extend(other.each);
        for (what, times) in other.errors {
            self.record_errors(what, times);
        }
    }
}
