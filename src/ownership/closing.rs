//! The end of one resource, whoever closes it: the steps after a close was won.
//!
//! `Slot::begin_close` makes one caller the closer. From then on nobody else finalizes the resource,
//! so the closer must: a step that is skipped, by an early return or by a panic, would leave a slot
//! that is Closing for good.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use echown_fd::escape;
use echown_report::{Event, Site};

use super::error::{Error, ErrorKind};
use super::record::Managed;
use super::slot::Slot;
use super::task::Task;
use super::{report, task_error};

/// Finalizes what the caller has begun to close, and ends the closing, also while unwinding.
///
/// # Errors
/// The finalizer failed, panicked, or found the number replaced.
pub(crate) fn complete_close(
    held: &dyn Managed,
    me: &Task,
    event: Event,
    site: Site,
) -> Result<(), Error> {
    let _closing = Closing(&held.record().slot);
    finalize(held, me, event, site)
}

/// [`complete_close`] where no caller takes the error: it is reported, while the resource still is known
/// to be its last owner's.
pub(crate) fn complete_close_reporting(held: &dyn Managed, me: &Task, event: Event, site: Site) {
    let record = held.record();
    let _closing = Closing(&record.slot);
    if let Err(error) = finalize(held, me, event, site)
        // A replaced number was reported where it was found.
        && error.kind() != ErrorKind::FdReplaced
    {
        record.registry.deliver(report::of_error(&error, record));
    }
}

fn finalize(held: &dyn Managed, me: &Task, event: Event, site: Site) -> Result<(), Error> {
    let record = held.record();
    record.slot.wait_for_pins();
    record.record_step(event, Some(me), None, site);
    held.finalize(me, site)
}

/// A slot that is Closing becomes Released when this is dropped.
struct Closing<'a>(&'a Slot);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.end_close();
    }
}

/// Runs a finalizer of the user's and turns its failure or panic into an error's text. Everything
/// that is the user's is contained: the finalizer, the text of its error, and its error's
/// destructor.
pub(crate) fn run_finalizer(
    finalizer: impl FnOnce() -> std::io::Result<()>,
) -> Result<(), (ErrorKind, String)> {
    match catch_panic(finalizer) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let text = catch_panic(|| error.to_string())
                .unwrap_or_else(|panic| format!("an error whose text panicked: {panic}"));
            discard(error);
            Err((ErrorKind::FinalizerFailed, text))
        }
        Err(panic) => Err((ErrorKind::FinalizerPanicked, panic)),
    }
}

/// Runs code of the user's. A panic ends here.
///
/// # Errors
/// The text of the panic.
pub(crate) fn catch_panic<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = task_error::panic_message(&*payload).to_owned();
        discard_payload(payload);
        text
    })
}

/// Drops a value of the user's, whose destructor may panic: that is logged by the name of the task
/// that it is dropped for.
pub(crate) fn drop_catching<T>(task: &impl fmt::Display, value: T) {
    if let Err(panic) = catch_panic(|| drop(value)) {
        log_catching(|| tracing::warn!(%task, "a destructor panicked: {}", escape::text(&panic)));
    }
}

/// Logs where nothing may unwind: a subscriber is the user's code, too.
pub(crate) fn log_catching(log: impl FnOnce()) {
    discard(catch_panic(log));
}

fn discard<T>(value: T) {
    let _ = catch_panic(|| drop(value));
}

/// The payload's own destructor could panic, and the payload of that, and so on: it is leaked.
pub(crate) fn discard_payload(payload: Box<dyn Any + Send>) {
    std::mem::forget(payload);
}
