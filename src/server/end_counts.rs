//! Counters of ended connections, by reason, and their log lines.
//!
//! A server ends thousands of connections a second, so the log has at most one line a second for each
//! reason, with the number of those it stands for. At level `debug` every end has its line.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::echo::EndReason;
use crate::rate_limited_log::RateLimited;

const REASONS: usize = EndReason::ALL.len();

/// Counts and logs the ends of connections.
#[derive(Debug, Default)]
pub(super) struct EndCounter {
    counts: [AtomicU64; REASONS],
    lines: [RateLimited; REASONS],
}

impl EndCounter {
    /// Counts a connection that ended and is logged elsewhere.
    pub(super) fn count(&self, reason: EndReason) {
        count(&self.counts[reason as usize], 1);
    }

    /// Counts and logs a connection that ended; `error` is the cause, if it adds to the reason.
    pub(super) fn count_and_log(
        &self,
        reason: EndReason,
        task: &dyn fmt::Display,
        error: Option<&dyn fmt::Display>,
    ) {
        self.count(reason);
        let detail = |f: &mut fmt::Formatter<'_>| match error {
            Some(error) => write!(f, "ended: {reason} ({error})"),
            None => write!(f, "ended: {reason}"),
        };
        let what = fmt::from_fn(detail);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::debug!(%task, "{what}");
        } else if let Some(suppressed) = self.lines[reason as usize].permit() {
            let more = fmt::from_fn(|f| match suppressed {
                0 => Ok(()),
                more => write!(f, " (and {more} more like this since the last line)"),
            });
            tracing::info!(%task, "{what}{more}");
        }
    }

    /// The current counts.
    pub(super) fn counts(&self) -> EndCounts {
        // ord: Relaxed; statistics, exact once every task that counts has ended.
        EndCounts(self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// How many connections ended for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndCounts([u64; REASONS]);

impl EndCounts {
    /// How many ended for this reason.
    #[must_use]
    pub(crate) fn get(&self, reason: EndReason) -> u64 {
        self.0[reason as usize]
    }

    /// The number of all ends, including [`EndReason::Refused`].
    #[must_use]
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The number of ends with an error: all except finished, drained, cancelled, panicked and
    /// [`EndReason::Refused`].
    #[must_use]
    pub(crate) fn errors(&self) -> u64 {
        let not_errors = [
            EndReason::Finished,
            EndReason::Drained,
            EndReason::Aborted,
            EndReason::Panic,
            EndReason::Refused,
        ];
        self.total() - not_errors.into_iter().map(|reason| self.get(reason)).sum::<u64>()
    }
}

/// `3 finished, 1 idle_timeout`; reasons without connections are omitted.
impl fmt::Display for EndCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occurring = EndReason::ALL.into_iter().filter(|reason| self.get(*reason) > 0);
        for (index, reason) in occurring.enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} {}", self.get(reason), reason.key())?;
        }
        Ok(())
    }
}

/// An object with a key for every reason.
#[cfg(feature = "json")]
impl serde::Serialize for EndCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(EndReason::ALL.map(|reason| (reason.key(), self.get(reason))))
    }
}

/// Connection counts of a server so far.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
pub(crate) struct ConnectionCounts {
    /// Connections accepted for service so far.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Those of them that wait without a thread (`--park`).
    pub parked: u64,
    /// Those of the parked ones that wait for their client to read.
    pub blocked: u64,
    /// The ends of the other connections, including [`EndReason::Refused`].
    pub ends: EndCounts,
}

#[cfg_attr(not(feature = "serve"), allow(dead_code))]
impl ConnectionCounts {
    /// Connections that were closed at once because of a limit.
    #[must_use]
    pub(crate) fn refused(&self) -> u64 {
        self.ends.get(EndReason::Refused)
    }
}

#[cfg(feature = "json")]
impl ConnectionCounts {
    /// One line of JSON.
    #[must_use]
    pub(crate) fn to_json(self) -> String {
        match serde_json::to_string(&self) {
            Ok(json) => json,
            Err(error) => unreachable!("plain data always serializes: {error}"),
        }
    }
}

impl fmt::Display for ConnectionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectionCounts { connections, open, parked, blocked, ends } = self;
        write!(f, "connections: {connections} accepted, {open} open")?;
        if parked + blocked > 0 {
            write!(f, " ({parked} parked, {blocked} blocked)")?;
        }
        if ends.total() > 0 {
            write!(f, "; ended: {ends}")?;
        }
        Ok(())
    }
}

/// Adds to one of the counters.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    // ord: Relaxed; a statistic, exact once the tasks that count have been joined.
    counter.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_lists_what_occurred_and_errors_exclude_regular_ends() {
        let counters = EndCounter::default();
        assert_eq!(counters.counts().to_string(), "");
        for reason in EndReason::ALL {
            counters.count(reason);
        }
        counters.count(EndReason::Reset);
        let counts = counters.counts();
        assert_eq!((counts.total(), counts.errors()), (16, 11));
        assert!(counts.to_string().starts_with("1 finished, 1 drained, 2 reset, 1 idle_timeout, "));
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_has_every_reason() {
        let counters = EndCounter::default();
        counters.count(EndReason::Unreachable);
        let json = serde_json::to_value(counters.counts()).unwrap();
        assert_eq!((&json["unreachable"], &json["reset"]), (&1.into(), &0.into()));
        assert_eq!(json.as_object().unwrap().len(), EndReason::ALL.len());
    }
}
