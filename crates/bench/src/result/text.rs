//! The result of a run as text.

use std::fmt;

use super::{LoadResult, ServerUsage, Verified};
use crate::plan::WireProtocol;
use crate::units::{memory, number, plural, time};

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
