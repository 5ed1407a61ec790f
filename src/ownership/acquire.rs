//! Becoming the owner: `own` and its variants.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use echown_fd::fd::{Direction, Identity, Number};
use echown_fd::kind;
use echown_report::{Event, Site};

use super::cell::{Finalizer, ResourceCell, StoredValue};
use super::closing::complete_close_reporting;
use super::error::{Error, ErrorKind, Refused};
use super::fd_table;
use super::handle::Owned;
use super::record::{Managed, Record, RecordedFd};
use super::registry::Registry;
use super::task::{self, Task};
use crate::sys::fork;

impl Registry {
    /// Makes the current task the owner of a value, which is dropped when it is released.
    ///
    /// # Errors
    /// The current task was cancelled or is exiting. The value was dropped at once.
    #[track_caller]
    pub fn own<T: Send + 'static>(&self, value: T) -> Result<Owned<T>, Refused<T>> {
        self.own_with(value, |value| {
            drop(value);
            Ok(())
        })
    }

    /// Makes the current task the owner of a value with this finalizer. The finalizer runs exactly once,
    /// when the value is released or its owner ends without having released it.
    ///
    /// # Errors
    /// The current task was cancelled or is exiting. The finalizer ran at once.
    #[track_caller]
    pub fn own_with<T: Send + 'static>(
        &self,
        value: T,
        finalizer: impl FnOnce(T) -> io::Result<()> + Send + 'static,
    ) -> Result<Owned<T>, Refused<T>> {
        let stored = StoredValue::generic(value, Box::new(finalizer));
        ResourceCell::own(self, short_type_name::<T>(), None, stored, Site::here())
    }

    /// Makes the current task the owner of a descriptor. It is closed by its identity when it is
    /// released: if the number refers to another open file by then, that file is not touched.
    ///
    /// # Errors
    /// `AlreadyOwned`: this registry already contains the number; the value is returned unclosed.
    /// `Cancelled`, `TaskExiting`: it was closed at once. `NotOpen`: the number is not open.
    #[track_caller]
    pub fn own_fd<T>(&self, value: T) -> Result<Owned<T>, Refused<T>>
    where
        T: AsFd + Into<OwnedFd> + Send + 'static,
    {
        let kind = echown_fd::fd::Number::of(&value).kind();
        self.own_fd_as(value, kind, None, Site::here())
    }

    /// [`own_fd`](Registry::own_fd) with a finalizer, which gets the descriptor to close it.
    ///
    /// # Errors
    /// See [`own_fd`](Registry::own_fd).
    #[track_caller]
    pub fn own_fd_with<T>(
        &self,
        value: T,
        finalizer: impl FnOnce(T) -> io::Result<()> + Send + 'static,
    ) -> Result<Owned<T>, Refused<T>>
    where
        T: AsFd + Into<OwnedFd> + Send + 'static,
    {
        let kind = echown_fd::fd::Number::of(&value).kind();
        self.own_fd_as(value, kind, Some(Box::new(finalizer)), Site::here())
    }

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
        ResourceCell::own(
            self,
            kind,
            Some(descriptor),
            StoredValue { value, finalizer, into_fd: Some(T::into) },
            site,
        )
    }
}

impl<T: Send + 'static> ResourceCell<T> {
    /// Makes the current task the owner of a new cell.
    pub(super) fn own(
        registry: &Registry,
        kind: &'static str,
        descriptor: Option<RecordedFd>,
        stored: StoredValue<T>,
        site: Site,
    ) -> Result<Owned<T>, Refused<T>> {
        let me = task::current(registry);
        let record = Record::new(registry.clone(), kind, descriptor, &me, site);
        let cell = Arc::new(ResourceCell::new(record, stored));
        if fork::in_forked_child() {
            // Not recorded: threads of the parent process may hold the locks of the tables.
            return Ok(Owned::new(cell));
        }
        let held: Arc<dyn Managed> = Arc::clone(&cell) as Arc<dyn Managed>;
        match fd_table::insert(&held) {
            Ok(None) => {}
            Ok(Some(replaced)) => {
                let now = descriptor.map_or(Ok(Identity::Anonymous), |new| Ok(new.identity));
                replaced.record().mark_replaced(&me, site, &now);
            }
            Err(first) => {
                let error = already_owned(&*first, &me, site);
                let value = cell.take().map(|stored| stored.value);
                return Err(Refused::new(error, value));
            }
        }
        let closed = {
            let mut account = me.account();
            let closed = Task::closed_reason(&account);
            if closed.is_none() {
                cell.record().set_position(account.push(Arc::clone(&held)));
            }
            closed
        };
        // An observer that begins now finds it either on the account or in its queue.
        cell.record().publish_acquired(&me);
        let Some(kind) = closed else {
            return Ok(Owned::new(cell));
        };
        // A cancelled or ending task can own nothing new: finalize at once.
        let error = cell.record().error(kind, cell.record().slot.load(), &me, site, None);
        if cell.record().slot.begin_close(me.id().get()).is_ok() {
            complete_close_reporting(&*cell, &me, Event::Finalized, site);
        }
        Err(Refused::new(error, None))
    }
}

/// The error of a second `own` of a number that is recorded and was not replaced.
fn already_owned(first: &dyn Managed, me: &Task, site: Site) -> Error {
    let record = first.record();
    let word = record.slot.load();
    let error = record.error(ErrorKind::AlreadyOwned, word, me, site, None);
    record.registry.report_violation(&error, record);
    error
}

/// The last part of a type's path. Type parameters are unchanged.
fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let head = name.find('<').unwrap_or(name.len());
    // By bytes: a text search for `::` would take a third of the time of `own`.
    match name.as_bytes()[..head].iter().rposition(|byte| *byte == b':') {
        Some(colon) => &name[colon + 1..],
        None => name,
    }
}
