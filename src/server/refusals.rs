//! Counters of rejected connections, by the limit that was reached.

use std::sync::atomic::{AtomicU64, Ordering};

use super::end_counts::count;

const LIMITS: usize = Limit::ALL.len();

/// A limit that refuses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// All connections: the setting, or what the system allows.
    Connections,
    /// The connections of one address.
    PerIp,
    /// The threads of the system: none could be started.
    Threads,
    /// The descriptors of the process or the system.
    Descriptors,
}

impl Limit {
    /// All of them.
    pub(crate) const ALL: [Limit; 4] =
        [Limit::Connections, Limit::PerIp, Limit::Threads, Limit::Descriptors];

    /// Its key in metrics.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn key(self) -> &'static str {
        match self {
            Limit::Connections => "max_connections",
            Limit::PerIp => "max_per_ip",
            Limit::Threads => "threads",
            Limit::Descriptors => "descriptors",
        }
    }
}

/// Counts rejected connections.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; LIMITS]);

impl Refusals {
    pub(super) fn count(&self, limit: Limit) {
        count(&self.0[limit as usize], 1);
    }

    /// The counts so far.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn counts(&self) -> [(Limit, u64); LIMITS] {
        // ord: Relaxed; a statistic.
        Limit::ALL.map(|limit| (limit, self.0[limit as usize].load(Ordering::Relaxed)))
    }
}
