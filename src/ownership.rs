//! Ownership that can be proven: who holds what, since when, from which line, through whose hands.
//!
//! A *resource* is anything that must be released, a descriptor above all. A *task* is a unit of
//! execution: the main thread, a job of a [`Pool`](crate::pool::Pool), any thread that touches a
//! registry. Every resource has one owner at any moment:
//!
//! - [`own`]: become the owner. [`Owned::check`]: prove it. [`Owned::with`]: use the value.
//! - [`Owned::release`]: give it up and finalize it. [`Owned::disown`]: give it up, nothing is run.
//! - *give*: hand it to a child as it is spawned. [`Owned::transfer`]: hand it to the parent.
//! - [`Owned::offer`] and [`Offer::claim`]: hand it to any task, through any channel.
//!
//! A task need not have a thread: an [`Actor`] owns, and acts when a thread is lent to it.
//!
//! Whoever is not the owner is refused before the system call, by an ordinary error that says what
//! was expected, what was found and where. What a task leaves behind when it ends is finalized,
//! whichever way it ended; after a normal end it is a *leak*, and a [`LeakReport`] says what it was
//! and whose hands it went through.
//!
//! # Limits
//!
//! - Identity tells sockets apart exactly, files and pipes by inode, and epoll, eventfd, timerfd
//!   and inotify descriptors not at all. Between the comparison and `close(2)` a race remains, in
//!   which a descriptor that is closed and replaced outside the registry is not noticed.
//! - A replaced descriptor is noticed when its number is closed or owned again (at [`Level::Full`], at every
//!   operation); until then operations reach the newcomer.
//! - `std::process::exit`, `abort`, `panic = "abort"` and fatal signals run no finalizer. The
//!   final verdict comes from [`finish`].
//! - After a fork without exec the registry is off in the child.
//! - Cancelling wakes a task that is blocked in a socket it owns; code that blocks elsewhere is
//!   waited for.
//!
//! # Sources
//!
//! The model is that of Miou's `Ownership`; `docs/rationale.md` says where this one goes further.

mod account;
mod actor;
mod baton;
mod cell;
pub(crate) mod closing;
mod custody;
mod error;
#[cfg(all(test, not(echown_loom)))]
mod fork_tests;
pub mod graph;
mod half;
pub(crate) mod handle;
mod int_map;
mod offer;
mod policy;
pub(crate) mod promise;
mod record;
mod registry;
mod report;
mod report_log;
mod slot;
pub(crate) mod snapshot;
pub(crate) mod task;
mod task_error;
pub(crate) mod task_exit;

pub use actor::Actor;
pub use baton::Baton;
pub(crate) use cell::ResourceCell;
pub use echown_fd::fd::Identity;
pub use echown_report::{
    CustodyStep, Declared, Event, LeakReport, Report, ResourceData, ResourceId, SCHEMA_VERSION,
    Site, Snapshot, Suppression, TaskData, TaskId, TaskLabel, Verdict, ViolationReport,
};
pub use error::{Error, ErrorKind, Refused};
pub use half::Half;
pub(crate) use half::HalfCell;
pub use handle::Owned;
pub(crate) use offer::sealed;
pub use offer::{Offer, Offerable};
pub use policy::{Level, Policy};
pub use promise::Promise;
pub(crate) use record::Managed;
pub use registry::{EXIT_CODE_FINDINGS, Registry, RegistryBuilder, Resource, RunInlineError};
pub use report_log::REPORTS_KEPT;
pub(crate) use task_error::panic_message;
pub use task_error::{Panic, TaskError, UnjoinedChildren};

/// [`Registry::own`] in the process-wide registry.
///
/// # Errors
/// As there.
#[track_caller]
pub fn own<T: Send + 'static>(value: T) -> Result<Owned<T>, Refused<T>> {
    Registry::global().own(value)
}

/// [`Registry::own_with`] in the process-wide registry.
///
/// # Errors
/// As there.
#[track_caller]
pub fn own_with<T: Send + 'static>(
    value: T,
    finalizer: impl FnOnce(T) -> std::io::Result<()> + Send + 'static,
) -> Result<Owned<T>, Refused<T>> {
    Registry::global().own_with(value, finalizer)
}

/// [`Registry::own_fd`] in the process-wide registry.
///
/// # Errors
/// As there.
#[track_caller]
pub fn own_fd<T>(value: T) -> Result<Owned<T>, Refused<T>>
where
    T: std::os::fd::AsFd + Into<std::os::fd::OwnedFd> + Send + 'static,
{
    Registry::global().own_fd(value)
}

/// [`Registry::snapshot`] of the process-wide registry.
#[must_use]
pub fn snapshot() -> Snapshot {
    Registry::global().snapshot()
}

/// [`Registry::finish`] of the process-wide registry: the last thing a program does.
pub fn finish() -> Verdict {
    Registry::global().finish()
}
