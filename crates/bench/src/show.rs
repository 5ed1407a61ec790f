//! An outcome for people.

use std::fmt;

use crate::outcome::{Outcome, ServerUse, Verified};
use crate::plan::Dialect;

/// A count with its noun, whose plural ends in s: `1 error`, `2 errors`.
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(number, noun) = self;
        write!(f, "{number} {noun}{}", if *number == 1 { "" } else { "s" })
    }
}

/// A time in microseconds, in the unit that suits it.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1000.0 => format!("{micros:.1} us"),
        micros if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// A number that is read at a glance: `184 thousand`.
pub(crate) fn number(number: f64) -> String {
    match number {
        number if number < 10_000.0 => format!("{number:.0}"),
        number if number < 10_000_000.0 => format!("{:.1} thousand", number / 1e3),
        number => format!("{:.1} million", number / 1e6),
    }
}

/// Bytes, as memory is counted.
pub(crate) fn memory(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        writeln!(f, "{}, client: {}", plan.in_words(), plan.client)?;
        let what = match (plan.churn, plan.dialect) {
            (true, _) => "connections",
            (false, Dialect::Frames) => "frames",
            (false, _) => "messages",
        };
        let verified = match self.verified {
            Verified::Whole if self.is_clean() => "every byte verified",
            Verified::Whole => "every byte that came back verified, errors below",
            Verified::Nothing => "nothing verified",
            Verified::Wrong => "wrong bytes came back",
        };
        writeln!(
            f,
            "  throughput  {} {what} a second, {:.1} MB/s ({} in {:.1} s, {verified})",
            number(self.messages_per_second),
            self.megabytes_per_second,
            self.messages,
            self.seconds
        )?;
        if let Some(latency) = &self.latency {
            writeln!(
                f,
                "  latency     p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
                time(latency.p50),
                time(latency.p90),
                time(latency.p99),
                time(latency.p999),
                time(latency.max)
            )?;
        } else {
            writeln!(
                f,
                "  latency     unknown: nothing that was due while it was measured was answered"
            )?;
        }
        if self.idle > 0 {
            writeln!(f, "  idle        {} held open", Count(self.idle as u64, "connection"))?;
        }
        if let Some(server) = &self.server {
            let ServerUse { processors, micros_per_message, .. } = server;
            let each = server.memory_per_connection.map_or(String::new(), |each| {
                format!(" ({} more for each connection)", memory(each))
            });
            writeln!(
                f,
                "  server      {} of processor time for each, {processors:.2} processors busy, {}, \
                 {} resident{each}",
                time(*micros_per_message),
                Count(server.threads, "thread"),
                memory(server.memory_bytes as f64)
            )?;
        }
        if self.errors.is_empty() {
            writeln!(f, "  errors      none")?;
        } else {
            writeln!(f, "  errors      {}", self.errors_in_words())?;
        }
        for warning in &self.warnings {
            writeln!(f, "  note        {warning}")?;
        }
        Ok(())
    }
}
