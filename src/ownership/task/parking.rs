//! Moves between a task's account and a lot's: park and unpark.
//!
//! Between two accounts each move is one step under the locks of both, like every other move. A task that
//! parks in its own lot changes the slot only: the resource stays on its account, and no lock is taken.
//! `docs/proof.md` says why that is enough.

use std::sync::Arc;

use echown_report::{Event, Site};

use super::transfer::{PendingRequest, lock_in_order, move_entry};
use super::{Managed, Task};
use crate::ownership::error::{Error, ErrorKind};
use crate::ownership::slot::{SlotState, Unpark};

/// Moves a resource from the current task to the account of a lot's task, where it is parked. Returns
/// false if it became ready meanwhile: then it stays with the current task.
///
/// # Errors
/// The current task cannot use it, or the lot's task accepts nothing more.
pub(crate) fn park(
    me: &Arc<Task>,
    lot: &Arc<Task>,
    held: &Arc<dyn Managed>,
    site: Site,
) -> Result<bool, Error> {
    let record = held.record();
    if me.id == lot.id {
        return park_in_own_lot(me, &**held, site);
    }
    let outcome = {
        let (mut to, mut from) = lock_in_order(lot, me);
        if !to.is_open() {
            None
        } else {
            Some(record.slot.park(me.id.get(), lot.id.get()).map(|is_parked| {
                is_parked.then(|| {
                    move_entry(held, &mut from, &mut to);
                    PendingRequest::on_arrival(held, lot, &to)
                })
            }))
        }
    };
    match outcome {
        Some(Ok(Some(pending))) => {
            record.record_parking(Event::Parked, me, lot, site);
            pending.carry_out(held, lot);
            Ok(true)
        }
        Some(Ok(None)) => Ok(false),
        Some(Err(word)) => Err(record.refusal(word, me, site)),
        None => {
            let word = record.slot.load();
            if word.owner() != me.id.get() {
                return Err(record.refusal(word, me, site));
            }
            let detail = Some(format!("the lot is that of {}", lot.label()));
            Err(record.error(ErrorKind::ParentExiting, word, me, site, detail))
        }
    }
}

/// [`park`] for the lot's own task.
pub(crate) fn park_in_own_lot(
    me: &Arc<Task>,
    held: &dyn Managed,
    site: Site,
) -> Result<bool, Error> {
    let record = held.record();
    let id = me.id.get();
    let is_parked = record.slot.park(id, id).map_err(|word| record.refusal(word, me, site))?;
    if is_parked {
        record.record_parking(Event::Parked, me, me, site);
    }
    Ok(is_parked)
}

/// Claims a parked resource for the current task, or marks a held one as ready. `None`: it is gone.
///
/// # Errors
/// It is parked, and the current task accepts nothing more.
pub(crate) fn unpark(
    me: &Arc<Task>,
    lot: &Arc<Task>,
    held: &Arc<dyn Managed>,
    site: Site,
) -> Result<Option<Unpark>, Error> {
    let record = held.record();
    if me.id == lot.id {
        return unpark_in_own_lot(me, &**held, site);
    }
    let (mut from, mut to) = lock_in_order(lot, me);
    if let Some(kind) = Task::closed_reason(&to) {
        drop((from, to));
        return match record.slot.mark_ready() {
            Ok(()) => Ok(Some(Unpark::Marked)),
            Err(word) if word.state() != SlotState::Parked => Ok(None),
            Err(word) => Err(record.error(kind, word, me, site, None)),
        };
    }
    let outcome = record.slot.unpark(lot.id.get(), me.id.get());
    if outcome == Ok(Unpark::Claimed) {
        move_entry(held, &mut from, &mut to);
        drop((from, to));
        record.record_parking(Event::Unparked, lot, me, site);
    }
    Ok(outcome.ok())
}

/// [`unpark`] for the lot's own task. A cancelled task's parked resources have the flag, so that it claims
/// none of them.
pub(crate) fn unpark_in_own_lot(
    me: &Arc<Task>,
    held: &dyn Managed,
    site: Site,
) -> Result<Option<Unpark>, Error> {
    let record = held.record();
    let id = me.id.get();
    match record.slot.unpark(id, id) {
        Ok(Unpark::Claimed) => {
            record.record_parking(Event::Unparked, me, me, site);
            Ok(Some(Unpark::Claimed))
        }
        Ok(Unpark::Marked) => Ok(Some(Unpark::Marked)),
        Err(word) if word.state() == SlotState::Parked && word.owner() == id => {
            Err(record.refusal(word, me, site))
        }
        Err(_) => Ok(None),
    }
}
