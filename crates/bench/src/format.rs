//! Results as text for people.

use std::fmt;

use crate::plan::WireProtocol;
use crate::result::{LoadResult, ServerUsage, Verified};

/// A count with its noun, whose plural ends in s: `1 error`, `2 errors`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A time in microseconds, in a suitable unit.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1000.0 => format!("{micros:.1} us"),
        micros if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// A number with few digits: `184.2 thousand`.
pub(crate) fn number(number: f64) -> String {
    match number {
        number if number < 10_000.0 => format!("{number:.0}"),
        number if number < 10_000_000.0 => format!("{:.1} thousand", number / 1e3),
        number => format!("{:.1} million", number / 1e6),
    }
}

/// A size of memory.
pub(crate) fn memory(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
    }
}

impl fmt::Display for LoadResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        writeln!(f, "{}, client: {}", plan.in_words(), plan.client)?;
        let what = match (plan.churn, plan.protocol) {
            (true, _) => "connections",
            (false, WireProtocol::Frames) => "frames",
            (false, _) => "messages",
        };
        let verified = match self.verified {
            Verified::Whole if self.is_clean() => "every byte verified",
            Verified::Whole => "every received byte verified, errors below",
            Verified::Nothing => "nothing verified",
            Verified::Wrong => "wrong bytes received",
        };
        writeln!(
            f,
            "  throughput  {} {what} per second, {:.1} MB/s ({} in {:.1} s, {verified})",
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
                "  latency     unknown: no message that was due within the measured time got a reply"
            )?;
        }
        if self.idle > 0 {
            writeln!(f, "  idle        {} held open", plural(self.idle as u64, "connection"))?;
        }
        if let Some(server) = &self.server {
            let ServerUsage { processors, micros_per_message, .. } = server;
            let each = server
                .memory_per_connection
                .map_or(String::new(), |each| format!(" ({} more per connection)", memory(each)));
            writeln!(
                f,
                "  server      {} of processor time per message, {processors:.2} processors busy, {}, \
                 {} resident{each}",
                time(*micros_per_message),
                plural(server.threads, "thread"),
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
