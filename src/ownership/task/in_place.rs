//! Tasks that run on another task's thread, in its place: an inline child, a local root, a task whose
//! end hook or abandoned closure runs there.
//!
//! The failure this prevents: task A is cancelled while its thread reads from a socket that its
//! inline child B owns. A's descriptors are shut down, B's is not, and the canceller of A waits
//! indefinitely. So tasks on one thread form a chain: each names the one that runs in its place, and
//! cancel and drain walk the chain to its end. Each link is cancelled as a whole, so that `join`,
//! `get` and `scope` in the innermost task wake too.
//!
//! Two orders ensure that no task is missed:
//!
//! 1. The canceller sets the flag of the outer task, then reads `in_place`. The inner task sets
//!    `in_place`, then reads the flag of the outer one. Both go through the lock of `in_place` and
//!    through the lock of the account, so one of them sees the other.
//! 2. A transfer to a parent, and a failed spawn that returns resources, read the flags of the receiver
//!    under the locks of both accounts. What arrives after the receiver was cancelled or drained is
//!    shut down by the thread that moved it.
//!
//! A task that runs its finalizers is not cancelled, and neither is what they run: finalizers are
//! guaranteed to run.

use std::sync::Arc;

use super::{Task, TaskPhase};
use crate::sync::lock;

/// A request to a chain of tasks.
#[derive(Clone, Copy)]
enum StopRequest {
    Cancel,
    Drain,
}

impl Task {
    /// Requests the cancellation of this task and of every task that runs in its place: sets the flag,
    /// then shuts down every descriptor that the task owns, so that blocked calls return.
    ///
    /// Returns at once. A task that runs its finalizers is not cancelled.
    pub(crate) fn request_cancel(self: &Arc<Task>) {
        self.send_request(StopRequest::Cancel);
    }

    /// Asks this task, and every task that runs in its place, to finish on its own: every connection it
    /// owns reads what has arrived, and then the end of the stream.
    pub(crate) fn request_drain(self: &Arc<Task>) {
        self.send_request(StopRequest::Drain);
    }

    /// A loop instead of recursion: the chain is as deep as the program nests inline tasks.
    fn send_request(self: &Arc<Task>, request: StopRequest) {
        let mut next = Some(Arc::clone(self));
        while let Some(task) = next {
            let continues = match request {
                StopRequest::Cancel => task.cancel_self(),
                StopRequest::Drain => task.drain_self(),
            };
            next = lock(&task.in_place).clone().filter(|_| continues);
        }
    }

    /// Puts `inner` in this task's place and passes on a request that this task got before.
    pub(super) fn begin_in_place(&self, inner: &Arc<Task>) {
        *lock(&self.in_place) = Some(Arc::clone(inner));
        match self.pending_request() {
            Some(StopRequest::Cancel) => inner.request_cancel(),
            Some(StopRequest::Drain) => inner.request_drain(),
            None => {}
        }
    }

    /// Records that no task runs in this task's place any more.
    pub(super) fn end_in_place(&self) {
        *lock(&self.in_place) = None;
    }

    fn pending_request(&self) -> Option<StopRequest> {
        let account = self.account();
        match () {
            // Finalizers are guaranteed to run, and so is what they run.
            () if account.phase == TaskPhase::Ending => None,
            () if account.cancelled => Some(StopRequest::Cancel),
            () if account.draining => Some(StopRequest::Drain),
            () => None,
        }
    }

    /// Whether the task was cancelled and does not run its finalizers yet.
    pub(crate) fn propagates_cancel(&self) -> bool {
        matches!(self.pending_request(), Some(StopRequest::Cancel))
    }
}

#[cfg(all(test, not(echown_loom)))]
mod tests {
    use super::*;
    use crate::ownership::Registry;
    use crate::ownership::task::current;

    #[test]
    fn the_link_to_an_inner_task_ends_with_it() {
        let registry = Registry::new();
        let has_link = |task: &Task| lock(&task.in_place).is_some();
        let run = registry.run("outer", || {
            let outer = current(&registry);
            assert!(!has_link(&outer));
            registry.run_inline("inner", [], || assert!(has_link(&outer))).expect("it returns");
            assert!(!has_link(&outer));
        });
        run.expect("nothing is left");
    }
}
