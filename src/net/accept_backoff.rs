//! Backoff of an accept loop: how long it pauses after a failure, and what it logs.
//!
//! The failure story: where a firewall or a seccomp filter forbids `accept4(2)`, every call fails,
//! and the connection stays in the backlog, readable. Without a pause the acceptor would use a
//! whole processor; with a constant short one it would log each failure. So the pause grows, and a
//! series of failures is logged once. When the process is out of descriptors, threads or memory,
//! the pause stays short, because a connection that ends frees some.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::rate_limited_log::RateLimited;

/// The pause after an exhaustion, and the first one of a series of failures: long enough not to
/// spin, short enough that a client hardly notices.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The backoff state of one acceptor.
#[derive(Debug, Default)]
pub(crate) struct AcceptBackoff {
    /// The last pause; `None` if the last call succeeded or there were not enough resources.
    last: Option<Duration>,
    is_exhausted: bool,
    failure_log: RateLimited,
    exhaustion_log: RateLimited,
    recovery_log: RateLimited,
}

impl AcceptBackoff {
    /// Records that a connection was accepted and has a task: the next failure starts a new series.
    pub(crate) fn record_success(&mut self) {
        let has_failed = self.last.take().is_some();
        if std::mem::take(&mut self.is_exhausted) || has_failed {
            self.recovery_log.info("accept resumed");
        }
    }

    /// Records that a connection could not be accepted, and returns the pause before the next call.
    pub(crate) fn record_failure(&mut self, error: &io::Error) -> Duration {
        if is_exhaustion(error) {
            return self.record_exhaustion(error);
        }
        if self.last.is_none() {
            self.failure_log.warn(format_args!(
                "failed to accept: {}; trying again, every {} s at the most",
                cause(error),
                PAUSE_MAX.as_secs()
            ));
        }
        let pause = self.last.map_or(PAUSE_MIN, |last| (last * 2).min(PAUSE_MAX));
        self.last = Some(pause);
        pause
    }

    /// Records that there is no descriptor, thread or memory for a connection, and returns the
    /// pause before the next call.
    pub(crate) fn record_exhaustion(&mut self, what: impl fmt::Display) -> Duration {
        // At the limit, successes and failures alternate; one line a second is enough.
        self.exhaustion_log.warn(format_args!("accept paused, retrying in {PAUSE_MIN:?}: {what}"));
        self.last = None;
        self.is_exhausted = true;
        PAUSE_MIN
    }
}

/// Out of descriptors, buffers or memory: temporary, until other users release theirs.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

fn cause(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            format!(
                "{error}: forbidden by a rule of this system, such as a firewall or a seccomp filter"
            )
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_limit_and_begins_small_again_after_a_success() {
        let error = io::Error::from(Errno::PERM);
        let mut backoff = AcceptBackoff::default();
        let pauses: Vec<u128> =
            (0..10).map(|_| backoff.record_failure(&error).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.record_success();
        assert_eq!(backoff.record_failure(&error), PAUSE_MIN);
    }

    #[test]
    fn the_pause_stays_short_while_the_process_is_out_of_descriptors() {
        let mut backoff = AcceptBackoff::default();
        for _ in 0..10 {
            assert_eq!(backoff.record_failure(&Errno::MFILE.into()), PAUSE_MIN);
        }
    }
}
