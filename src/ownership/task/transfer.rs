//! Moves between accounts: give, transfer, claim, and passing offers on; and the removal at a close.
//!
//! Each move changes the slot and both accounts under the locks of both, which are taken in ascending
//! order of task ids. No user code runs under them.

use std::sync::Arc;

use echown_report::{Event, Site};

use super::{Account, Managed, Task, find, find_current_first};
use crate::ownership::account::Position;
use crate::ownership::error::{Error, ErrorKind};
use crate::ownership::record::Record;
use crate::ownership::slot::{PinGuard, PinPurpose, SlotState, Word};
use crate::sys::fork;

/// Moves resources from a parent to a child that does not run yet: all of them, or none.
///
/// # Errors
/// The parent does not own one of them, or the list contains one twice.
pub(crate) fn give(
    parent: &Arc<Task>,
    child: &Arc<Task>,
    give: &[Arc<dyn Managed>],
    event: Event,
    site: Site,
) -> Result<(), Error> {
    if fork::in_forked_child() {
        return Ok(());
    }
    let (mine, theirs) = (parent.id.get(), child.id.get());
    let failed = {
        // Ascending ids: a child is younger than its parent.
        let (mut from, mut to) = lock_both(parent, child);
        let failed = give.iter().enumerate().find_map(|(index, held)| {
            let word = held.record().slot.hand_over(mine, theirs).err()?;
            Some((index, held, word))
        });
        // The entries move only after every slot has changed, so that a failure keeps the account's order.
        for held in &give[..failed.map_or(give.len(), |(index, ..)| index)] {
            if failed.is_some() {
                let undone = held.record().slot.hand_back(theirs, mine);
                debug_assert!(undone.is_ok(), "no other task has the child: {undone:?}");
            } else {
                move_entry(held, &mut from, &mut to);
            }
        }
        failed
    };
    if let Some((_, held, word)) = failed {
        let record = held.record();
        if word.owner() == child.id.get() {
            let error = record.error(ErrorKind::DuplicateGive, word, parent, site, None);
            record.registry.report_violation(&error, record);
            return Err(error);
        }
        return Err(record.refusal(word, parent, site));
    }
    for held in give {
        // The time of the child's creation is used: no second clock call.
        held.record().record_step_at(|| child.created_at(), event, Some(parent), Some(child), site);
    }
    Ok(())
}

/// Returns to the parent everything that was given to a child that cannot be started.
///
/// If the parent was cancelled or drained meanwhile, the returned resources, which were on another
/// account at the time, are cancelled or drained here. Resources that were dropped elsewhere meanwhile
/// are not returned.
pub(crate) fn return_all(
    child: &Arc<Task>,
    parent: &Arc<Task>,
    given: &[Arc<dyn Managed>],
    site: Site,
) {
    if fork::in_forked_child() {
        return;
    }
    let mut returned = Vec::with_capacity(given.len());
    {
        let (mut to, mut from) = lock_both(parent, child);
        for held in given {
            if held.record().slot.hand_back(child.id.get(), parent.id.get()).is_ok() {
                move_entry(held, &mut from, &mut to);
                returned.push((held, PendingRequest::on_arrival(held, parent, &to)));
            }
        }
    }
    for (held, pending) in returned {
        held.record().record_step(Event::Returned, Some(child), Some(parent), site);
        pending.carry_out(held, parent);
    }
}

/// A request that the receiver of a resource got before the resource arrived, and that its canceller or
/// drainer would otherwise have applied to it.
pub(super) enum PendingRequest<'a> {
    Nothing,
    Cancel(PinGuard<'a>),
    Drain(PinGuard<'a>),
}

impl<'a> PendingRequest<'a> {
    /// Called under the lock of the receiver's account, after the entry was added.
    pub(super) fn on_arrival(
        held: &'a Arc<dyn Managed>,
        receiver: &Task,
        account: &Account<Arc<dyn Managed>>,
    ) -> PendingRequest<'a> {
        let pin = |purpose| held.record().slot.pin_guard(receiver.id.get(), purpose);
        match () {
            () if account.cancelled => {
                pin(PinPurpose::Cancel).map_or(PendingRequest::Nothing, PendingRequest::Cancel)
            }
            () if account.draining => {
                pin(PinPurpose::Inspect).map_or(PendingRequest::Nothing, PendingRequest::Drain)
            }
            () => PendingRequest::Nothing,
        }
    }

    /// Called without a lock: this makes a system call.
    pub(super) fn carry_out(self, held: &Arc<dyn Managed>, receiver: &Task) {
        match self {
            PendingRequest::Nothing => {}
            PendingRequest::Cancel(pin) => {
                held.record().publish_cancelled(receiver);
                held.record().shutdown();
                drop(pin);
            }
            PendingRequest::Drain(pin) => {
                held.record().shutdown_read();
                drop(pin);
            }
        }
    }
}

/// Moves a resource from a child to its parent.
///
/// # Errors
/// The child does not own it or is a root, or the parent was cancelled or is exiting.
pub(crate) fn transfer(me: &Arc<Task>, held: &Arc<dyn Managed>, site: Site) -> Result<(), Error> {
    let record = held.record();
    let Some(parent) = me.parent() else {
        let word = record.slot.load();
        if word.owner() != me.id.get() {
            return Err(record.refusal(word, me, site));
        }
        let error = record.error(ErrorKind::NoParent, word, me, site, None);
        record.registry.report_violation(&error, record);
        return Err(error);
    };
    let outcome = {
        let (mut to, mut from) = lock_both(&parent, me);
        if to.is_open() {
            match record.slot.hand_over(me.id.get(), parent.id.get()) {
                Ok(()) => {
                    move_entry(held, &mut from, &mut to);
                    Ok(PendingRequest::on_arrival(held, &parent, &to))
                }
                Err(word) => Err(NotMoved::Refused(word)),
            }
        } else if to.cancelled {
            Err(NotMoved::Closed(ErrorKind::Cancelled))
        } else {
            Err(NotMoved::Closed(ErrorKind::ParentExiting))
        }
    };
    match outcome {
        Ok(pending) => {
            record.record_step(Event::Transferred, Some(me), Some(&parent), site);
            pending.carry_out(held, &parent);
            Ok(())
        }
        Err(NotMoved::Refused(word)) => Err(record.refusal(word, me, site)),
        Err(NotMoved::Closed(kind)) => {
            let word = record.slot.load();
            if word.owner() != me.id.get() {
                return Err(record.refusal(word, me, site));
            }
            Err(record.error(kind, word, me, site, None))
        }
    }
}

/// Why a transfer moved nothing.
enum NotMoved {
    /// The slot rejected the move.
    Refused(Word),
    /// The parent accepts nothing more.
    Closed(ErrorKind),
}

/// Moves an offer from the account it is on to the current task's.
///
/// # Errors
/// The offer was finalized with the root, or the current task accepts nothing more.
pub(crate) fn claim(me: &Arc<Task>, held: &Arc<dyn Managed>, site: Site) -> Result<(), Error> {
    let record = held.record();
    loop {
        let word = record.slot.load();
        if word.state() != SlotState::Offered {
            return Err(record.refusal(word, me, site));
        }
        let account = word.owner();
        let offerer = if account == me.id.get() {
            let mut mine = me.account();
            if let Some(kind) = Task::closed_reason(&mine) {
                drop(mine);
                return Err(record.error(kind, word, me, site, None));
            }
            if record.slot.claim(account, account).is_err() {
                continue;
            }
            // It counts as acquired now: last in, first out.
            if let Some(entry) = mine.remove(record.position()) {
                record.set_position(mine.push(entry));
            }
            Arc::clone(me)
        } else {
            let Some(other) = find(account) else {
                assert_moved_on(record, word);
                continue;
            };
            let (mut from, mut to) = lock_in_order(&other, me);
            if let Some(kind) = Task::closed_reason(&to) {
                drop((from, to));
                return Err(record.error(kind, word, me, site, None));
            }
            if record.slot.claim(account, me.id.get()).is_err() {
                continue;
            }
            move_entry(held, &mut from, &mut to);
            drop((from, to));
            other
        };
        record.record_step(Event::Claimed, Some(&offerer), Some(me), site);
        return Ok(());
    }
}

/// Moves an exiting task's unclaimed offers to the nearest ancestor that still accepts entries. Without
/// such an ancestor they stay on the account.
pub(crate) fn pass_offers_on(task: &Arc<Task>, site: Site) {
    if task.account().entries().next().is_none() {
        // The account is closed: no entry can be added after this check.
        return;
    }
    let mut next = task.parent();
    while let Some(ancestor) = next {
        let mut passed = Vec::new();
        let done = {
            let (mut to, mut from) = lock_both(&ancestor, task);
            if to.is_open() {
                let mut before = Position::MAX;
                while let Some(held) = from.take_last(&mut before, |held| {
                    let slot = &held.record().slot;
                    slot.pass_offer(task.id.get(), ancestor.id.get()).is_ok()
                }) {
                    passed.push(held);
                }
                // Oldest first, so that the ancestor finalizes the latest first, too.
                passed.reverse();
                for held in &passed {
                    held.record().set_position(to.push(Arc::clone(held)));
                }
                true
            } else {
                false
            }
        };
        for held in passed {
            held.record().record_step(Event::Inherited, Some(task), Some(&ancestor), site);
        }
        if done {
            return;
        }
        next = ancestor.parent();
    }
}

pub(super) type AccountGuard<'a> = crate::sync::MutexGuard<'a, Account<Arc<dyn Managed>>>;

/// Locks two accounts. `elder` has the smaller id.
fn lock_both<'a>(elder: &'a Task, younger: &'a Task) -> (AccountGuard<'a>, AccountGuard<'a>) {
    debug_assert!(elder.id < younger.id, "locks are taken in ascending order of ids");
    (elder.account(), younger.account())
}

/// Locks two different accounts in ascending order of ids, and returns them in the order of the
/// arguments.
pub(super) fn lock_in_order<'a>(a: &'a Task, b: &'a Task) -> (AccountGuard<'a>, AccountGuard<'a>) {
    if a.id < b.id {
        lock_both(a, b)
    } else {
        let (b, a) = lock_both(b, a);
        (a, b)
    }
}

pub(super) fn move_entry(
    held: &Arc<dyn Managed>,
    from: &mut Account<Arc<dyn Managed>>,
    to: &mut Account<Arc<dyn Managed>>,
) {
    let record = held.record();
    if let Some(entry) = from.remove(record.position()) {
        record.set_position(to.push(entry));
    }
}

/// Begins a close, for the owner's thread or for the exclusive holder of a handle or an offer: wins the
/// right to finalize and removes the resource from its account. Returns the word before.
///
/// # Errors
/// The word of a resource that is not in one of the `wanted` states, which are among those that can be
/// closed: held, offered, parked.
pub(crate) fn begin_close(held: &Arc<dyn Managed>, wanted: &[SlotState]) -> Result<Word, Word> {
    let record = held.record();
    loop {
        let word = record.slot.load();
        if !wanted.contains(&word.state()) {
            return Err(word);
        }
        let Some(owner) = find_current_first(word.owner()) else {
            assert_moved_on(record, word);
            continue;
        };
        let mut account = owner.account();
        match record.slot.begin_close(word.owner()) {
            Ok(before) => {
                account.remove(record.position());
                return Ok(before);
            }
            Err(_) => continue,
        }
    }
}

/// Asserts that the word has changed, after its owner could not be found. Such an owner has just ended,
/// and its account was emptied before. If the word is unchanged, an account has lost an entry, and the
/// caller would retry indefinitely.
#[cold]
fn assert_moved_on(record: &Record, word: Word) {
    let now = record.slot.load();
    assert!(now != word, "{} is owned by a task that no longer exists: {word:?}", record.label());
}
