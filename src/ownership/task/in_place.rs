//! Tasks that run on another task's thread, in its place: an inline child, a local root, a task whose
//! end hook or abandoned closure runs there, an actor.
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
//!
//! # Actors
//! A task lends its thread to an actor, and an actor outlives the loan. So an actor is not cancelled
//! with its lender; what it owns is, for as long as the loan lasts. A loan does not end while a request
//! reaches its actor: both need the lock of the actor's `lender`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{CurrentTaskGuard, Task, TaskPhase, guard};
use crate::sync::lock;

/// The task that runs in another task's place.
#[derive(Clone)]
pub(super) enum InPlace {
    /// A task that has the same outer task for its whole life on this thread.
    Task(Arc<Task>),
    /// An actor, which may have another lender later.
    Actor(Arc<Task>),
}

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
        while let Some(task) = next.take() {
            let continues = match request {
                StopRequest::Cancel => task.cancel_self(),
                StopRequest::Drain => task.drain_self(),
            };
            if continues {
                next = task.request_in_place(request);
            }
        }
    }

    /// Returns the task in this one's place. If it is an actor, sends it the request instead.
    fn request_in_place(self: &Arc<Task>, request: StopRequest) -> Option<Arc<Task>> {
        let in_place = lock(&self.in_place).clone();
        match in_place? {
            InPlace::Task(inner) => Some(inner),
            InPlace::Actor(actor) => {
                let lender = guard(&actor.lender);
                // After the loan has ended the actor may have another lender; then it is left alone.
                if lender.as_ref().is_some_and(|lender| Arc::ptr_eq(lender, self)) {
                    actor.request_for_lender(request);
                    // Under the lock of `lender`: what runs in the actor's place runs on this lender's
                    // thread.
                    if let Some(inner) = actor.request_in_place(request) {
                        inner.send_request(request);
                    }
                }
                None
            }
        }
    }

    /// Sends an actor a request that its lender got.
    fn request_for_lender(&self, request: StopRequest) {
        match request {
            StopRequest::Cancel => {
                // ord: Release; partner: `is_cancelled`. Before the shutdown, which wakes a call.
                self.cancelled.store(true, Ordering::Release);
                self.cancel_owned();
                self.notify();
            }
            StopRequest::Drain => {
                self.drain_self();
            }
        }
    }

    /// Puts `inner` in this task's place and passes on a request that this task got before.
    pub(super) fn begin_in_place(&self, inner: &Arc<Task>) {
        *lock(&self.in_place) = Some(InPlace::Task(Arc::clone(inner)));
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
            () if account.cancelled || self.is_cancelled() => Some(StopRequest::Cancel),
            () if account.draining => Some(StopRequest::Drain),
            () => None,
        }
    }

    /// Whether the task was cancelled and does not run its finalizers yet.
    pub(crate) fn propagates_cancel(&self) -> bool {
        matches!(self.pending_request(), Some(StopRequest::Cancel))
    }
}

/// The loan of a thread to an actor, until this is dropped.
pub(crate) struct ThreadLoan {
    lender: Arc<Task>,
    actor: Arc<Task>,
    /// Dropped after the loan has ended: the lender becomes the current task only when requests reach it.
    _entered: CurrentTaskGuard,
}

impl Task {
    /// Makes the actor the current task of this thread, which is this task's.
    pub(crate) fn lend_thread(self: &Arc<Task>, actor: &Arc<Task>) -> ThreadLoan {
        let entered = actor.enter_detached();
        *guard(&actor.lender) = Some(Arc::clone(self));
        *lock(&self.in_place) = Some(InPlace::Actor(Arc::clone(actor)));
        if let Some(request) = self.pending_request() {
            actor.request_for_lender(request);
        }
        ThreadLoan { lender: Arc::clone(self), actor: Arc::clone(actor), _entered: entered }
    }

    /// Applies a request that an actor's lender got before to what the actor has just acquired. Called
    /// after every addition to the account of a task that may be an actor.
    pub(crate) fn propagate_cancel(&self) {
        if guard(&self.lender).is_none() {
            return;
        }
        match self.pending_request() {
            Some(StopRequest::Cancel) => self.cancel_owned(),
            Some(StopRequest::Drain) => self.shutdown_read(),
            None => {}
        }
    }

    /// Marks an actor as idle: it has no thread, and may be run or abandoned.
    pub(crate) fn park(&self) {
        if !self.is_of_this_process() {
            return;
        }
        *guard(&self.thread) = None;
        self.set_job(|_| ());
    }
}

impl Drop for ThreadLoan {
    fn drop(&mut self) {
        if !self.actor.is_of_this_process() {
            return;
        }
        self.lender.end_in_place();
        let mut lender = guard(&self.actor.lender);
        *lender = None;
        // Requests that came from the lender end with the loan.
        let mut account = self.actor.account();
        account.draining = false;
        // ord: Release; partner: `is_cancelled`.
        self.actor.cancelled.store(account.cancelled, Ordering::Release);
    }
}
