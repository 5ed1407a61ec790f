//! What a connection is answered with.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use super::connection::{Link, Way};
use crate::ownership::graph::{Node, TrackedArc};

/// What a partial send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken, at least one; the rest is still the caller's.
    Bytes(usize),
    /// There is no room. The connection's notifier is told when there is.
    Pending,
}

/// Sends on one connection. Dropping it flushes, closes the writing half, so that the peer reads the
/// end, and lets go of the connection.
///
/// Until it is [shared](MsgSender::share) it is the connection's task's own: what is sent in there, by
/// a callback, goes straight to the kernel; any other task is refused, as a non-owner is, and its
/// attempt reported. Dropped by another task, such a sender ends the reading as well, because only the
/// connection's own task could end the writing.
pub struct MsgSender {
    link: TrackedArc<Link>,
    node: Node,
}

impl MsgSender {
    pub(super) fn new(link: TrackedArc<Link>, node: Node) -> MsgSender {
        MsgSender { link, node }
    }

    /// Sends all of it; waits while the peer, or the queue, takes nothing (back-pressure).
    ///
    /// # Errors
    /// The connection is over, or was cut; the registry's refusal. How much was sent is not told.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.link.core().way_out()? {
            Way::Direct(stream) => (&*stream).write_all(bytes),
            Way::Queue(outbox) => outbox.send(bytes),
        }
    }

    /// Sends what there is room for, without waiting; answers how much that was, perhaps nothing.
    ///
    /// # Errors
    /// As [`send`](MsgSender::send).
    #[track_caller]
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.link.core().way_out()? {
            Way::Direct(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                answer => answer,
            },
            Way::Queue(outbox) => outbox.try_send(bytes),
        }
    }

    /// Sends what there is room for, without waiting; where there is none, it is
    /// [`Sent::Pending`], and the notifier is told when there is.
    ///
    /// # Errors
    /// As [`send`](MsgSender::send).
    #[track_caller]
    pub fn send_some(&self, bytes: &[u8]) -> io::Result<Sent> {
        let core = self.link.core();
        match core.way_out()? {
            Way::Direct(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    core.await_room();
                    Ok(Sent::Pending)
                }
                answer => answer.map(Sent::Bytes),
            },
            Way::Queue(outbox) => outbox.send_some(bytes),
        }
    }

    /// Waits until all that was sent is with the kernel. Nothing needs this in order to be sent.
    ///
    /// # Errors
    /// As [`send`](MsgSender::send).
    #[track_caller]
    pub fn flush(&self) -> io::Result<()> {
        match self.link.core().way_out()? {
            // Nothing is held back here.
            Way::Direct(_) => Ok(()),
            Way::Queue(outbox) => outbox.flush(),
        }
    }

    /// Lets all tasks send: the writing half is given to a task of its own, which writes what they
    /// queue. In the connection's task, that is in a callback; once is enough.
    ///
    /// # Errors
    /// No thread could be had, or another task asks; then nothing has changed.
    #[track_caller]
    pub fn share(&self) -> io::Result<()> {
        self.link.core().share(self.link.parts())
    }

    /// Which connection it sends on.
    #[must_use]
    pub fn connection(&self) -> &super::ConnectionLabel {
        self.link.core().label()
    }

    /// What stands for it in the graph of references: for a [`TrackedArc`] that counts who holds it.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl Drop for MsgSender {
    fn drop(&mut self) {
        let core = Arc::clone(self.link.core());
        core.sender_is_gone();
    }
}

impl fmt::Debug for MsgSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MsgSender({})", self.connection())
    }
}
