//! The ownership checker: every resource has exactly one owner, which is checked before each use.
//!
//! A *resource* is a value that must be released, most often a file descriptor. A *task* is a unit of
//! execution: the main thread, a job of a [`Pool`](crate::pool::Pool), or any thread that uses a
//! registry. Every resource has one owner at any moment:
//!
//! - [`own`]: become the owner. [`Owned::check`]: check that. [`Owned::with`], [`Owned::try_with`]: use the value.
//! - [`Owned::release`]: give up and finalize. [`Owned::disown`]: give up without finalizing.
//! - *give*: move to a child when it is spawned ([`Give`]). [`Owned::transfer`]: move to the parent.
//! - [`Owned::offer`] and [`Offer::claim`]: move to any task, through any channel.
//! - [`Owned::park`] and [`Owned::unpark`]: leave a resource that waits with one task, for the task that
//!   finds it ready; see [`Lot`].
//!
//! A child can run on its parent's thread: see [`Registry::run_inline`].
//!
//! Functions without a registry argument use [`Registry::current`]: the registry in which the current task
//! was started.
//!
//! A use by a non-owner fails before the system call, with an ordinary error that names what was
//! expected, what was found and where. What a task still owns when it ends is finalized, however it
//! ended. After a normal return it is a *leak*, and a [`LeakReport`] shows the resource and its chain
//! of custody.
//!
//! # Limits
//!
//! - Identity tells sockets apart exactly (by inode where the system rejects `SO_COOKIE`, see
//!   [`Identity`]), files and pipes by inode, and epoll, eventfd, timerfd and inotify descriptors not
//!   at all. Between the comparison and `close(2)` a race remains, in
//!   which a descriptor that is closed and replaced outside the registry is not noticed.
//! - A replaced descriptor is noticed when its number is closed or owned again (at [`Level::Full`], at
//!   every operation). Until then operations reach the new file.
//! - `std::process::exit`, `abort`, `panic = "abort"` and fatal signals run no finalizer. The
//!   final summary comes from [`finish`].
//! - After a fork without exec the registry is off in the child.
//! - Cancelling wakes a task that is blocked in a socket that it owns. Code that blocks elsewhere delays
//!   the cancellation until it returns.
//!
//! # Sources
//!
//! The model is that of Miou's `Ownership`; `docs/rationale.md` describes the differences.

mod access;
mod account;
mod acquire;
mod cell;
pub(crate) mod closing;
mod current;
mod custody;
mod error;
mod events;
mod fd_table;
#[cfg(all(test, not(echown_loom)))]
mod fork_tests;
pub(crate) mod give;
pub mod graph;
mod half;
pub(crate) mod handle;
mod int_map;
mod label;
mod moment;
mod offer;
mod parking;
mod policy;
mod process;
pub(crate) mod promise;
mod record;
mod registry;
mod report;
mod report_log;
mod resource;
mod run;
mod slot;
pub(crate) mod snapshot;
pub(crate) mod spawn;
pub(crate) mod task;

pub(crate) use cell::ResourceCell;
pub(crate) use closing::panic_message;
pub use current::Entered;
pub use echown_fd::fd::Identity;
pub use echown_report::{
    CustodyStep, Declared, Event, LeakReport, RegistrySummary, Report, ResourceData, ResourceId,
    SCHEMA_VERSION, Site, Snapshot, Suppression, TaskData, TaskId, TaskLabel, ViolationReport,
};
pub use error::{Error, ErrorKind, Refused};
pub use events::Subscription;
pub(crate) use events::publish_message;
pub use give::Give;
pub use half::Half;
pub(crate) use half::HalfCell;
pub use handle::Owned;
pub(crate) use offer::sealed;
pub use offer::{Offer, Offerable};
pub use parking::{Lot, Unparked};
pub use policy::{Level, Policy};
#[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(unused_imports))]
pub(crate) use process::Process;
pub use promise::{JoinFlatError, Panic, Promise, TaskError, UnjoinedChildren};
pub(crate) use record::Managed;
pub use registry::{EXIT_CODE_FINDINGS, Registry, RegistryBuilder};
pub use report_log::REPORTS_KEPT;
pub use resource::Resource;
pub use run::RunInlineError;

/// [`Registry::own`] in the [current registry](Registry::current).
///
/// # Errors
/// See [`Registry::own`].
#[track_caller]
pub fn own<T: Send + 'static>(value: T) -> Result<Owned<T>, Refused<T>> {
    Registry::current().own(value)
}

/// [`Registry::own_with`] in the [current registry](Registry::current).
///
/// # Errors
/// See [`Registry::own_with`].
#[track_caller]
pub fn own_with<T: Send + 'static>(
    value: T,
    finalizer: impl FnOnce(T) -> std::io::Result<()> + Send + 'static,
) -> Result<Owned<T>, Refused<T>> {
    Registry::current().own_with(value, finalizer)
}

/// [`Registry::own_fd`] in the [current registry](Registry::current).
///
/// # Errors
/// See [`Registry::own_fd`].
#[track_caller]
pub fn own_fd<T>(value: T) -> Result<Owned<T>, Refused<T>>
where
    T: std::os::fd::AsFd + Into<std::os::fd::OwnedFd> + Send + 'static,
{
    Registry::current().own_fd(value)
}

/// [`Registry::snapshot`] of the process-wide registry.
#[must_use]
pub fn snapshot() -> Snapshot {
    Registry::global().snapshot()
}

/// [`Registry::finish`] of the process-wide registry. A program calls this last.
pub fn finish() -> RegistrySummary {
    Registry::global().finish()
}
