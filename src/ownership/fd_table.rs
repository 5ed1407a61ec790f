//! The table of owned descriptors by number: in each registry a number has one owner.
//!
//! Numbers belong to the process, so there is one table for all registries.

use std::collections::hash_map::Entry;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use echown_report::ResourceId;
use once_cell::sync::Lazy;

use super::int_map::{self, IntMap};
use super::record::{Managed, Record, RecordedFd};
use super::registry::Registry;
use super::slot::SlotState;
use crate::sys::fork;

/// A registry's id and a number.
type Key = (u64, RawFd);

static TABLE: Lazy<Mutex<IntMap<Key, Arc<dyn Managed>>>> = Lazy::new(Mutex::default);

/// Records a descriptor's number. Returns the previous resource of the number if that is still open
/// and has another identity: its descriptor was replaced.
///
/// # Errors
/// The resource that the number already belongs to.
pub(super) fn insert(
    held: &Arc<dyn Managed>,
) -> Result<Option<Arc<dyn Managed>>, Arc<dyn Managed>> {
    let Some(descriptor) = held.record().descriptor else {
        return Ok(None);
    };
    let mut table = lock();
    let mut entered = match table.entry(key(held.record(), descriptor)) {
        Entry::Vacant(free) => {
            free.insert(Arc::clone(held));
            return Ok(None);
        }
        Entry::Occupied(entered) => entered,
    };
    let old = entered.get().record();
    let word = old.slot.load();
    if word.state() == SlotState::Released || word.is_replaced() {
        entered.insert(Arc::clone(held));
        return Ok(None);
    }
    let theirs = old.descriptor.map(|descriptor| descriptor.identity);
    if theirs.is_none_or(|theirs| !theirs.differs_from(descriptor.identity)) {
        return Err(Arc::clone(entered.get()));
    }
    Ok(Some(entered.insert(Arc::clone(held))))
}

/// Removes a number, before its descriptor is closed: afterwards it may belong to another owner.
pub(super) fn remove(record: &Record) {
    let Some(descriptor) = record.descriptor else {
        return;
    };
    let mut table = lock();
    let key = key(record, descriptor);
    if table.get(&key).is_some_and(|held| held.record().id == record.id) {
        int_map::remove(&mut table, &key);
    }
}

/// The open resource with this id, if its number is in the table.
pub(super) fn find(registry: &Registry, number: RawFd, id: ResourceId) -> Option<Arc<dyn Managed>> {
    if fork::in_forked_child() {
        return None;
    }
    lock().get(&(registry.id(), number)).filter(|held| held.record().id == id).cloned()
}

/// How many descriptors of this registry are in the table.
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
pub(super) fn count(registry: &Registry) -> usize {
    if fork::in_forked_child() {
        return 0;
    }
    let is_open =
        |held: &&Arc<dyn Managed>| held.record().slot.load().state() != SlotState::Released;
    let table = lock();
    let of_registry = table.iter().filter(|((id, _), _)| *id == registry.id());
    of_registry.map(|(_, held)| held).filter(is_open).count()
}

fn key(record: &Record, descriptor: RecordedFd) -> Key {
    (record.registry.id(), descriptor.number.raw())
}

fn lock() -> MutexGuard<'static, IntMap<Key, Arc<dyn Managed>>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds the lock of the table, for tests.
#[cfg(all(test, not(echown_loom)))]
pub(crate) fn hold() -> impl Sized {
    lock()
}
