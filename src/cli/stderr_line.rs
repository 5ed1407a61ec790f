//! Lines on standard error, which may be closed, full, or stalled.
//!
//! All that the program says there is a [`Line`], whose form ([`form`]) is chosen here: text or JSON, and
//! with the priorities of the journal. `stderr_line(format_args!("..."))` is enough for a message for people.
//!
//! While the program runs, lines go through a queue to the task that writes standard error (see `output`):
//! a thread that prints a line never waits for the reader. Before the queue exists, and after it has ended,
//! lines are written directly, and a stalled reader delays them by two seconds, once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::output::{Flush, Item, Outlet, Queue, STALL_TIMEOUT};
pub(super) use line::Line;

pub(super) mod form;
mod line;

/// The queue, while it exists.
static QUEUE: Mutex<Option<Arc<Queue>>> = Mutex::new(None);

/// The deadline of direct writes, set when the first one has to wait.
static DEADLINE: Mutex<Option<Instant>> = Mutex::new(None);

/// Writes a message to standard error: a [`Line`], or whatever can be displayed. Errors are ignored: a
/// missing reader must not end the program, as the panic of `eprintln!` would. A line is one write, so that
/// lines of other processes do not split it.
pub(super) fn stderr_line(line: impl Into<Line>) {
    write(line.into().into_bytes());
}

/// Writes bytes as they are.
pub(super) fn write(bytes: Vec<u8>) {
    let queue = lock(&QUEUE).clone();
    match queue {
        Some(queue) => queue.push(Item::Line(bytes)),
        None => write_directly(&bytes),
    }
}

/// Sets the queue that lines go to, or none.
pub(super) fn set_queue(queue: Option<Arc<Queue>>) {
    *lock(&QUEUE) = queue;
}

/// Waits shortly for earlier lines, unless standard error is stalled, because the process may exit.
pub(super) fn flush(before: Flush) {
    let queue = lock(&QUEUE).clone();
    if let Some(queue) = queue {
        queue.flush(before);
    }
}

/// Writes without a queue and without allocation; a stalled reader delays all such writes by two seconds in
/// total.
pub(super) fn write_directly(bytes: &[u8]) {
    let is_overdue = || {
        let mut deadline = lock(&DEADLINE);
        let deadline = deadline.get_or_insert_with(|| Instant::now() + STALL_TIMEOUT);
        Instant::now() >= *deadline
    };
    // Fails only if standard error is closed.
    let _ = Outlet::Standard(rustix::stdio::stderr()).write_all(bytes, || (), is_overdue);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the result of a command to standard error, however long its reader takes.
///
/// # Errors
/// The error is a message for people, who can read it only in another place.
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub(super) fn write_result(bytes: &[u8]) -> Result<(), String> {
    let written = Outlet::Standard(rustix::stdio::stderr()).write_all(bytes, || (), || false);
    written.map(|_| ()).map_err(|error| format!("failed to write to standard error: {error}"))
}

/// Writes the result of a command to standard output, however long its reader takes; after `is_stopped`
/// a stall lasts at most two seconds.
///
/// # Errors
/// The error of the system call. `TimedOut`: it was stopped.
#[cfg(target_os = "linux")]
pub(super) fn write_stdout(bytes: &[u8], is_stopped: impl Fn() -> bool) -> std::io::Result<()> {
    if crate::sys::stdio::stdout_was_closed() {
        return Err(std::io::Error::other("failed to write to standard output: it is closed"));
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
    let text = "failed to write to standard output: its reader stalled";
    written.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}
