//! The result of a run, as plain data.

mod text;
mod warning;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error_kind;
use crate::plan::{ClientKind, LoadPlan};
use crate::usage::{UsageInterval, UsageSample};
use crate::worker_stats::WorkerStats;

pub use warning::Warning;

/// A connection with fewer replies than this share of the median has starved.
const STARVED_BELOW: f64 = 0.1;

/// Whether the replies were correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verified {
    /// Replies arrived within the measured time, and every byte was correct.
    Whole,
    /// No reply arrived within the measured time.
    Nothing,
    /// At least one reply differed from its message.
    Wrong,
}

/// The result of a run. Times are in microseconds unless their name says otherwise.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadResult {
    /// The load.
    pub plan: LoadPlan,
    /// The measured time.
    pub seconds: f64,
    /// Whether the replies were correct. Only [`Verified::Whole`] is a success.
    pub verified: Verified,
    /// Correct replies within the measured time.
    pub messages: u64,
    /// Correct replies per second.
    pub messages_per_second: f64,
    /// Payload per second, in one direction, in units of a million bytes.
    pub megabytes_per_second: f64,
    /// Latency from when a message was due until its last byte was back. Unknown if no message that was
    /// due within the measured time was replied to.
    pub latency: Option<LatencySummary>,
    /// Connections that were established at the start.
    pub established: usize,
    /// Connections that worked until the end. Zero means that the server has gone or stopped replying.
    /// Unknown if the run was stopped early.
    pub working_at_end: Option<usize>,
    /// Established connections that got less than a tenth of the median number of replies.
    pub starved: usize,
    /// Idle connections that were held open. All of them got a reply at the start; those that got none at
    /// the end are among the errors.
    pub idle: usize,
    /// Errors, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Resources that the server used, if its process is known.
    pub server: Option<ServerUsage>,
    /// Processors that the client kept busy: 1.5 is one and a half.
    pub client_processors: Option<f64>,
    /// Reasons why figures may be unreliable.
    pub warnings: Vec<Warning>,
    /// All latencies, in nanoseconds.
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct LatencySummary {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The maximum.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl LatencySummary {
    fn of(histogram: &Histogram<u64>) -> Option<LatencySummary> {
        if histogram.is_empty() {
            return None;
        }
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Some(LatencySummary {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
            mean: histogram.mean() / 1000.0,
        })
    }
}

/// Resources that the server used.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ServerUsage {
    /// Processors that it kept busy: 1.5 is one and a half.
    pub processors: f64,
    /// Processor time per message, in microseconds.
    pub micros_per_message: f64,
    /// Resident memory at the end of the measured time.
    pub memory_bytes: u64,
    /// Growth since before the first connection, per connection. Unknown for connections that are opened
    /// and closed all the time.
    pub memory_per_connection: Option<f64>,
    /// Threads at the end of the measured time.
    pub threads: u64,
}

/// The input of [`LoadResult::new`].
pub(crate) struct Measurements {
    pub(crate) stats: WorkerStats,
    pub(crate) idle: usize,
    pub(crate) before: UsageSample,
    pub(crate) usage: UsageInterval,
    /// The run was stopped, without waiting for messages in flight.
    pub(crate) is_stopped: bool,
    /// The run ended early.
    pub(crate) ended_early: bool,
}

impl LoadResult {
    pub(crate) fn new(plan: &LoadPlan, measured: Measurements) -> LoadResult {
        let Measurements { stats, idle, before, usage, is_stopped, ended_early } = measured;
        let WorkerStats { latencies, messages, errors, each, established, working_at_end, .. } =
            stats;
        let elapsed = if ended_early { usage.elapsed() } else { plan.duration };
        let seconds = elapsed.max(Duration::from_nanos(1)).as_secs_f64();
        let per_second = messages as f64 / seconds;
        let server = usage.last.server.zip(usage.server()).map(|(last, processors)| {
            let memory_before = before.server.map_or(0, |before| before.memory_bytes);
            let connections = (established + idle).max(1) as f64;
            let more = last.memory_bytes.saturating_sub(memory_before);
            ServerUsage {
                processors,
                micros_per_message: processors * 1e6 / per_second.max(f64::MIN_POSITIVE),
                memory_bytes: last.memory_bytes,
                memory_per_connection: (!plan.churn).then_some(more as f64 / connections),
                threads: last.threads,
            }
        });
        let verified = match messages {
            _ if errors.contains_key(error_kind::WRONG_BYTES) => Verified::Wrong,
            0 => Verified::Nothing,
            _ => Verified::Whole,
        };
        let mut result = LoadResult {
            plan: plan.clone(),
            seconds,
            verified,
            messages,
            messages_per_second: per_second,
            megabytes_per_second: per_second * plan.message_bytes as f64 / 1e6,
            latency: LatencySummary::of(&latencies),
            established,
            working_at_end: (!is_stopped).then_some(working_at_end),
            starved: starved(each, established),
            idle,
            errors,
            server,
            client_processors: usage.client(),
            warnings: Vec::new(),
            histogram: latencies,
        };
        result.warnings = Warning::of(&result, &usage, ended_early);
        result
    }

    /// Why this is a failure, in a sentence about `server`.
    #[must_use]
    pub fn failure(&self, server: &str) -> Option<String> {
        match self.verified {
            Verified::Whole if self.working_at_end == Some(0) => Some(format!(
                "{server}: the server has gone or stopped replying: no connection worked at the end \
                 ({})",
                self.errors_in_words()
            )),
            Verified::Whole => None,
            Verified::Wrong => {
                Some(format!("{server}: replies differed from the messages that were sent"))
            }
            Verified::Nothing if self.errors.is_empty() => Some(format!(
                "{server}: nothing was verified: no reply arrived within the measured time; measure \
                 longer (--duration)"
            )),
            Verified::Nothing => Some(format!(
                "{server}: nothing was verified: no reply arrived within the measured time ({})",
                self.errors_in_words()
            )),
        }
    }

    /// Errors by kind: `reset: 3, unanswered: 1`.
    pub(crate) fn errors_in_words(&self) -> String {
        let each = self.errors.iter().map(|(what, times)| format!("{what}: {times}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Whether there were no errors.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Event loops of the client; `None` for the blocking client.
    pub(crate) fn loops(&self) -> Option<usize> {
        match self.plan.client {
            ClientKind::Event { threads } => Some(threads),
            ClientKind::Blocking => None,
        }
    }

    /// Serializes the result as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("plain data can be serialized: {error}"))
    }
}

/// The number of connections that starved.
fn starved(mut each: Vec<u64>, established: usize) -> usize {
    each.sort_unstable();
    // Those that were never established come first, and are errors already.
    let never = each.len().saturating_sub(established);
    let counts = &each[never..];
    let Some(median) = counts.get(counts.len() / 2) else { return 0 };
    // With fewer replies, a connection may just not have had its turn.
    const TOO_FEW: u64 = 20;
    if *median < TOO_FEW {
        return 0;
    }
    counts.iter().filter(|messages| (**messages as f64) < *median as f64 * STARVED_BELOW).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_with_less_than_a_tenth_of_the_median_has_starved() {
        assert_eq!(starved(vec![100, 100, 100, 9, 0], 5), 2);
        assert_eq!(starved(vec![100, 100, 100, 9, 0], 4), 1, "one was never established");
        assert_eq!(starved(vec![3, 2, 0], 3), 0, "too few to tell");
        assert_eq!(starved(Vec::new(), 0), 0);
    }
}
