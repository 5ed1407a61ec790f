//! What came of it, as plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::machine::{Meter, Reading};
use crate::plan::{Client, Plan};
use crate::tally::{self, Tally};
use crate::warning::Warning;

/// A connection has starved that was answered less than this part of what the median one was.
const STARVED_BELOW: f64 = 0.1;

/// What is known of the bytes that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verified {
    /// Messages came back in the time that was measured, and every byte was what was sent.
    Whole,
    /// No message came back in that time.
    Nothing,
    /// A byte came back that was not sent.
    Wrong,
}

/// What came of a run. Times are in microseconds unless their name says otherwise.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// What was asked.
    pub plan: Plan,
    /// How long was measured.
    pub seconds: f64,
    /// What is known of the bytes that came back. Only [`Verified::Whole`] is a success.
    pub verified: Verified,
    /// Messages that came back in that time, whole and unchanged.
    pub messages: u64,
    /// The same by the second.
    pub messages_per_second: f64,
    /// Payload by the second, in one direction, in units of a million bytes.
    pub megabytes_per_second: f64,
    /// From when a message was begun, or was due, until its last byte was back. Unknown where nothing
    /// that was due while it was measured was answered: zeros would look like the best of servers.
    pub latency: Option<Latency>,
    /// Connections that stood at the beginning.
    pub established: usize,
    /// Connections that worked until the end. None means that the server has gone or stopped answering.
    /// Unknown where it was stopped early.
    pub left: Option<usize>,
    /// Connections that stood at the beginning and were answered less than a tenth of the median.
    pub starved: usize,
    /// Connections that were held open besides, all of them answered at the beginning. Those that were
    /// not at the end are among the errors.
    pub idle: usize,
    /// What went wrong, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// What it cost the server, if its process is known.
    pub server: Option<ServerUse>,
    /// Processors that the client has kept busy.
    pub client_processors: Option<f64>,
    /// What to think of before the figures are believed.
    pub warnings: Vec<Warning>,
    /// Every latency, in nanoseconds.
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Half of the messages took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The average.
    pub mean: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        if histogram.is_empty() {
            return None;
        }
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Some(Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
            mean: histogram.mean() / 1000.0,
        })
    }
}

/// What it cost the server.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct ServerUse {
    /// Processors that it has kept busy: 1.5 is one and a half.
    pub processors: f64,
    /// Processor time for each message, in microseconds.
    pub micros_per_message: f64,
    /// Resident memory at the end of what was measured.
    pub memory_bytes: u64,
    /// What that is more than before the first connection, for each of them. Of
    /// connections that come and go nothing can be said.
    pub memory_per_connection: Option<f64>,
    /// Threads at the end of what was measured.
    pub threads: u64,
}

/// What [`Outcome::new`] is made of.
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) idle: usize,
    pub(crate) before: Reading,
    pub(crate) meter: Meter,
    /// It was stopped, and what was under way not waited for.
    pub(crate) is_stopped: bool,
    /// It was over before its time.
    pub(crate) is_cut: bool,
}

impl Outcome {
    pub(crate) fn new(plan: &Plan, measured: Measured) -> Outcome {
        let Measured { tally, idle, before, meter, is_stopped, is_cut } = measured;
        let Tally { latencies, messages, errors, each, established, left, .. } = tally;
        let elapsed = if is_cut { meter.elapsed() } else { plan.duration };
        let seconds = elapsed.max(Duration::from_nanos(1)).as_secs_f64();
        let per_second = messages as f64 / seconds;
        let server = meter.last.server.zip(meter.server()).map(|(last, processors)| {
            let memory_before = before.server.map_or(0, |before| before.memory_bytes);
            let connections = (established + idle).max(1) as f64;
            let more = last.memory_bytes.saturating_sub(memory_before);
            ServerUse {
                processors,
                micros_per_message: processors * 1e6 / per_second.max(f64::MIN_POSITIVE),
                memory_bytes: last.memory_bytes,
                memory_per_connection: (!plan.churn).then_some(more as f64 / connections),
                threads: last.threads,
            }
        });
        let verified = match messages {
            _ if errors.contains_key(tally::LIE) => Verified::Wrong,
            0 => Verified::Nothing,
            _ => Verified::Whole,
        };
        let mut outcome = Outcome {
            plan: plan.clone(),
            seconds,
            verified,
            messages,
            messages_per_second: per_second,
            megabytes_per_second: per_second * plan.message_bytes as f64 / 1e6,
            latency: Latency::of(&latencies),
            established,
            left: (!is_stopped).then_some(left),
            starved: starved(each, established),
            idle,
            errors,
            server,
            client_processors: meter.ours(),
            warnings: Vec::new(),
            histogram: latencies,
        };
        outcome.warnings = Warning::of(&outcome, &meter, is_cut);
        outcome
    }

    /// Why this is no success, in a sentence about `server`.
    #[must_use]
    pub fn failure(&self, server: &str) -> Option<String> {
        match self.verified {
            Verified::Whole if self.left == Some(0) => Some(format!(
                "{server}: the server has gone or stopped answering: no connection worked at the end \
                 ({})",
                self.errors_in_words()
            )),
            Verified::Whole => None,
            Verified::Wrong => Some(format!("{server}: what came back was not what was sent")),
            Verified::Nothing if self.errors.is_empty() => Some(format!(
                "{server}: nothing was verified: no message came back in the time measured; measure \
                 longer (--duration)"
            )),
            Verified::Nothing => Some(format!(
                "{server}: nothing was verified: no message came back in the time measured ({})",
                self.errors_in_words()
            )),
        }
    }

    /// Errors by kind: `reset: 3, unanswered: 1`.
    pub(crate) fn errors_in_words(&self) -> String {
        let each = self.errors.iter().map(|(what, times)| format!("{what}: {times}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Whether anything went wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Threads of the client that wait in an event loop; none, where each connection has one.
    pub(crate) fn loops(&self) -> Option<usize> {
        match self.plan.client {
            Client::Event { threads } => Some(threads),
            Client::Blocking => None,
        }
    }

    /// The same as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("plain data has no secrets: {error}"))
    }
}

/// How many connections were answered next to nothing.
fn starved(mut each: Vec<u64>, established: usize) -> usize {
    each.sort_unstable();
    // Those that never stood are at the front, and are errors already.
    let never = each.len().saturating_sub(established);
    let stood = &each[never..];
    let Some(median) = stood.get(stood.len() / 2) else { return 0 };
    // With so few the next one may just not have had its turn.
    const TOO_FEW: u64 = 20;
    if *median < TOO_FEW {
        return 0;
    }
    stood.iter().filter(|messages| (**messages as f64) < *median as f64 * STARVED_BELOW).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starved_is_who_was_answered_less_than_a_tenth_of_the_median() {
        assert_eq!(starved(vec![100, 100, 100, 9, 0], 5), 2);
        assert_eq!(starved(vec![100, 100, 100, 9, 0], 4), 1, "one never stood");
        assert_eq!(starved(vec![3, 2, 0], 3), 0, "too few to tell");
        assert_eq!(starved(Vec::new(), 0), 0);
    }
}
