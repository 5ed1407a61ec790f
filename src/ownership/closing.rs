//! The close of one resource, and functions that catch the panics of user code.
//!
//! A slot that is closed passes through four states: Held or Offered, then Closing by the one caller
//! for whom `Slot::begin_close` (or the drop of the last half) succeeded, and Released at the end.
//! From Closing on, only that closer can finalize the resource, so it must: a step that is skipped, by
//! an early return or by a panic, would leave the slot Closing permanently. Every way to give up a
//! resource takes its steps here, in this order: wait for the pins, record the step, act on the value,
//! end the close. The last one is the drop of a guard.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use echown_fd::escape;
use echown_report::{Event, Site};

use super::error::{Error, ErrorKind};
use super::record::{Labelled, Managed, Record};
use super::report;
use super::slot::Slot;

/// Finalizes the resource that the caller has begun to close, and ends the close, also while unwinding.
///
/// # Errors
/// The finalizer failed, panicked, or found the number replaced.
pub(crate) fn complete_close(
    held: &dyn Managed,
    me: &dyn Labelled,
    event: Event,
    site: Site,
) -> Result<(), Error> {
    close_with(held.record(), me, event, site, || held.finalize(me, site))
}

/// [`complete_close`] where no caller can handle the error: it is reported, while the slot still names
/// the last owner.
pub(crate) fn complete_close_reporting(
    held: &dyn Managed,
    me: &dyn Labelled,
    event: Event,
    site: Site,
) {
    let record = held.record();
    close_with(record, me, event, site, || {
        if let Err(error) = held.finalize(me, site)
            // A replaced number was reported where it was found.
            && error.kind() != ErrorKind::FdReplaced
        {
            record.registry.deliver(report::of_error(&error, record));
        }
    });
}

/// Ends the close that the caller has begun, with `f` in place of the finalizer: it has the resource
/// exclusively, no other thread uses the number any more, and the slot is still Closing.
pub(crate) fn close_with<R>(
    record: &Record,
    me: &dyn Labelled,
    event: Event,
    site: Site,
    f: impl FnOnce() -> R,
) -> R {
    let _closing = Closing(&record.slot);
    record.slot.wait_for_pins();
    record.record_step(event, Some(me), None, site);
    f()
}

/// Closes a resource in a forked child with `f`, unless it is closed there already. Pins are not waited
/// for: the threads that had them do not exist here. Returns whether it was closed now.
pub(crate) fn close_in_fork(record: &Record, f: impl FnOnce()) -> bool {
    let is_closing = record.slot.begin_close(record.slot.load().owner()).is_ok();
    if is_closing {
        let _closing = Closing(&record.slot);
        f();
    }
    is_closing
}

/// A slot that is Closing becomes Released when this is dropped.
struct Closing<'a>(&'a Slot);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.end_close();
    }
}

/// Runs a finalizer and converts its error or panic into text. Panics of all user code involved are
/// caught: the finalizer, its error's `Display`, and its error's destructor.
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

/// Runs user code and catches its panic.
///
/// # Errors
/// The text of the panic.
pub(crate) fn catch_panic<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = panic_message(&*payload).to_owned();
        discard_payload(payload);
        text
    })
}

/// Drops a user's value. If its destructor panics, the panic is caught and logged with the name of the
/// task that the value is dropped for.
pub(crate) fn drop_catching<T>(task: &impl fmt::Display, value: T) {
    if let Err(panic) = catch_panic(|| drop(value)) {
        log_catching(|| tracing::warn!(%task, "a destructor panicked: {}", escape::text(&panic)));
    }
}

/// Logs where nothing may unwind: the log subscriber is user code, too.
pub(crate) fn log_catching(log: impl FnOnce()) {
    discard(catch_panic(log));
}

fn discard<T>(value: T) {
    let _ = catch_panic(|| drop(value));
}

/// Leaks a panic's payload: its destructor could panic, with a payload whose destructor panics, and so
/// on.
pub(crate) fn discard_payload(payload: Box<dyn Any + Send>) {
    std::mem::forget(payload);
}

/// The text of a panic's payload.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(payload is not a string)")
}

#[cfg(all(test, not(echown_loom)))]
mod tests {
    use super::*;
    use crate::ownership::slot::SlotState;

    #[test]
    fn a_close_that_unwinds_ends_in_released() {
        let slot = Slot::new(1);
        slot.begin_close(1).expect("task 1 owns it");
        let unwound = catch_panic(|| {
            let _closing = Closing(&slot);
            panic!("on purpose");
        });
        assert!(unwound.is_err());
        assert_eq!(slot.load().state(), SlotState::Released);
    }
}
