//! Handles: the references to a resource that user code holds.
//!
//! A handle never contains the value. The value stays in the registry's cell, behind the slot. A handle that
//! outlives its resource (in a cycle, a global, a forgotten box) therefore returns `UseAfterRelease`, and
//! can never reach the value, or the number, again.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use echown_fd::fd::Number;
use echown_report::{Event, ResourceData, Site};

use super::access::wait_for_canceller;
use super::cell::{ResourceCell, StoredValue};
use super::closing::{close_in_fork, close_with, complete_close, complete_close_reporting};
use super::error::{Error, ErrorKind, Refused};
use super::fd_table;
use super::record::{Managed, Record};
use super::slot::SlotState;
use super::task::Task;
use super::{snapshot, task};
use crate::sys::fork;

/// The operations that every handle has, of a whole resource or of a half.
///
/// Exactly one handle exists per cell, so dropping it ends the resource unless ownership was given up
/// before.
pub(crate) struct Handle<C: Managed + 'static>(Arc<C>);

impl<C: Managed + 'static> Handle<C> {
    pub(crate) fn new(cell: Arc<C>) -> Handle<C> {
        Handle(cell)
    }

    pub(crate) fn cell(&self) -> &Arc<C> {
        &self.0
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        self.0.record()
    }

    pub(crate) fn held(&self) -> Arc<dyn Managed> {
        Arc::clone(&self.0) as Arc<dyn Managed>
    }

    pub(crate) fn release(&self, site: Site) -> Result<(), Error> {
        self.release_by(site, |held, me| complete_close(held, me, Event::Released, site))
    }

    /// Releases it where no caller can handle an error of the finalizer: that is reported, as in a drop.
    ///
    /// # Errors
    /// The current task is not the owner.
    #[cfg(target_os = "linux")]
    pub(crate) fn release_reporting(&self, site: Site) -> Result<(), Error> {
        self.release_by(site, |held, me| {
            complete_close_reporting(held, me, Event::Released, site);
            Ok(())
        })
    }

    fn release_by(
        &self,
        site: Site,
        complete: impl FnOnce(&dyn Managed, &Arc<Task>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let record = self.record();
        // In a forked child a second release fails, as in the parent process.
        if fork::in_forked_child() && close_in_fork(record, || self.0.drop_in_fork()) {
            return Ok(());
        }
        let me = task::current(&record.registry);
        let word = record.slot.load();
        let held: Arc<dyn Managed> = self.held();
        if word.state() != SlotState::Held || word.owner() != me.id().get() {
            return Err(record.release_refusal(word, &me, site));
        }
        task::begin_close(&held, &[SlotState::Held])
            .map_err(|word| record.release_refusal(word, &me, site))?;
        complete(&*held, &me)
    }

    pub(crate) fn transfer(&self, site: Site) -> Result<(), Error> {
        if fork::in_forked_child() {
            return Ok(());
        }
        let me = task::current(&self.record().registry);
        task::transfer(&me, &self.held(), site)
    }

    pub(crate) fn offer(&self, site: Site) -> Result<(), Error> {
        let record = self.record();
        let me = task::current(&record.registry);
        record
            .slot
            .offer(record.acting_owner(&me))
            .map_err(|word| record.refusal(word, &me, site))?;
        record.record_step(Event::Offered, Some(&me), None, site);
        Ok(())
    }

    pub(crate) fn claim(&self, site: Site) -> Result<(), Error> {
        let record = self.record();
        let me = task::current(&record.registry);
        if fork::in_forked_child() {
            let owner = record.acting_owner(&me);
            return record.slot.claim(owner, owner).map_err(|word| record.refusal(word, &me, site));
        }
        task::claim(&me, &self.held(), site)
    }

    /// Makes a system call with the stored number. Checks the owner before the call and the cancellation
    /// after it. Repeats a call that a signal interrupted: a call with a timeout must pass the
    /// remaining time.
    #[inline]
    #[track_caller]
    pub(crate) fn call<R>(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        let record = self.record();
        let Some(descriptor) = record.descriptor else {
            unreachable!("system calls are made on descriptors only")
        };
        loop {
            record.check_access()?;
            let result = descriptor.number.lend(&mut call);
            if record.slot.is_cancelled() {
                return Err(self.was_cancelled(Site::here()).into());
            }
            match result {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// [`call`](Handle::call) with the number itself, for functions of `sys`.
    #[track_caller]
    pub(crate) fn call_number<R>(&self, call: impl Fn(Number) -> io::Result<R>) -> io::Result<R> {
        let mut result = None;
        self.call(|fd| {
            result = Some(call(Number::of(&fd)));
            Ok(())
        })?;
        result.unwrap_or_else(|| unreachable!("the call was made"))
    }

    #[cold]
    fn was_cancelled(&self, site: Site) -> Error {
        let record = self.record();
        let me = task::current(&record.registry);
        wait_for_canceller(&me);
        record.error(ErrorKind::Cancelled, record.slot.load(), &me, site, None)
    }
}

impl<C: Managed + 'static> Drop for Handle<C> {
    fn drop(&mut self) {
        let record = self.record();
        if fork::in_forked_child() {
            // If the handle was consumed (offered, split), the offer or the halves drop the value.
            if matches!(record.slot.load().state(), SlotState::Held | SlotState::Parked) {
                self.0.drop_in_fork();
            }
            return;
        }
        let held: Arc<dyn Managed> = self.held();
        // Any other state: the handle was consumed (disowned, offered, split, rejoined), or its resource was
        // finalized. A parked resource keeps its handle, and without it no task could unpark it.
        let wanted = &[SlotState::Held, SlotState::Parked];
        let Ok(before) = task::begin_close(&held, wanted) else {
            return;
        };
        let me = task::current(&record.registry);
        let site = me.spawn_site();
        let is_mine = before.owner() == me.id().get();
        if !is_mine && !me.discards_to(before.owner()) {
            let error = record.error(ErrorKind::DroppedByNonOwner, before, &me, site, None);
            record.registry.report_violation(&error, record);
        }
        complete_close_reporting(&*held, &me, Event::Dropped, site);
    }
}

impl<C: Managed + 'static> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record();
        let word = record.slot.load();
        write!(f, "{}, {:?}", record.label(), word.state())?;
        match task::find(word.owner()) {
            Some(owner) => write!(f, " by {}", owner.label()),
            None => Ok(()),
        }
    }
}

/// Defines the public methods of a type that wraps a [`Handle`].
macro_rules! handle_methods {
    ($({ $($generics:tt)* })? $type:ty) => {
        impl $(<$($generics)*>)? $type {
            /// The resource's id, which is never reused.
            #[must_use]
            pub fn id(&self) -> $crate::ownership::ResourceId {
                self.handle().record().id
            }

            /// A reference to the resource, to give it to a child or to describe it.
            #[must_use]
            pub fn resource(&self) -> $crate::ownership::Resource {
                $crate::ownership::Resource::new(self.handle().held())
            }

            /// Checks that the current task is the owner.
            ///
            /// # Errors
            /// `NotOwner`, `UseAfterRelease`, `Cancelled`, `InUse`, `FdReplaced`: why the current task cannot
            /// use it now.
            #[inline]
            #[track_caller]
            pub fn check(&self) -> Result<(), $crate::ownership::Error> {
                self.handle().record().check_access()
            }

            /// Gives up the resource and finalizes it, once: a descriptor is closed.
            ///
            /// From then on every remaining handle returns `UseAfterRelease`, or `DoubleRelease` for
            /// another release; both name this place.
            ///
            /// # Errors
            /// The current task is not the owner, or the finalizer failed. A finalizer never runs
            /// a second time.
            #[track_caller]
            pub fn release(&self) -> Result<(), $crate::ownership::Error> {
                self.handle().release($crate::ownership::Site::here())
            }

            /// Transfers the resource to the current task's parent. The handle stays valid, for the
            /// parent; send it there in the task's return value or through a channel.
            ///
            /// # Errors
            /// The current task cannot use the resource (`NotOwner` and others); `NoParent` in a
            /// root task; `ParentExiting`: the parent is exiting, and the resource stays with the
            /// current task.
            #[track_caller]
            pub fn transfer(&self) -> Result<(), $crate::ownership::Error> {
                self.handle().transfer($crate::ownership::Site::here())
            }

            /// Gives up the resource for the task that claims it. Until then it stays on this
            /// task's account. If no task claims it, it is finalized and reported.
            ///
            /// # Errors
            /// The current task cannot use the resource (`NotOwner` and others). The error contains
            /// the handle.
            #[track_caller]
            pub fn offer(
                self,
            ) -> Result<$crate::ownership::Offer<Self>, $crate::ownership::Refused<Self>> {
                $crate::ownership::Offer::make(self, $crate::ownership::Site::here())
            }

            /// Parks the resource: moves it to the account of the lot's task, until a task unparks it. Returns
            /// `false` if it became ready meanwhile: an [`unpark`](Self::unpark) found it held. Then it
            /// stays with the current task, which has to look again before it parks it.
            ///
            /// # Errors
            /// The current task cannot use the resource (`NotOwner` and others); `ParentExiting`: the
            /// lot's task is exiting or was cancelled, and the resource stays with the current task.
            #[track_caller]
            pub fn park(
                &self,
                lot: &$crate::ownership::Lot,
            ) -> Result<bool, $crate::ownership::Error> {
                lot.park(self.handle().cell(), $crate::ownership::Site::here())
            }

            /// Makes the current task the owner of a parked resource that became ready; or tells the task that
            /// holds it.
            ///
            /// # Errors
            /// `Cancelled`, `TaskExiting`: it is parked, and the current task accepts nothing more.
            #[track_caller]
            pub fn unpark(
                &self,
                lot: &$crate::ownership::Lot,
            ) -> Result<$crate::ownership::Unparked, $crate::ownership::Error> {
                lot.unpark(self.handle().cell(), $crate::ownership::Site::here())
            }
        }

        impl $(<$($generics)*>)? $crate::ownership::Offerable for $type {}

        impl $(<$($generics)*>)? $crate::ownership::sealed::Claim for $type {
            fn begin_offer(&self, site: $crate::ownership::Site) -> Result<(), $crate::ownership::Error> {
                self.handle().offer(site)
            }

            fn finish_claim(&self, site: $crate::ownership::Site) -> Result<(), $crate::ownership::Error> {
                self.handle().claim(site)
            }

            fn to_resource(&self) -> $crate::ownership::Resource {
                self.resource()
            }
        }
    };
}
pub(crate) use handle_methods;

/// A value with exactly one owner, which the registry checks.
///
/// Created by [`Registry::own`](super::Registry::own) and the other `own` functions. The handle can be sent to other threads
/// and shared; only the owning task can use it. Dropping it in the owning task releases the resource.
/// Dropping it in any other task is a violation, and releases the resource, too.
///
/// The value can be reached only with a check: [`with`](Owned::with) borrows it, and
/// [`disown`](Owned::disown) exchanges the handle for it.
///
/// # Examples
/// ```
/// use echown::ownership;
///
/// let words = ownership::own(vec!["ours"])?;
/// let outcome = std::thread::scope(|threads| {
///     threads.spawn(|| words.with(|words| words.push("theirs"))).join().unwrap()
/// });
/// let refused = outcome.unwrap_err();
/// assert_eq!(refused.kind(), ownership::ErrorKind::NotOwner);
/// assert_eq!(words.disown()?, ["ours"]);
/// # Ok::<(), ownership::Error>(())
/// ```
#[must_use = "an owned value is released when its handle is dropped"]
pub struct Owned<T: Send + 'static> {
    handle: Handle<ResourceCell<T>>,
}

impl<T: Send + 'static> Owned<T> {
    pub(crate) fn new(cell: Arc<ResourceCell<T>>) -> Owned<T> {
        Owned { handle: Handle::new(cell) }
    }

    #[inline]
    pub(crate) fn handle(&self) -> &Handle<ResourceCell<T>> {
        &self.handle
    }

    /// Calls `f` with the value. Meanwhile the resource is in use: it cannot be released, given,
    /// transferred, offered, or passed to a second `with`.
    ///
    /// # Errors
    /// `NotOwner`, `UseAfterRelease`, `Cancelled`, `InUse`, `FdReplaced`; `f` has not run.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let record = self.handle.record();
        let site = Site::here();
        record.check_access()?;
        let me = task::current(&record.registry);
        if let Err(word) = record.slot.begin_with(record.acting_owner(&me)) {
            return Err(record.refusal(word, &me, site));
        }
        let mut lent = WithGuard { cell: self.handle.cell(), stored: self.handle.cell().take() };
        let Some(stored) = &mut lent.stored else {
            assert_in_forked_child();
            return Err(record.error(ErrorKind::InUse, record.slot.load(), &me, site, None));
        };
        Ok(f(&mut stored.value))
    }

    /// [`with`](Owned::with) for a closure that returns a `Result`: one error instead of two nested ones.
    ///
    /// # Errors
    /// The error that `f` returned, or the converted error of [`with`](Owned::with).
    ///
    /// # Examples
    /// ```
    /// use std::io::{self, Write};
    ///
    /// let log = echown::ownership::own(Vec::new()).map_err(io::Error::from)?;
    /// log.try_with(|log| log.write_all(b"started"))?;
    /// assert_eq!(log.try_with(|log| io::Result::Ok(log.len()))?, 7);
    /// # Ok::<(), io::Error>(())
    /// ```
    #[track_caller]
    pub fn try_with<R, E>(&self, f: impl FnOnce(&mut T) -> Result<R, E>) -> Result<R, E>
    where
        E: From<Error>,
    {
        self.with(f)?
    }

    /// Gives up the resource without finalizing it, and returns the value.
    ///
    /// # Errors
    /// The current task cannot use the resource (`NotOwner` and others). `FdReplaced`: the number no
    /// longer refers to the registered file, so there is no value to return. The error contains the
    /// handle.
    #[track_caller]
    pub fn disown(self) -> Result<T, Refused<Owned<T>>> {
        let site = Site::here();
        let record = self.handle.record();
        let me = task::current(&record.registry);
        if let Err(word) = record.slot.check(record.acting_owner(&me)) {
            let error = record.refusal(word, &me, site);
            return Err(Refused::new(error, Some(self)));
        }
        if fork::in_forked_child() {
            let Some(stored) = self.handle.cell().take() else {
                let error = record.error(ErrorKind::InUse, record.slot.load(), &me, site, None);
                return Err(Refused::new(error, Some(self)));
            };
            close_in_fork(record, || ());
            return Ok(stored.value);
        }
        if let Some(now) = record.replacement() {
            let error = record.mark_replaced(&me, site, &now);
            return Err(Refused::new(error, Some(self)));
        }
        let held = self.handle.held();
        if let Err(word) = task::begin_close(&held, &[SlotState::Held]) {
            let error = record.refusal(word, &me, site);
            return Err(Refused::new(error, Some(self)));
        }
        let stored = close_with(record, &me, Event::Disowned, site, || {
            fd_table::remove(record);
            self.handle.cell().take()
        });
        let Some(stored) = stored else {
            unreachable!("a held cell has its value: only a close and `with` take it")
        };
        Ok(stored.value)
    }

    /// Describes the resource: owner, state, addresses, custody. Any task may call this.
    #[must_use]
    pub fn describe(&self) -> ResourceData {
        snapshot::of_record(self.handle.record())
    }
}

handle_methods!({T: Send + 'static} Owned<T>);

/// A held cell has its value: only a close and `with` take it. The exception is a forked child, where
/// the lock may have been held by a thread that does not exist there.
#[cold]
#[track_caller]
fn assert_in_forked_child() {
    assert!(fork::in_forked_child(), "a held cell has lost its value");
}

/// The guard of a `with`: puts the value back and ends the use when dropped, also while unwinding.
struct WithGuard<'a, T: Send + 'static> {
    cell: &'a ResourceCell<T>,
    stored: Option<StoredValue<T>>,
}

impl<T: Send + 'static> Drop for WithGuard<'_, T> {
    fn drop(&mut self) {
        self.cell.put_back(self.stored.take());
        self.cell.record().slot.end_with();
    }
}

impl<T: Send + 'static> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owned({:?})", self.handle)
    }
}
