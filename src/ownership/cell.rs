//! `ResourceCell`: the storage of an owned value and its finalizer, from `own` to the close.
//!
//! The slot decides who may use the value. The lock around the value makes this sound without unsafe
//! code, even if the argument for the slot were wrong. The lock is held only to take the value out or to
//! put it back: no user code runs under it.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use echown_fd::fd::Identity;
use echown_report::Site;

use super::closing::{catch_panic, drop_catching, run_finalizer};
use super::error::Error;
use super::fd_table;
use super::record::{Labelled, Managed, Record};
use crate::faults::Fault;
use crate::sys::{close, fork};

pub(super) type Finalizer<T> = Box<dyn FnOnce(T) -> io::Result<()> + Send>;

/// A value with its finalizer.
pub(crate) struct StoredValue<T> {
    pub(crate) value: T,
    /// `None`: only close the descriptor. Other values always have a finalizer.
    pub(super) finalizer: Option<Finalizer<T>>,
    /// For descriptors.
    pub(super) into_fd: Option<fn(T) -> OwnedFd>,
}

impl<T> StoredValue<T> {
    pub(crate) fn generic(value: T, finalizer: Finalizer<T>) -> StoredValue<T> {
        StoredValue { value, finalizer: Some(finalizer), into_fd: None }
    }
}

/// Drops a value without closing its number, which belongs to another owner now.
fn forget<T>(value: T, into_fd: Option<fn(T) -> OwnedFd>) {
    match into_fd {
        Some(into_fd) => drop(into_fd(value).into_raw_fd()),
        None => drop(value),
    }
}

/// Closes a descriptor and returns the result of `close(2)`.
fn close_fd<T>(value: T, into_fd: Option<fn(T) -> OwnedFd>) -> io::Result<()> {
    match into_fd {
        Some(into_fd) => Ok(close::close(into_fd(value))?),
        None => {
            drop(value);
            Ok(())
        }
    }
}

/// The cell of a whole resource.
pub(crate) struct ResourceCell<T: Send + 'static> {
    record: Record,
    stored: Mutex<Option<StoredValue<T>>>,
}

impl<T: Send + 'static> ResourceCell<T> {
    pub(super) fn new(record: Record, stored: StoredValue<T>) -> ResourceCell<T> {
        ResourceCell { record, stored: Mutex::new(Some(stored)) }
    }

    /// Takes the value and its finalizer out: for the thread that won the close, or runs `with`.
    pub(crate) fn take(&self) -> Option<StoredValue<T>> {
        self.stored()?.take()
    }

    /// Holds the value's lock, for tests.
    #[cfg(all(test, not(echown_loom)))]
    pub(crate) fn lock_value(&self) -> impl Sized {
        self.stored()
    }

    /// Puts them back after `with`.
    pub(crate) fn put_back(&self, stored: Option<StoredValue<T>>) {
        if let Some(mut place) = self.stored() {
            *place = stored;
        }
    }

    /// The locked value. `None` in a forked child if another thread held the lock at the moment of the
    /// fork: the value may be half written, and the lock is never released.
    fn stored(&self) -> Option<MutexGuard<'_, Option<StoredValue<T>>>> {
        if fork::in_forked_child() {
            return self.stored.try_lock().ok();
        }
        Some(self.stored.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Send + 'static> Managed for ResourceCell<T> {
    fn record(&self) -> &Record {
        &self.record
    }

    fn finalize(&self, me: &dyn Labelled, site: Site) -> Result<(), Error> {
        let record = &self.record;
        let replacement = record.replacement();
        let was_replaced = record.slot.load().is_replaced();
        // Before the close: afterwards the number may belong to another owner.
        fd_table::remove(record);
        let Some(StoredValue { value, finalizer, into_fd }) = self.take() else {
            return Ok(());
        };
        if replacement.is_some() || was_replaced {
            let task = me.label();
            drop_catching(&task, finalizer);
            let _ = catch_panic(|| forget(value, into_fd));
            let now = replacement.unwrap_or_else(|| {
                record
                    .descriptor
                    .map_or(Ok(Identity::Anonymous), |descriptor| descriptor.number.identity())
            });
            return Err(record.mark_replaced(me, site, &now));
        }
        // The value's own destructor is user code, as a finalizer is.
        let finalized = run_finalizer(|| match finalizer {
            Some(finalizer) => finalizer(value),
            None => {
                let closed = close_fd(value, into_fd);
                // It is closed, whatever error the fault injector returns.
                match record.registry.fault_injector() {
                    Some(injector) if closed.is_ok() => {
                        Ok(close::close_result(injector.strike(Fault::Close))?)
                    }
                    _ => closed,
                }
            }
        });
        finalized.map_err(|(kind, detail)| {
            record.error(kind, record.slot.load(), me, site, Some(detail))
        })
    }

    fn drop_in_fork(&self) {
        if let Some(stored) = self.take() {
            drop(stored.value);
        }
    }
}

#[cfg(all(test, not(echown_loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// An `Arc` of it, with its two counts and the allocator's word, fits into 352 bytes. The next size
    /// class of the allocator is 16 bytes larger.
    #[test]
    fn a_cell_stays_within_its_allocation_size() {
        let counts = 2 * size_of::<AtomicUsize>();
        assert!(counts + size_of::<ResourceCell<u64>>() <= 344);
        assert!(counts + size_of::<ResourceCell<OwnedFd>>() <= 344);
    }
}
