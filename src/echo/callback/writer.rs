//! The queue of a shared sender, and the writer: the task that owns the write half.
//!
//! Bytes that the writer has taken count as queued until they are written, so the limit holds for
//! all that is on its way.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};

use super::shared::{Callbacks, Shared, State};
use crate::net::WriteHalf;

/// The most bytes of a shared sender that wait to be sent: some round trips' worth, and little
/// compared with the kernel's buffers of a connection.
pub const QUEUE_BYTES: usize = 256 * 1024;

/// Written at a time; afterwards there is room for as many bytes in the queue.
const CHUNK_BYTES: usize = 64 * 1024;

fn room(state: &State) -> usize {
    QUEUE_BYTES - state.queue.len() - state.in_flight
}

/// Queues what there is room for. If there is none, the notifier is called later if `awaits_room`.
pub(super) fn push(shared: &Shared, bytes: &[u8], awaits_room: bool) -> io::Result<usize> {
    shared.state.update(|state| {
        state.check()?;
        let taken = bytes.len().min(room(state));
        state.queue.try_reserve(taken).map_err(|_| io::ErrorKind::OutOfMemory)?;
        state.queue.extend(&bytes[..taken]);
        state.awaits_room |= awaits_room && taken == 0 && !bytes.is_empty();
        Ok(taken)
    })
}

/// Queues all of it, waiting for room.
#[track_caller]
pub(super) fn push_all(shared: &Shared, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        bytes = &bytes[push(shared, bytes, false)?..];
        if bytes.is_empty() {
            return Ok(());
        }
        wait(shared, |state| room(state) > 0)?;
    }
}

/// Waits until everything that was queued is written.
#[track_caller]
pub(super) fn flush(shared: &Shared) -> io::Result<()> {
    wait(shared, |state| state.queue.is_empty() && state.in_flight == 0)?;
    shared.state.lock().check()
}

/// Waits for the writer, or until it has failed.
#[track_caller]
fn wait(shared: &Shared, done: impl Fn(&State) -> bool) -> io::Result<()> {
    if shared.state.lock().writer == Some(shared.registry.current_task().id) {
        let text = "a notifier cannot wait for its connection's queue: the writer calls it; use \
                    `try_send`";
        return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
    }
    shared.state.wait(None, |state| done(state) || state.failure.is_some())?;
    Ok(())
}

/// Starts the writer as a child of the current task, which owns the half.
///
/// # Errors
/// No thread could be started; the half is returned.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    half: WriteHalf,
    callbacks: &Arc<Callbacks>,
) -> Result<(), (io::Error, WriteHalf)> {
    let name = format!("write {}", shared.label.peer);
    let (theirs, callbacks) = (Arc::clone(shared), Arc::downgrade(callbacks));
    let job = move |half| run(half, &theirs, &callbacks);
    let promise = shared.pool.spawn_named_with(&name, half, job).map_err(|refused| {
        let error = io::Error::other(refused.to_string());
        let Some((half, _)) = refused.into_job() else {
            unreachable!("a job that got no thread has not run")
        };
        (error, half)
    })?;
    let mut state = shared.state.lock();
    state.writer = Some(promise.task().id);
    state.writer_promise = Some(promise);
    Ok(())
}

/// The writer: writes what is queued until the sender is dropped, then ends the stream.
fn run(half: WriteHalf, shared: &Shared, callbacks: &Weak<Callbacks>) -> io::Result<()> {
    let written = catch_unwind(AssertUnwindSafe(|| write(half, shared, callbacks)));
    let failure = match &written {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the writer panicked".to_owned()),
    };
    if let Some(failure) = failure {
        shared.fail(&failure);
        // Wakes the read; input that has arrived is read and discarded.
        shared.task.request_drain();
    }
    written.unwrap_or_else(|panic| resume_unwind(panic))
}

fn write(mut half: WriteHalf, shared: &Shared, callbacks: &Weak<Callbacks>) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        shared.state.wait(None, |state| {
            !state.queue.is_empty() || state.is_sender_dropped || state.failure.is_some()
        })?;
        // A cancelled task sends no end.
        half.check()?;
        bytes.clear();
        {
            let mut state = shared.state.lock();
            std::mem::swap(&mut bytes, &mut state.queue);
            state.in_flight = bytes.len();
        }
        if bytes.is_empty() {
            // Sends the end of the stream.
            return Ok(half.release()?);
        }
        for chunk in bytes.chunks(CHUNK_BYTES) {
            half.write_all(chunk)?;
            let awaits_room = shared.state.update(|state| {
                state.in_flight -= chunk.len();
                std::mem::take(&mut state.awaits_room)
            });
            // No callbacks: nothing refers to the connection any more.
            if let Some(callbacks) = callbacks.upgrade().filter(|_| awaits_room) {
                callbacks.notify();
            }
        }
    }
}
