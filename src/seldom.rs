//! Log lines about what may happen ten thousand times a second.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two lines about one thing: a flood is seen to go on, and drowns
/// nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets a warning through once in a while and counts those it held back.
///
/// For logs only: a report of the checker is never held back.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    last: Option<Instant>,
    back: u64,
}

impl Seldom {
    /// Warns, unless it did so a moment ago.
    pub(crate) fn warn(&self, what: impl fmt::Display) {
        let Some(held_back) = self.pass(Instant::now()) else { return };
        if held_back == 0 {
            tracing::warn!("{what}");
        } else {
            tracing::warn!("{what} (and {held_back} more like this since the last line)");
        }
    }

    /// Informs, unless it did so a moment ago.
    pub(crate) fn info(&self, what: impl fmt::Display) {
        if self.pass(Instant::now()).is_some() {
            tracing::info!("{what}");
        }
    }

    /// How many lines were held back since the last one, if this one may be written.
    pub(crate) fn permit(&self) -> Option<u64> {
        self.pass(Instant::now())
    }

    /// How many were held back since the last one that passed, if this one passes.
    fn pass(&self, now: Instant) -> Option<u64> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            held.back += 1;
            return None;
        }
        held.last = Some(now);
        Some(std::mem::take(&mut held.back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_passes_once_a_while_and_is_counted() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.pass(start), Some(0));
        for _ in 0..999 {
            assert_eq!(seldom.pass(start + PAUSE / 2), None);
        }
        assert_eq!(seldom.pass(start + PAUSE), Some(999));
        assert_eq!(seldom.pass(start + PAUSE * 2), Some(0));
    }
}
