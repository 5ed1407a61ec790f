//! How accepting goes on after an error that is no shortage.
//!
//! The failure story: where a firewall or a seccomp filter forbids `accept4(2)`, every call fails, and
//! the connection stays in the backlog, readable. Without a pause the acceptor would use a processor;
//! with a short one it would write a log line for each. So the pause grows, and a row of failure_log is
//! logged once.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::rate_limited_log::RateLimited;

/// The first pause of a row: a single failure delays the next client by no more than this.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pauses of one acceptor.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The last pause; `None` where the last call has succeeded.
    last: Option<Duration>,
    failure_log: RateLimited,
    recovery_log: RateLimited,
}

impl Backoff {
    /// Logs the first failure of a row; the pause before the next call.
    pub(super) fn after(&mut self, error: &io::Error) -> Duration {
        if self.last.is_none() {
            self.failure_log.warn(format_args!(
                "cannot accept: {}; trying again, every {} s at the most",
                cause(error),
                PAUSE_MAX.as_secs()
            ));
        }
        let pause = self.last.map_or(PAUSE_MIN, |last| (last * 2).min(PAUSE_MAX));
        self.last = Some(pause);
        pause
    }

    /// A call has succeeded: the next failure begins a new row.
    pub(super) fn reset(&mut self) {
        if self.last.take().is_some() {
            self.recovery_log.info("accepting goes on");
        }
    }
}

fn cause(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            format!(
                "{error}: a rule of this system forbids it, such as a firewall or a seccomp filter"
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
        let pauses: Vec<u128> = (0..10).map(|_| backoff.after(&error).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.after(&error), PAUSE_MIN);
    }
}
