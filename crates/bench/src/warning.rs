//! What to think of before a figure is believed.

use std::fmt;
use std::num::NonZeroUsize;

use serde::Serialize;

use crate::machine::Meter;
use crate::outcome::Outcome;
use crate::show::Count;

/// A reason why a figure may not be what it seems, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// The client's event loops had no time left: it is the client that was measured.
    ClientSaturated {
        /// Processors that it kept busy.
        processors: f64,
    },
    /// Somebody else has used the machine meanwhile.
    OtherLoad {
        /// Processors that they kept busy.
        processors: f64,
    },
    /// What the machine's processors did meanwhile is unknown: `/proc` cannot be read.
    ProcessorsUnknown,
    /// So few messages say little about the rarest latencies.
    TooFewSamples {
        /// How many there were.
        messages: u64,
    },
    /// The server could not do what was wanted.
    RateMissed {
        /// Messages a second, answered.
        answered: f64,
    },
    /// Some connections were hardly ever answered, which the throughput does not show.
    Starvation {
        /// How many.
        connections: usize,
    },
    /// It was ended before its time.
    Cut {
        /// What was measured.
        seconds: f64,
    },
}

/// An event loop that is busier than this has no time left.
const SATURATED_FROM: f64 = 0.95;

/// Others may use so much of a processor.
pub(crate) const OTHERS_MAX: f64 = 0.15;

/// 99.9 of a hundred of fewer than these is a handful.
const SAMPLES_MIN: u64 = 10_000;

/// As much of the wanted rate has to be answered.
const RATE_MIN: f64 = 0.98;

/// More loops than these can never all be busy. `--pin-client` leaves fewer.
fn usable_processors() -> usize {
    std::thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get)
}

impl Warning {
    pub(crate) fn of(outcome: &Outcome, meter: &Meter, is_cut: bool) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if is_cut {
            warnings.push(Warning::Cut { seconds: outcome.seconds });
        }
        if let Some((loops, processors)) = outcome.loops().zip(meter.ours())
            && processors > loops.min(usable_processors()) as f64 * SATURATED_FROM
        {
            warnings.push(Warning::ClientSaturated { processors });
        }
        // Without the server's share it would be taken for somebody else's.
        if let Some(processors) = meter.others().filter(|others| *others > OTHERS_MAX) {
            warnings.push(Warning::OtherLoad { processors });
        }
        if meter.ours().is_none() && !meter.elapsed().is_zero() {
            warnings.push(Warning::ProcessorsUnknown);
        }
        if outcome.messages < SAMPLES_MIN {
            warnings.push(Warning::TooFewSamples { messages: outcome.messages });
        }
        if outcome.plan.rate.is_some_and(|rate| outcome.messages_per_second < rate * RATE_MIN) {
            warnings.push(Warning::RateMissed { answered: outcome.messages_per_second });
        }
        if outcome.starved > 0 {
            warnings.push(Warning::Starvation { connections: outcome.starved });
        }
        warnings
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::ClientSaturated { processors } => write!(
                f,
                "the client was the limit ({processors:.2} processors busy): give it more event \
                 loops (--client-threads), processors of its own (--pin-client), or take the other \
                 kind of client"
            ),
            Warning::OtherLoad { processors } => write!(
                f,
                "{processors:.2} processors were busy with something else: end it, or measure again \
                 later"
            ),
            Warning::ProcessorsUnknown => f.write_str(
                "processor times are unknown, because /proc cannot be read: whether the client or \
                 another program was the limit is not noticed",
            ),
            Warning::TooFewSamples { messages } => write!(
                f,
                "too few messages, {messages}, for the rarest latencies: measure longer \
                 (--duration)"
            ),
            Warning::RateMissed { answered } => write!(
                f,
                "only {answered:.0} messages a second came back: the latencies are of a queue that \
                 grows; ask for less (--rate)"
            ),
            Warning::Starvation { connections } => write!(
                f,
                "{} answered less than a tenth as often as the median one: the server is not fair",
                Count(*connections as u64, "connection")
            ),
            Warning::Cut { seconds } => {
                write!(f, "it was ended early: the figures are of {seconds:.1} seconds")
            }
        }
    }
}
