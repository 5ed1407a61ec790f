//! The progress of a child, and the time limit for each step.

use std::time::Duration;

use super::case::Case;

/// The additional time of the harness's own steps: from the process's start to the body, and from
/// the body's end to the process's end. They take some seconds at most, for late closes, for reading
/// debug information and for checking thousands of descriptors. The test's own timeout may be
/// shorter. Code of attributes above this one runs before the body, and may wait for a lock, so the
/// first step is bounded, too.
const OVERHEAD_MAX: Duration = Duration::from_secs(60);

/// The current step of a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// The process starts; the body has not begun.
    #[default]
    Starting,
    /// The body runs.
    Running,
    /// The body has returned.
    Returned,
}

impl Progress {
    /// The time after which the child counts as hanging.
    pub(super) fn timeout(self, case: &Case) -> Duration {
        match self {
            Progress::Starting => case.timeout() + OVERHEAD_MAX,
            Progress::Running => case.timeout(),
            Progress::Returned => case.settle() + case.timeout() + OVERHEAD_MAX,
        }
    }

    /// The message about a test whose child was killed in this step.
    pub(super) fn timeout_message(self, case: &Case) -> String {
        let time = self.timeout(case);
        match self {
            Progress::Starting => {
                format!(
                    "did not start within {time:?}, and its process was killed; does an attribute above \
                     this one wait for a lock that the runner holds?"
                )
            }
            Progress::Running => {
                format!("did not return within {time:?}, and its process was killed")
            }
            Progress::Returned => {
                format!("returned, but its process did not exit within {time:?} and was killed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::tests::CASE;

    #[test]
    fn every_step_is_bounded_by_the_tests_timeout() {
        let case = Case { timeout_ms: Some(5), settle_ms: Some(7), ..CASE };
        assert_eq!(Progress::Running.timeout(&case), Duration::from_millis(5));
        let overhead = |own| OVERHEAD_MAX + Duration::from_millis(own);
        assert_eq!(Progress::Starting.timeout(&case), overhead(5));
        assert_eq!(Progress::Returned.timeout(&case), overhead(5 + 7));
    }
}
