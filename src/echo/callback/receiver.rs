//! What gives the bytes of a connection to the program: receiver, notifier, and the waker that
//! resumes a receiver which said that it cannot take more just now.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use super::connection::Core;
use crate::ownership::graph::{Edge, Node, TrackedArc};

/// How much of a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it.
    All,
    /// So many bytes, at least one; the rest comes again at once, at the head of the next message.
    Some(usize),
    /// None for now. All of it comes again once the connection's waker was woken. Meanwhile nothing
    /// more is read, and the peer finds its sending slowed down.
    Pending,
}

/// Takes what arrives on a connection.
pub trait MsgReceiver: Send + Sync + 'static {
    /// Some bytes have arrived, at least one, in order. Called in the connection's task.
    ///
    /// # Errors
    /// Whatever should close the connection.
    fn on_message(&self, message: &[u8]) -> io::Result<Taken>;
}

impl<F> MsgReceiver for F
where
    F: Fn(&[u8]) -> io::Result<Taken> + Send + Sync + 'static,
{
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        self(message)
    }
}

/// A receiver whose references are on record.
impl<T: MsgReceiver> MsgReceiver for TrackedArc<T> {
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        (**self).on_message(message)
    }
}

/// Hears that sending may go on.
pub trait Notifier: Send + Sync + 'static {
    /// A [`send_some`](super::MsgSender::send_some) was pending, and there is room now. Called in the
    /// connection's task, or in that of its writer if the sender is shared.
    fn on_writable(&self);
}

/// A notifier whose references are on record.
impl<T: Notifier> Notifier for TrackedArc<T> {
    fn on_writable(&self) {
        (**self).on_writable();
    }
}

/// Resumes a receiver that said [`Taken::Pending`]. From any task, any number of times; it does not
/// keep the connection alive.
pub struct MsgWaker {
    core: Weak<Core>,
    node: Node,
    _to_task: Edge,
}

impl MsgWaker {
    pub(super) fn new(core: &Arc<Core>) -> MsgWaker {
        let node = Node::new_in(core.registry(), "Waker");
        let task = Node::new_in(core.registry(), core.task().label().to_string());
        MsgWaker { core: Arc::downgrade(core), _to_task: node.weak_edge(&task), node }
    }

    /// Lets the receiver be called again. Woken before the receiver has said that it is pending, it
    /// is called again all the same.
    pub fn wake(&self) {
        if let Some(core) = self.core.upgrade() {
            core.resume();
        }
    }

    /// What stands for it in the graph of references: for a [`TrackedArc`] that counts who holds it.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for MsgWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.core.upgrade() {
            Some(core) => write!(f, "MsgWaker({})", core.label()),
            None => f.write_str("MsgWaker(of a connection that is gone)"),
        }
    }
}
