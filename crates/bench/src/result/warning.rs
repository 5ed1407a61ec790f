//! Warnings about unreliable figures.

use std::fmt;
use std::num::NonZeroUsize;

use serde::Serialize;

use super::LoadResult;
use crate::units::plural;
use crate::usage::UsageInterval;

/// A reason why figures may be unreliable. As text, with what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// The client's event loops were busy all the time: the client was measured, not the server.
    ClientSaturated {
        /// Processors that the client kept busy.
        processors: f64,
    },
    /// Other programs used the machine.
    OtherLoad {
        /// Processors that they kept busy.
        processors: f64,
    },
    /// Processor times are unknown: `/proc` cannot be read.
    ProcessorsUnknown,
    /// Too few messages for the high latency percentiles.
    TooFewSamples {
        /// The number of replies.
        messages: u64,
    },
    /// The server did not reach the requested rate.
    RateMissed {
        /// Replies per second.
        replies_per_second: f64,
    },
    /// Some connections got hardly any replies, which the throughput does not show.
    Starvation {
        /// The number of such connections.
        connections: usize,
    },
    /// The run ended early.
    EndedEarly {
        /// The measured time.
        seconds: f64,
    },
}

/// An event loop that is busier than this is saturated.
const SATURATED_FROM: f64 = 0.95;

/// How much of a processor other programs may use.
pub(crate) const OTHER_LOAD_MAX: f64 = 0.15;

/// With fewer samples, p99.9 rests on fewer than ten values.
const SAMPLES_MIN: u64 = 10_000;

/// The share of the requested rate that has to be reached.
const RATE_MIN: f64 = 0.98;

/// The most event loops that can be busy at a time. `--pin-client` lowers it.
fn usable_processors() -> usize {
    std::thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get)
}

impl Warning {
    pub(crate) fn of(
        result: &LoadResult,
        usage: &UsageInterval,
        ended_early: bool,
    ) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if ended_early {
            warnings.push(Warning::EndedEarly { seconds: result.seconds });
        }
        if let Some((loops, processors)) = result.loops().zip(usage.client())
            && processors > loops.min(usable_processors()) as f64 * SATURATED_FROM
        {
            warnings.push(Warning::ClientSaturated { processors });
        }
        // If the server's share is unknown, so is that of other programs.
        if let Some(processors) = usage.others().filter(|others| *others > OTHER_LOAD_MAX) {
            warnings.push(Warning::OtherLoad { processors });
        }
        if usage.client().is_none() && !usage.elapsed().is_zero() {
            warnings.push(Warning::ProcessorsUnknown);
        }
        if result.messages < SAMPLES_MIN {
            warnings.push(Warning::TooFewSamples { messages: result.messages });
        }
        if result.plan.rate.is_some_and(|rate| result.messages_per_second < rate * RATE_MIN) {
            warnings.push(Warning::RateMissed { replies_per_second: result.messages_per_second });
        }
        if result.starved > 0 {
            warnings.push(Warning::Starvation { connections: result.starved });
        }
        warnings
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::ClientSaturated { processors } => write!(
                f,
                "the client was the bottleneck ({processors:.2} processors busy): use more event \
                 loops (--client-threads), processors of its own (--pin-client), or the other kind \
                 of client"
            ),
            Warning::OtherLoad { processors } => write!(
                f,
                "other programs kept {processors:.2} processors busy: stop them, or measure again \
                 later"
            ),
            Warning::ProcessorsUnknown => f.write_str(
                "processor times are unknown because /proc cannot be read: a saturated client or \
                 another busy program is not detected",
            ),
            Warning::TooFewSamples { messages } => write!(
                f,
                "{messages} messages are too few for the high percentiles: measure longer \
                 (--duration)"
            ),
            Warning::RateMissed { replies_per_second } => write!(
                f,
                "only {replies_per_second:.0} replies per second: the latencies are those of a \
                 growing queue; lower the --rate"
            ),
            Warning::Starvation { connections } => write!(
                f,
                "{} got less than a tenth of the median number of replies: the server is not fair",
                plural(*connections as u64, "connection")
            ),
            Warning::EndedEarly { seconds } => {
                write!(f, "the run ended early: the figures cover {seconds:.1} seconds")
            }
        }
    }
}
