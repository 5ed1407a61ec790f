//! `Lot`: the account of one task as a place where other tasks leave resources that wait.
//!
//! A task that waits for input with a thread of its own costs that thread. A *parked* resource costs none:
//! it is on the account of the lot's task, and what knows that it is ready (an epoll) makes some task
//! [unpark](super::Owned::unpark) it. That task owns it, uses it, and parks it again.
//!
//! # The failure this prevents
//!
//! Worker A has read all input of a socket and is about to park it. More input arrives, and worker B gets
//! the event. If B ignored it, because A still has the socket, and A then parked, no event would follow:
//! the client waits indefinitely. So an event for a resource that is held leaves a mark in its slot, in the
//! same atomic step that would have claimed it, and `park` returns `false` when it finds the mark.
//!
//! # Limits
//!
//! The handle stays where it is, and all workers share it, in an [`Arc`](std::sync::Arc). Dropping the last
//! one closes the resource; in any task but the owner that is a violation.

use std::fmt;
use std::sync::Arc;

use echown_report::Site;

use super::error::Error;
use super::record::Managed;
use super::registry::Registry;
use super::slot::Unpark;
use super::task::{self, Task};
use crate::sys::fork;

/// The account of one task as a place where other tasks leave resources that wait.
///
/// The end of the task finalizes what is parked in its lot, like all that it owns; after a normal return
/// it is a leak. A cancellation shuts it down, and no other task can claim it any more.
///
/// # Examples
/// ```
/// use echown::ownership::{self, Lot, Unparked};
///
/// let lot = Lot::new();
/// let words = ownership::own(vec!["first"])?;
/// assert!(words.park(&lot)?);
/// let refused = words.with(|words| words.len()).unwrap_err();
/// assert_eq!(refused.kind(), ownership::ErrorKind::NotOwner);
///
/// let outcome = std::thread::scope(|threads| {
///     let worker = threads.spawn(|| {
///         assert_eq!(words.unpark(&lot)?, Unparked::Claimed);
///         // A second event, while the worker has it, is not lost.
///         assert_eq!(words.unpark(&lot)?, Unparked::Marked);
///         assert!(!words.park(&lot)?);
///         words.with(|words| words.push("second"))?;
///         words.park(&lot)
///     });
///     worker.join().unwrap()
/// });
/// assert!(outcome?);
/// assert_eq!(words.unpark(&lot)?, Unparked::Claimed);
/// assert_eq!(words.disown()?, ["first", "second"]);
/// # Ok::<(), ownership::Error>(())
/// ```
#[derive(Clone)]
pub struct Lot {
    task: Arc<Task>,
}

/// What an [`unpark`](super::Owned::unpark) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparked {
    /// The resource was parked; the current task owns it now.
    Claimed,
    /// A task holds it. Its next `park` returns `false`.
    Marked,
    /// It is not parked in this lot, and no task holds it: it was closed, disowned, offered or split, or the
    /// lot's task was cancelled.
    Gone,
}

impl Lot {
    /// The lot of the current task.
    #[must_use]
    pub fn new() -> Lot {
        Lot { task: task::current(&Registry::current()) }
    }

    /// The current task, if it is not the lot's own.
    #[inline]
    fn other_task(&self, registry: &Registry) -> Option<Arc<Task>> {
        (task::current_id() != self.task.id().get()).then(|| task::current(registry))
    }

    pub(crate) fn park<C: Managed + 'static>(
        &self,
        cell: &Arc<C>,
        site: Site,
    ) -> Result<bool, Error> {
        let record = cell.record();
        if fork::in_forked_child() {
            let owner = record.slot.load().owner();
            let refusal = |word| record.refusal(word, &task::current(&record.registry), site);
            return record.slot.park(owner, owner).map_err(refusal);
        }
        match self.other_task(&record.registry) {
            None => task::park_in_own_lot(&self.task, &**cell, site),
            Some(me) => task::park(&me, &self.task, &held(cell), site),
        }
    }

    pub(crate) fn unpark<C: Managed + 'static>(
        &self,
        cell: &Arc<C>,
        site: Site,
    ) -> Result<Unparked, Error> {
        let record = cell.record();
        if fork::in_forked_child() {
            let owner = record.slot.load().owner();
            return Ok(record.slot.unpark(owner, owner).ok().into());
        }
        let outcome = match self.other_task(&record.registry) {
            None => task::unpark_in_own_lot(&self.task, &**cell, site),
            Some(me) => task::unpark(&me, &self.task, &held(cell), site),
        };
        outcome.map(Unparked::from)
    }
}

fn held<C: Managed + 'static>(cell: &Arc<C>) -> Arc<dyn Managed> {
    Arc::clone(cell) as Arc<dyn Managed>
}

impl Default for Lot {
    fn default() -> Lot {
        Lot::new()
    }
}

impl From<Option<Unpark>> for Unparked {
    fn from(outcome: Option<Unpark>) -> Unparked {
        match outcome {
            Some(Unpark::Claimed) => Unparked::Claimed,
            Some(Unpark::Marked) => Unparked::Marked,
            None => Unparked::Gone,
        }
    }
}

impl fmt::Debug for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lot of {}", self.task.label())
    }
}
