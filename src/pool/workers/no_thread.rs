//! Why a job got no thread.

use std::fmt;
use std::io;

use crate::pool::thread_limit::ThreadLimit;

/// A job that got no thread, given back, and why.
pub(crate) struct NoThread<F> {
    /// The job, not run.
    pub(crate) job: F,
    /// The limit that was met.
    pub(crate) reason: NoThreadReason,
}

/// Which limit left a job without a thread.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum NoThreadReason {
    /// As many threads as were configured, and as many jobs waiting.
    PoolLimit {
        /// The configured limit: so many threads are busy.
        threads: usize,
        /// Jobs that wait already.
        queued: usize,
    },
    /// As many threads as this machine carries, and as many jobs waiting.
    SystemLimit {
        /// The tightest limit of this machine: so many threads are busy.
        ceiling: ThreadLimit,
        /// Jobs that wait already.
        queued: usize,
    },
    /// The system refused to start one more thread.
    StartFailed {
        /// Threads that there are, all busy.
        threads: usize,
        /// What the system said.
        error: io::Error,
    },
    /// The process was forked off the one that has the threads.
    Forked,
}

impl<F> fmt::Debug for NoThread<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoThread").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for NoThread<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no thread for the job: {}", self.reason)
    }
}

impl fmt::Display for NoThreadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoThreadReason::PoolLimit { threads, queued } => {
                write!(f, "expected fewer than {threads} busy threads, the configured limit")?;
                write!(f, ", actually {threads} are busy; waiting jobs: {queued}")
            }
            NoThreadReason::SystemLimit { ceiling, queued } => {
                write!(f, "expected less than the ceiling of {ceiling}")?;
                write!(f, ", actually all are busy; waiting jobs: {queued}")
            }
            NoThreadReason::StartFailed { threads, error } => {
                let next = threads + 1;
                write!(f, "thread {next} of the pool could not be started: {error}")
            }
            NoThreadReason::Forked => f.write_str(
                "this process was forked off the one that has the pool's threads: build a pool here",
            ),
        }
    }
}
