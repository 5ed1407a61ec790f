//! Standard error, which may be closed, full, or stalled.
//!
//! While the program runs, what is said waits in a queue for the task that writes standard error (see
//! `output`): a thread that says something never waits for its reader. Before there is a queue, and
//! when there is none any more, it is written directly, and a stalled reader gets two seconds, once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::output::{Flush, Item, Outlet, Queue, STALL_TIMEOUT};

/// Where what is said waits.
static QUEUE: Mutex<Option<Arc<Queue>>> = Mutex::new(None);

/// Until when a direct write waits; there was none that had to.
static DEADLINE: Mutex<Option<Instant>> = Mutex::new(None);

/// Writes a line to standard error. What cannot be written there is lost: that nobody listens must
/// not end the program, as `eprintln!` would by its panic. In one piece, so that another process
/// that writes there comes between two lines and not into one.
pub(super) fn stderr_line(line: impl fmt::Display) {
    write(format!("{line}\n").into_bytes());
}

/// The same with the bytes as they are.
pub(super) fn write(bytes: Vec<u8>) {
    let queue = lock(&QUEUE).clone();
    match queue {
        Some(queue) => queue.push(Item::Line(bytes)),
        None => write_directly(&bytes),
    }
}

/// From now on all goes to this queue, or to none.
pub(super) fn set_queue(queue: Option<Arc<Queue>>) {
    *lock(&QUEUE) = queue;
}

/// Waits a moment for what was said before, unless standard error is stalled: the process may end.
pub(super) fn flush(before: Flush) {
    let queue = lock(&QUEUE).clone();
    if let Some(queue) = queue {
        queue.flush(before);
    }
}

/// Writes without a queue and without an allocation; waits for a stalled reader two seconds in all.
pub(super) fn write_directly(bytes: &[u8]) {
    let is_overdue = || {
        let mut deadline = lock(&DEADLINE);
        let deadline = deadline.get_or_insert_with(|| Instant::now() + STALL_TIMEOUT);
        Instant::now() >= *deadline
    };
    // Where standard error is closed, there is no reader to tell.
    let _ = Outlet::Standard(rustix::stdio::stderr()).write_all(bytes, || (), is_overdue);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what a command was asked for to standard output, for as long as its reader takes; at most two
/// seconds of a stall after `is_stopped`.
///
/// # Errors
/// The system call's. `TimedOut`: it was stopped.
#[cfg(target_os = "linux")]
pub(super) fn write_stdout(bytes: &[u8], is_stopped: impl Fn() -> bool) -> std::io::Result<()> {
    if crate::sys::stdio::stdout_was_closed() {
        return Err(std::io::Error::other("cannot write to standard output: it is closed"));
    }
    let mut stopped: Option<Instant> = None;
    let is_overdue = || {
        if is_stopped() {
            let since = stopped.get_or_insert_with(Instant::now);
            return since.elapsed() >= STALL_TIMEOUT;
        }
        false
    };
    let written = Outlet::Standard(rustix::stdio::stdout()).write_all(bytes, || (), is_overdue)?;
    let text = "cannot write to standard output: its reader takes nothing";
    written.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}
