//! Playing a part: a task lends its thread to an actor.
//!
//! What the thread does meanwhile is the actor's doing, and the lender's time. Whoever cancels or
//! drains the lender therefore looks for the parts that it plays, after having set the flag; and
//! whoever begins to play looks at the flag, after having entered the part. Both go through the lock of
//! `playing`, so that one of them sees the other. The same goes for what the actor comes to own
//! meanwhile, and the lock of its account. A part does not end while its actor is being told: both go
//! through the lock of the actor's `lender`.

use std::sync::Arc;

use super::{Entered, Task, guard};

/// A task plays an actor's part until this is dropped.
pub(crate) struct Part {
    lender: Arc<Task>,
    actor: Arc<Task>,
    /// Ends after the part does: nothing is done in the lender's name before it can be found there.
    _entered: Entered,
}

impl Task {
    /// Begins to play an actor's part on this thread, which is this task's.
    pub(crate) fn play(self: &Arc<Task>, actor: &Arc<Task>) -> Part {
        let entered = actor.enter();
        *guard(&actor.lender) = Some(Arc::clone(self));
        *guard(&self.playing) = Some(Arc::clone(actor));
        actor.obey_lenders();
        Part { lender: Arc::clone(self), actor: Arc::clone(actor), _entered: entered }
    }

    /// Lets what this task owns hear of what its lenders were told before it came here: called when a
    /// part begins and when something new is owned.
    pub(crate) fn obey_lenders(self: &Arc<Task>) {
        if guard(&self.lender).is_none() {
            return;
        }
        if self.is_or_lends(Task::is_cancelled) {
            self.interrupt();
        } else if self.is_or_lends(Task::is_draining) {
            self.shut_reading();
        }
    }

    /// Tells the actors whose parts this task's thread plays, one within the other.
    ///
    /// Each is told under the lock of its `lender`, which is still this thread then: a part that is
    /// over may have another lender by now, and what it owns is none of our business.
    pub(super) fn tell_parts(self: &Arc<Task>, tell: &dyn Fn(&Task)) {
        let Some(actor) = guard(&self.playing).clone() else { return };
        let lender = guard(&actor.lender);
        if lender.as_ref().is_some_and(|lender| Arc::ptr_eq(lender, self)) {
            tell(&actor);
            actor.tell_parts(tell);
        }
    }

    /// Whether it is so with this task or, if it is an actor, with whoever lends it the thread, and
    /// so on.
    pub(crate) fn is_or_lends(&self, is_so: impl Fn(&Task) -> bool) -> bool {
        if is_so(self) {
            return true;
        }
        // Each is looked up without a lock on the one before.
        let mut lender = guard(&self.lender).clone();
        while let Some(task) = lender {
            if is_so(&task) {
                return true;
            }
            lender = guard(&task.lender).clone();
        }
        false
    }

    /// A resting actor: it has no thread, and may be run or abandoned.
    pub(crate) fn rest(&self) {
        *guard(&self.thread) = None;
        self.set_job(|_| ());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        *guard(&self.lender.playing) = None;
        *guard(&self.actor.lender) = None;
    }
}
