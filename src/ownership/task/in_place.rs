//! What a task's thread runs in the task's place: an inline child, a local root, a task whose end
//! hook or abandoned closure runs there, an actor's part.
//!
//! The failure this prevents: task A is cancelled while its thread reads from a socket that its
//! inline child B owns. A's descriptors are shut down, B's is not, and the canceller of A waits
//! indefinitely. So tasks on one thread form a chain: each names the one that runs in its place, and
//! cancel and drain walk the chain to its end. Each link is cancelled as a whole, so that `join`,
//! `get` and `scope` in the innermost task wake too.
//!
//! Two orders keep a task from slipping through:
//!
//! 1. The canceller sets the flag of the outer task, then reads `in_place`. The inner task sets
//!    `in_place`, then reads the flag of the outer one. Both go through the lock of `in_place` and
//!    through the lock of the account, so one of them sees the other.
//! 2. A transfer up, and a failed spawn that hands back, look at the flags of the receiver under
//!    the locks of both accounts. What arrives after the receiver was cancelled or drained is shut
//!    down by the thread that moved it.
//!
//! A task in its own finalizers is left alone, and so is what they run: finalizers are promised.
//!
//! # Actors
//! A task lends its thread to an actor, and an actor outlives the loan. So an actor is not
//! cancelled with its lender: what it owns is, for as long as the part lasts. A part does not end
//! while its actor is being told: both go through the lock of the actor's `lender`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{CurrentTaskGuard, Phase, Task, guard};
use crate::sync::lock;

/// What runs in a task's place.
#[derive(Clone)]
pub(super) enum InPlace {
    /// A task that has this one outer task for its whole life on this thread.
    Task(Arc<Task>),
    /// An actor, which may have another lender next.
    Actor(Arc<Task>),
}

/// What a chain is asked to do.
#[derive(Clone, Copy)]
enum Request {
    Cancel,
    Drain,
}

impl Task {
    /// Asks this task, and everything that its thread runs in its place, to end: the flag first,
    /// then every descriptor it owns is shut down, so that a call blocked in one returns.
    ///
    /// Returns at once. A task in its own finalizers is left alone.
    pub(crate) fn request_cancel(self: &Arc<Task>) {
        self.send_request(Request::Cancel);
    }

    /// Asks this task, and everything that its thread runs in its place, to come to its end by
    /// itself: every connection it owns reads what has arrived, and then the end of the stream.
    pub(crate) fn request_drain(self: &Arc<Task>) {
        self.send_request(Request::Drain);
    }

    /// A loop and no recursion: the chain is as deep as the program nests inline tasks.
    fn send_request(self: &Arc<Task>, request: Request) {
        let mut next = Some(Arc::clone(self));
        while let Some(task) = next.take() {
            let goes_on = match request {
                Request::Cancel => task.cancel_self(),
                Request::Drain => task.drain_self(),
            };
            if goes_on {
                next = task.request_in_place(request);
            }
        }
    }

    /// The task in this one's place. An actor in its place is asked here.
    fn request_in_place(self: &Arc<Task>, request: Request) -> Option<Arc<Task>> {
        let in_place = lock(&self.in_place).clone();
        match in_place? {
            InPlace::Task(inner) => Some(inner),
            InPlace::Actor(actor) => {
                let lender = guard(&actor.lender);
                // A part that has ended may have another lender by now; what it owns is not ours.
                if lender.as_ref().is_some_and(|lender| Arc::ptr_eq(lender, self)) {
                    actor.request_for_lender(request);
                    // Under the lock of `lender`: what stands in the actor's place does so on this
                    // lender's thread.
                    if let Some(inner) = actor.request_in_place(request) {
                        inner.send_request(request);
                    }
                }
                None
            }
        }
    }

    /// Asks an actor on account of its lender.
    fn request_for_lender(&self, request: Request) {
        match request {
            Request::Cancel => {
                // ord: Release; partner: `is_cancelled`. Before the shutdown, which wakes a call.
                self.cancelled.store(true, Ordering::Release);
                self.cancel_owned();
                self.notify();
            }
            Request::Drain => {
                self.drain_self();
            }
        }
    }

    /// Puts `inner` in this task's place and tells it what this task was told before.
    pub(super) fn begin_in_place(&self, inner: &Arc<Task>) {
        *lock(&self.in_place) = Some(InPlace::Task(Arc::clone(inner)));
        match self.pending_request() {
            Some(Request::Cancel) => inner.request_cancel(),
            Some(Request::Drain) => inner.request_drain(),
            None => {}
        }
    }

    /// Nothing runs in this task's place any more.
    pub(super) fn end_in_place(&self) {
        *lock(&self.in_place) = None;
    }

    fn pending_request(&self) -> Option<Request> {
        let account = self.account();
        match () {
            // Finalizers are promised, and so is what they run.
            () if account.phase == Phase::Ending => None,
            () if account.cancelled || self.is_cancelled() => Some(Request::Cancel),
            () if account.draining => Some(Request::Drain),
            () => None,
        }
    }

    /// Whether the task was cancelled and does not run its finalizers yet.
    pub(crate) fn propagates_cancel(&self) -> bool {
        matches!(self.pending_request(), Some(Request::Cancel))
    }
}

/// A task plays an actor's part until this is dropped.
pub(crate) struct ThreadLoan {
    lender: Arc<Task>,
    actor: Arc<Task>,
    /// Ends after the part does: nothing is done in the lender's name before it can be found there.
    _entered: CurrentTaskGuard,
}

impl Task {
    /// Begins to play an actor's part on this thread, which is this task's.
    pub(crate) fn lend_thread(self: &Arc<Task>, actor: &Arc<Task>) -> ThreadLoan {
        let entered = actor.enter_detached();
        *guard(&actor.lender) = Some(Arc::clone(self));
        *lock(&self.in_place) = Some(InPlace::Actor(Arc::clone(actor)));
        if let Some(request) = self.pending_request() {
            actor.request_for_lender(request);
        }
        ThreadLoan { lender: Arc::clone(self), actor: Arc::clone(actor), _entered: entered }
    }

    /// Tells what an actor has just come to own what its lender was told before: called after
    /// everything that arrives on the account of a task that may be an actor.
    pub(crate) fn propagate_cancel(&self) {
        if guard(&self.lender).is_none() {
            return;
        }
        match self.pending_request() {
            Some(Request::Cancel) => self.cancel_owned(),
            Some(Request::Drain) => self.shutdown_read(),
            None => {}
        }
    }

    /// A resting actor: it has no thread, and may be run or abandoned.
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
        // What was asked on the lender's account ends with the part.
        let mut account = self.actor.account();
        account.draining = false;
        // ord: Release; partner: `is_cancelled`.
        self.actor.cancelled.store(account.cancelled, Ordering::Release);
    }
}
