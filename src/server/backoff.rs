//! Backoff of the accept loop after errors other than exhaustion.
//!
//! The failure story: where a firewall or a seccomp filter forbids `accept4(2)`, every call fails, and
//! the connection stays in the backlog, readable. Without a pause the acceptor would use a whole
//! processor; with a constant short one it would log each failure. So the pause grows, and a series of
//! failures is logged once.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::rate_limited_log::RateLimited;

/// The first pause of a series: a single failure delays the next client by no more than this.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The backoff state of one acceptor.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The last pause; `None` if the last call succeeded.
    last: Option<Duration>,
    failure_log: RateLimited,
    recovery_log: RateLimited,
}

impl Backoff {
    /// Logs the first failure of a series, and returns the pause before the next call.
    pub(super) fn record_failure(&mut self, error: &io::Error) -> Duration {
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

    /// Records a success: the next failure starts a new series.
    pub(super) fn record_success(&mut self) {
        if self.last.take().is_some() {
            self.recovery_log.info("accept resumed");
        }
    }
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
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> =
            (0..10).map(|_| backoff.record_failure(&error).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.record_success();
        assert_eq!(backoff.record_failure(&error), PAUSE_MIN);
    }
}
