//! The task that writes to one client.
//!
//! It owns the writing half of the connection and waits for nothing but the outbox and room in the
//! socket. In the end it hands its half back to the task that reads, which closes the whole.

use std::io;
use std::time::{Duration, Instant};

use super::hub::{Hub, Token, count};
use super::outbox::{Batch, Outbox};
use crate::echo::EndReason;
use crate::net::WriteHalf;

/// How long a writer whose peer takes nothing waits at a time before it looks whether it was given
/// up. Nobody but the owner may touch its socket, so nobody else can wake it there.
const SLICE: Duration = Duration::from_millis(100);

/// Sends what waits in the outbox until that is closed and empty. The half comes back, the parent's.
///
/// # Errors
/// What ended the writing before its time. The peer has been hung up on, so that whoever reads from
/// it learns of it. When it was the peer that has gone, it is still a member.
pub(super) fn run(
    writing: WriteHalf,
    hub: &Hub,
    token: Token,
    outbox: &Outbox,
    patience: Option<Duration>,
) -> io::Result<WriteHalf> {
    let sent = send_all(&writing, hub, outbox, patience);
    match sent.and_then(|()| Ok(writing.transfer()?)) {
        Ok(()) => Ok(writing),
        Err(error) => {
            if has_gone(&error) {
                // What it had said has arrived and is not read yet. It stays a member until that is
                // published: in a drain, those who rest wait for it.
                outbox.desert();
            } else {
                hub.leave(token);
                outbox.cut();
            }
            // What has arrived stays readable. Refused when this task was cancelled, in vain when the peer has gone: it is over.
            let _ = writing.hang_up();
            Err(error)
        }
    }
}

fn send_all(
    writing: &WriteHalf,
    hub: &Hub,
    outbox: &Outbox,
    patience: Option<Duration>,
) -> io::Result<()> {
    let mut batch = Batch::default();
    while outbox.take(&mut batch) {
        while !batch.is_empty() {
            let sent = send(writing, &batch, outbox, patience)?;
            count(&hub.totals.deliveries, batch.strike(sent));
        }
    }
    if outbox.is_cut() { Err(given_up()) } else { Ok(()) }
}

/// Sends what there is room for; waits until there is some.
///
/// # Errors
/// `TimedOut`: the peer has taken nothing for so long. It was given up by others. What the socket
/// says.
fn send(
    writing: &WriteHalf,
    batch: &Batch,
    outbox: &Outbox,
    patience: Option<Duration>,
) -> io::Result<usize> {
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    loop {
        match writing.try_write_vectored(&batch.pieces()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left =
                    deadline.map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(EndReason::WriteTimeout.into_error());
                }
                writing.wait_writable(Some(left.min(SLICE)))?;
                if outbox.is_cut() {
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
