//! The writer task of one client.
//!
//! It owns the write half of the connection and waits only for its queue and for room in the socket. At
//! the end it transfers its half to the reading task, which closes the stream.

use std::io;
use std::time::{Duration, Instant};

use super::hub::{Hub, MemberToken, count};
use super::send_queue::{Batch, SendQueue};
use crate::echo::EndReason;
use crate::net::WriteHalf;

/// How long a writer waits for room in the socket before it checks whether its queue was aborted. Only
/// the owner may use its socket, so no other task can wake it there.
const SLICE: Duration = Duration::from_millis(100);

/// Sends the queue until it is closed and empty, and transfers the half to the parent.
///
/// # Errors
/// The connection ended early. Both directions are shut down, so that its reading task notices. If
/// the peer has gone, it is still a member of the hub.
pub(super) fn run(
    writing: WriteHalf,
    hub: &Hub,
    token: MemberToken,
    queue: &SendQueue,
    timeout: Option<Duration>,
) -> io::Result<WriteHalf> {
    let sent = send_all(&writing, hub, queue, timeout);
    match sent.and_then(|()| Ok(writing.transfer()?)) {
        Ok(()) => Ok(writing),
        Err(error) => {
            if has_gone(&error) {
                // Its input has arrived and is not read yet. It stays a member until that is published: in a
                // drain, receive-only members wait for it.
                queue.mark_peer_gone();
            } else {
                hub.leave(token);
                queue.abort();
            }
            // Received input stays readable. This fails if the task was cancelled or the peer has
            // gone; the connection ends anyway.
            let _ = writing.shutdown_both();
            Err(error)
        }
    }
}

fn send_all(
    writing: &WriteHalf,
    hub: &Hub,
    queue: &SendQueue,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let mut batch = Batch::default();
    while queue.take(&mut batch) {
        while !batch.is_empty() {
            let sent = send(writing, &batch, queue, timeout)?;
            count(&hub.totals.deliveries, batch.advance(sent));
        }
    }
    if queue.is_aborted() { Err(aborted()) } else { Ok(()) }
}

/// Sends as much as the socket accepts; waits until it accepts some.
///
/// # Errors
/// `TimedOut`: the peer has read nothing within the timeout. The queue was aborted. The error of the
/// socket.
fn send(
    writing: &WriteHalf,
    batch: &Batch,
    queue: &SendQueue,
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        match writing.try_write_vectored(&batch.pieces()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left =
                    deadline.map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(EndReason::WriteTimeout.into_error());
                }
                writing.wait_writable(Some(left.min(SLICE)))?;
                if queue.is_aborted() {
                    return Err(aborted());
                }
            }
            sent => return sent,
        }
    }
}

/// Whether this write error means that the peer has gone, as opposed to an abort or a timeout.
fn has_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn aborted() -> io::Error {
    EndReason::SlowReader.into_error()
}
