//! The error of a job that got no thread.

use std::fmt;
use std::io;

use echown_limits::ThreadLimit;

/// A job that got no thread, with the reason.
pub(crate) struct NoThread<F> {
    /// The job, which has not run.
    pub(crate) job: F,
    /// The limit that was reached.
    pub(crate) reason: NoThreadReason,
}

/// Why a job got no thread.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum NoThreadReason {
    /// All threads of the configured limit are busy, and the queue is full.
    PoolLimit {
        /// The configured limit.
        threads: usize,
        /// Jobs in the queue.
        queued: usize,
    },
    /// All threads of the system's limit are busy, and the queue is full.
    SystemLimit {
        /// The lowest of the system's limits.
        limit: ThreadLimit,
        /// Jobs in the queue.
        queued: usize,
    },
    /// The system failed to start one more thread.
    StartFailed {
        /// Existing threads, all busy.
        threads: usize,
        /// The system's error.
        error: io::Error,
    },
    /// This process is a fork of the process that has the threads.
    Forked,
}

impl<F> fmt::Debug for NoThread<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoThread").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for NoThread<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to run the job: {}", self.reason)
    }
}

impl fmt::Display for NoThreadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoThreadReason::PoolLimit { threads, queued } => {
                let noun = if *threads == 1 { "thread" } else { "threads" };
                write!(f, "no free thread: all of the pool's limit of {threads} {noun} are busy")?;
                write!(f, "; queued jobs: {queued}")
            }
            NoThreadReason::SystemLimit { limit, queued } => {
                write!(f, "no free thread: all of the system's limit of {limit} are busy")?;
                write!(f, "; queued jobs: {queued}")
            }
            NoThreadReason::StartFailed { threads, error } => {
                let next = threads + 1;
                write!(f, "failed to start thread {next} of the pool: {error}")
            }
            NoThreadReason::Forked => f.write_str(
                "no free thread: the pool's threads belong to the parent of this forked process; \
                 build a new pool",
            ),
        }
    }
}
