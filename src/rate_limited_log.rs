//! Rate-limited log lines, for events that can occur ten thousand times a second.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The minimum time between two lines of one kind, so that a flood stays visible and does not hide
/// other lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes a line at most once per [`PAUSE`], and counts suppressed lines.
///
/// For logs only: a report of the checker is never suppressed.
#[derive(Debug, Default)]
pub(crate) struct RateLimited(Mutex<LogState>);

#[derive(Debug, Default)]
struct LogState {
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimited {
    /// Writes a warning, unless the limit suppresses it.
    pub(crate) fn warn(&self, what: impl fmt::Display) {
        let Some(suppressed) = self.permit_at(Instant::now()) else { return };
        if suppressed == 0 {
            tracing::warn!("{what}");
        } else {
            tracing::warn!("{what} (and {suppressed} more like this since the last line)");
        }
    }

    /// Writes a line at level `info`, unless the limit suppresses it.
    pub(crate) fn info(&self, what: impl fmt::Display) {
        if self.permit_at(Instant::now()).is_some() {
            tracing::info!("{what}");
        }
    }

    /// Returns how many lines were suppressed since the last one, if this one may be written.
    pub(crate) fn permit(&self) -> Option<u64> {
        self.permit_at(Instant::now())
    }

    /// [`permit`](RateLimited::permit) at a given time.
    fn permit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_one_line_per_pause_and_is_counted() {
        let log = RateLimited::default();
        let start = Instant::now();
        assert_eq!(log.permit_at(start), Some(0));
        for _ in 0..999 {
            assert_eq!(log.permit_at(start + PAUSE / 2), None);
        }
        assert_eq!(log.permit_at(start + PAUSE), Some(999));
        assert_eq!(log.permit_at(start + PAUSE * 2), Some(0));
    }
}
