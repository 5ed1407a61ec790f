//! The task that writes to one client.
//!
//! It owns the writing half of the connection and waits for nothing but the queue and room in the
//! socket. In the end it hands its half back to the task that reads, which closes the whole.

use std::io;
use std::time::{Duration, Instant};

use super::hub::{Hub, Token, count};
use super::send_queue::{Batch, SendQueue};
use crate::echo::EndReason;
use crate::net::WriteHalf;

/// How long a writer whose peer takes nothing waits at a time before it looks whether it was given
/// up. Nobody but the owner may touch its socket, so nobody else can wake it there.
const SLICE: Duration = Duration::from_millis(100);

/// Sends what waits in the queue until that is closed and empty. The half comes back, the parent's.
///
/// # Errors
/// What ended the writing before its time. The peer has been hung up on, so that whoever reads from
/// it learns of it. When it was the peer that has gone, it is still a member.
pub(super) fn run(
    writing: WriteHalf,
    hub: &Hub,
    token: Token,
    queue: &SendQueue,
    timeout: Option<Duration>,
) -> io::Result<WriteHalf> {
    let sent = send_all(&writing, hub, queue, timeout);
    match sent.and_then(|()| Ok(writing.transfer()?)) {
        Ok(()) => Ok(writing),
        Err(error) => {
            if has_gone(&error) {
                // What it had said has arrived and is not read yet. It stays a member until that is
                // published: in a drain, those who rest wait for it.
                queue.mark_peer_gone();
            } else {
                hub.leave(token);
                queue.abort();
            }
            // What has arrived stays readable. Refused when this task was cancelled, in vain when the peer has gone: it is over.
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
    if queue.is_aborted() { Err(given_up()) } else { Ok(()) }
}

/// Sends what there is room for; waits until there is some.
///
/// # Errors
/// `TimedOut`: the peer has taken nothing for so long. It was given up by others. What the socket
/// says.
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
                    return Err(given_up());
                }
            }
            sent => return sent,
        }
    }
}

/// Whether this error of a write says that the peer has gone, or takes nothing ever again; as opposed
/// to one that is given up.
fn has_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn given_up() -> io::Error {
    EndReason::SlowReader.into_error()
}
