//! Moments in eight bytes: a million live resources have two each, and an `Instant` takes sixteen.

use std::time::Duration;

use once_cell::sync::Lazy;

use crate::sys::clock::monotonic_nanos;

/// The first moment of this process.
static FIRST: Lazy<u64> = Lazy::new(monotonic_nanos);

/// A moment of this process, in nanoseconds since the first one. They last for 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Moment {
        let first = *FIRST;
        Moment(monotonic_nanos().saturating_sub(first))
    }

    /// Nanoseconds since the first moment.
    pub(crate) fn nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds since then.
    pub(crate) fn elapsed_nanos(self) -> u64 {
        Moment::now().0.saturating_sub(self.0)
    }

    /// Whole milliseconds since then.
    pub(crate) fn elapsed_ms(self) -> u64 {
        Duration::from_nanos(self.elapsed_nanos()).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_grow_and_their_age_is_in_milliseconds() {
        let before = Moment::now();
        assert!(before <= Moment::now());
        let earlier = Moment(before.0.saturating_sub(1));
        assert!(earlier <= before);
        let now = Moment(Moment::now().0 + 5_000_000_000);
        assert_eq!(now.elapsed_ms(), 0, "a moment that is still to come has no age");
    }
}
