//! The time from accept to the start of a connection's handler on its thread, as a histogram.
//!
//! The failure story: a server without free processors or threads still accepts, and its clients wait for
//! the first byte. Connections and bytes look normal; this time does not.

use std::sync::atomic::{AtomicU64, Ordering};

use super::end_counts::count;

/// The upper bounds of the buckets, in nanoseconds. A thread is woken in about 10 us, and started in
/// about 50.
const BOUNDS_NS: [u64; 13] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    100_000_000,
    1_000_000_000,
];

/// Counts times by bucket.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// The last bucket is that of longer times than the last bound.
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

/// The times so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LatencyCounts {
    /// The upper bound of each bucket in seconds, and how many times are in it and in no lower one.
    pub(crate) buckets: Vec<(f64, u64)>,
    /// The sum of all times in seconds.
    pub(crate) sum: f64,
}

impl Latency {
    /// Counts one time.
    pub(super) fn record(&self, nanos: u64) {
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < nanos);
        count(&self.buckets[bucket], 1);
        count(&self.sum_ns, nanos);
    }

    /// The counts so far.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn counts(&self) -> LatencyCounts {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        // Dividing an integer by 1e9 gives the closest number to the decimal fraction.
        let bounds = BOUNDS_NS.map(seconds).into_iter().chain([f64::INFINITY]);
        // ord: Relaxed; a statistic.
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        LatencyCounts {
            buckets: bounds.zip(counts).collect(),
            // ord: Relaxed, as above.
            sum: seconds(self.sum_ns.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let latency = Latency::default();
        for nanos in [0, 10_000, 10_001, 1_000_000_000, 1_000_000_001] {
            latency.record(nanos);
        }
        let counts = latency.counts();
        let filled: Vec<(f64, u64)> =
            counts.buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_01, 2), (0.000_025, 1), (1.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(counts.sum, 2.000_020_002);
    }
}
