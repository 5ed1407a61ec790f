//! The progress of a child, and the time limit for each step.

use std::time::Duration;

use super::case::Case;

/// What the harness does itself, from the process's start to the body and from there to the process's
/// end, takes some seconds at most: reading debug information, looking at thousands of descriptors. The
/// test's own timeout, which may be short, is not for that.
const OVERHEAD_MAX: Duration = Duration::from_secs(300);

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// On the way to the body.
    #[default]
    Begins,
    /// The body runs.
    Runs,
    /// It has come back.
    CameBack,
}

impl Progress {
    /// After which the child is taken for hanging.
    pub(super) fn timeout(self, case: &Case) -> Duration {
        match self {
            Progress::Begins => OVERHEAD_MAX,
            Progress::Runs => case.timeout(),
            Progress::CameBack => case.settle() + OVERHEAD_MAX,
        }
    }

    /// What is said of a test whose child was killed then.
    pub(super) fn too_late(self, case: &Case) -> String {
        let time = self.timeout(case);
        match self {
            Progress::Begins => {
                format!("did not start within {time:?}, and its process was killed")
            }
            Progress::Runs => {
                format!("did not return within {time:?}, and its process was killed")
            }
            Progress::CameBack => {
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
    fn only_the_body_is_held_to_the_tests_own_timeout() {
        let case = Case { timeout_ms: Some(5), settle_ms: Some(7), ..CASE };
        assert_eq!(Progress::Runs.timeout(&case), Duration::from_millis(5));
        assert_eq!(Progress::Begins.timeout(&case), OVERHEAD_MAX);
        assert_eq!(Progress::CameBack.timeout(&case), OVERHEAD_MAX + Duration::from_millis(7));
    }
}
