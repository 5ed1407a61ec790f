//! `ResourceCell`: the storage of an owned value and its finalizer, from `own` to the close.
//!
//! The slot decides who may use the value. The lock around the value makes this sound without unsafe
//! code, even if the argument for the slot were wrong. The lock is held only to take the value out or to
//! put it back: no user code runs under it.

use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use echown_fd::fd::{Direction, Identity, Number};
use echown_fd::kind;
use echown_report::{Event, Site};

use super::closing::{catch_panic, complete_close_reporting, drop_catching, run_finalizer};
use super::error::{Error, ErrorKind, Refused};
use super::handle::Owned;
use super::record::{Managed, Record, RecordedFd};
use super::registry::Registry;
use super::task::{self, Task};
use crate::sys::{close, fork};

type Finalizer<T> = Box<dyn FnOnce(T) -> io::Result<()> + Send>;

/// A value with its finalizer.
pub(crate) struct StoredValue<T> {
    pub(crate) value: T,
    /// `None`: only close the descriptor. Other values always have a finalizer.
    finalizer: Option<Finalizer<T>>,
    /// For descriptors: drops the value without closing its number.
    forget: fn(T),
    /// For descriptors: closes the number and returns the result of `close(2)`.
    close: fn(T) -> io::Result<()>,
}

impl<T> StoredValue<T> {
    pub(crate) fn generic(value: T, finalizer: Finalizer<T>) -> StoredValue<T> {
        StoredValue { value, finalizer: Some(finalizer), forget: drop, close: drop_value }
    }
}

fn drop_value<T>(value: T) -> io::Result<()> {
    drop(value);
    Ok(())
}

/// The cell of a whole resource.
pub(crate) struct ResourceCell<T: Send + 'static> {
    record: Record,
    stored: Mutex<Option<StoredValue<T>>>,
}

impl<T: Send + 'static> ResourceCell<T> {
    /// Makes the current task the owner of a new cell.
    pub(crate) fn own(
        registry: &Registry,
        kind: &'static str,
        descriptor: Option<RecordedFd>,
        stored: StoredValue<T>,
        site: Site,
    ) -> Result<Owned<T>, Refused<T>> {
        let me = task::current(registry);
        let record = Record::new(registry.clone(), kind, descriptor, &me, site);
        let cell = Arc::new(ResourceCell { record, stored: Mutex::new(Some(stored)) });
        if fork::in_forked_child() {
            // Not recorded: threads of the parent process may hold the locks of the tables.
            return Ok(Owned::new(cell));
        }
        let held: Arc<dyn Managed> = Arc::clone(&cell) as Arc<dyn Managed>;
        match registry.insert_fd(&held) {
            Ok(None) => {}
            Ok(Some(replaced)) => {
                let now = descriptor.map_or(Ok(Identity::Anonymous), |new| Ok(new.identity));
                replaced.record().mark_replaced(&me, site, &now);
            }
            Err(first) => {
                let error = registry.already_owned(&*first, &me, site);
                let value = cell.take().map(|stored| stored.value);
                return Err(Refused::new(error, value));
            }
        }
        let closed = {
            let mut account = me.account();
            let closed = Task::closed_reason(&account);
            if closed.is_none() {
                cell.record.set_position(account.push(Arc::clone(&held)));
            }
            closed
        };
        let Some(kind) = closed else {
            return Ok(Owned::new(cell));
        };
        // A cancelled or ending task can own nothing new: finalize at once.
        let error = cell.record.error(kind, cell.record.slot.load(), &me, site, None);
        if cell.record.slot.begin_close(me.id().get()).is_ok() {
            complete_close_reporting(&*cell, &me, Event::Finalized, site);
        }
        Err(Refused::new(error, None))
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

    fn finalize(&self, me: &Task, site: Site) -> Result<(), Error> {
        let record = &self.record;
        let replacement = record.replacement();
        let was_replaced = record.slot.load().is_replaced();
        // Before the close: afterwards the number may belong to another owner.
        record.registry.remove_fd(record);
        let Some(StoredValue { value, finalizer, forget, close }) = self.take() else {
            return Ok(());
        };
        if replacement.is_some() || was_replaced {
            let task = me.label();
            drop_catching(&task, finalizer);
            let _ = catch_panic(|| forget(value));
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
                let closed = close(value);
                // It is closed, whatever error the fault injector returns.
                match record.registry.fault_injector() {
                    Some(injector) if closed.is_ok() => {
                        Ok(close::close_result(injector.after_close())?)
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

impl Registry {
    /// Becomes the owner of a descriptor of a known kind.
    pub(crate) fn own_fd_as<T>(
        &self,
        value: T,
        kind: &'static str,
        finalizer: Option<Finalizer<T>>,
        site: Site,
    ) -> Result<Owned<T>, Refused<T>>
    where
        T: AsFd + Into<OwnedFd> + Send + 'static,
    {
        let number = Number::of(&value);
        let identity =
            if kind::is_socket(kind) { number.identity_as_socket() } else { number.identity() };
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => {
                let me = task::current(self);
                let detail = format!("fd {}: {error}", number.raw());
                let error = me.refusal_with(ErrorKind::NotOpen, detail, site);
                self.report_task_violation(&error);
                return Err(Refused::new(error, Some(value)));
            }
        };
        let descriptor = RecordedFd { number, identity, direction: Direction::Both };
        let forget = |value: T| {
            let fd: OwnedFd = value.into();
            // The number belongs to another owner now: leave it open.
            let _ = fd.into_raw_fd();
        };
        let close = |value: T| Ok(close::close(value.into())?);
        ResourceCell::own(
            self,
            kind,
            Some(descriptor),
            StoredValue { value, finalizer, forget, close },
            site,
        )
    }
}
