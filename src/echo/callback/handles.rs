//! The handles of a connection: the connection itself, its sender, and the waker of its receiver.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Weak};

use super::shared::{Callbacks, Shared, Socket, Start, ended};
use super::writer;
use super::{ConnectionLabel, MsgReceiver, Notifier, Taken};
use crate::net::Stream;
use crate::ownership::graph::{Edge, Node, TrackedArc, edge};

/// The target of a recorded reference to a connection.
pub(super) struct ConnectionRef {
    pub(super) shared: Arc<Shared>,
    pub(super) callbacks: Arc<Callbacks>,
    /// The socket is in `shared`.
    _to_socket: Edge,
}

impl ConnectionRef {
    pub(super) fn new(shared: &Arc<Shared>, node: &Node, socket: &Node) -> ConnectionRef {
        let (shared, callbacks) = (Arc::clone(shared), Arc::default());
        ConnectionRef { shared, callbacks, _to_socket: edge(node, socket) }
    }
}

/// A new connection, to be started or closed. A drop before the start closes it.
pub struct Connection {
    link: TrackedArc<ConnectionRef>,
    callback: Node,
}

impl Connection {
    pub(super) fn new(link: TrackedArc<ConnectionRef>, callback: Node) -> Connection {
        Connection { link, callback }
    }

    /// Starts to read and to call the receiver. In [`on_connect`](super::ConnCallback::on_connect),
    /// reading starts when that has returned.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn start(self, receiver: impl MsgReceiver) -> io::Result<()> {
        let _ = self.link.callbacks.receiver.set(Box::new(receiver));
        let shared = &self.link.shared;
        if shared.state.lock().socket.is_none() {
            return Err(ended());
        }
        shared.state.update(|state| state.start = Start::Started);
        Ok(())
    }

    /// [`start`](Connection::start) with a notifier, which is called when there is room to send.
    ///
    /// # Errors
    /// See [`start`](Connection::start).
    pub fn start_with(self, receiver: impl MsgReceiver, notifier: impl Notifier) -> io::Result<()> {
        let _ = self.link.callbacks.notifier.set(Box::new(notifier));
        self.start(receiver)
    }

    /// Closes the connection without starting it.
    pub fn close(self) {
        drop(self);
    }

    /// The waker that resumes the receiver when it is pending.
    #[must_use]
    pub fn waker(&self) -> MsgWaker {
        let shared = &self.link.shared;
        let _entered = shared.registry.enter();
        let node = Node::new("Waker");
        let task = Node::new(shared.task.label().to_string());
        MsgWaker { shared: Arc::downgrade(shared), _to_task: node.weak_edge(&task), node }
    }

    /// Which connection it is.
    #[must_use]
    pub fn label(&self) -> &ConnectionLabel {
        &self.link.shared.label
    }

    /// Its node in the graph of references: it holds what it was started with.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.link.node()
    }

    /// The callback's node in the graph of references: it holds what the callback keeps for this
    /// connection.
    #[must_use]
    pub fn callback_node(&self) -> &Node {
        &self.callback
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let shared = &self.link.shared;
        if shared.state.lock().start == Start::Awaited {
            shared.state.update(|state| state.start = Start::Never);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.label())
    }
}

/// Sends on one connection. A drop flushes, sends the end of the stream and releases the
/// connection.
///
/// Until it is [shared](MsgSender::share) it belongs to the connection's task. What a callback
/// sends there goes directly to the kernel. Any other task is rejected as a non-owner, and the
/// attempt is reported. If another task drops such a sender, reading ends as well, because only the
/// connection's task can send the end of the stream.
pub struct MsgSender {
    link: TrackedArc<ConnectionRef>,
    node: Node,
}

impl MsgSender {
    pub(super) fn new(link: TrackedArc<ConnectionRef>, node: Node) -> MsgSender {
        MsgSender { link, node }
    }

    /// Sends all of it. Waits while the peer, or the queue, accepts nothing (back-pressure).
    ///
    /// # Errors
    /// The connection has ended, or the registry rejects the task. Some bytes may have been sent.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.link.shared.direct_stream()? {
            Some(stream) => (&*stream).write_all(bytes),
            None => writer::push_all(&self.link.shared, bytes),
        }
    }

    /// Sends what there is room for, without waiting. Returns how many bytes that was, maybe zero.
    ///
    /// # Errors
    /// See [`send`](MsgSender::send).
    #[track_caller]
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_part(bytes, false)
    }

    /// Sends what there is room for, without waiting. If there is none, returns [`Taken::Pending`],
    /// and the notifier is called when there is some.
    ///
    /// # Errors
    /// See [`send`](MsgSender::send).
    #[track_caller]
    pub fn send_some(&self, bytes: &[u8]) -> io::Result<Taken> {
        let sent = self.send_part(bytes, true)?;
        Ok(match sent {
            _ if sent == bytes.len() => Taken::All,
            0 => Taken::Pending,
            _ => Taken::Some(sent),
        })
    }

    #[track_caller]
    fn send_part(&self, bytes: &[u8], awaits_room: bool) -> io::Result<usize> {
        let shared = &self.link.shared;
        match shared.direct_stream()? {
            Some(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    shared.state.lock().awaits_room |= awaits_room;
                    Ok(0)
                }
                result => result,
            },
            None => writer::push(shared, bytes, awaits_room),
        }
    }

    /// Waits until everything is passed to the kernel. Nothing needs this in order to be sent.
    ///
    /// # Errors
    /// See [`send`](MsgSender::send).
    #[track_caller]
    pub fn flush(&self) -> io::Result<()> {
        match self.link.shared.direct_stream()? {
            Some(_) => Ok(()),
            None => writer::flush(&self.link.shared),
        }
    }

    /// Lets all tasks send: gives the write half to a task of its own, which writes what they
    /// queue. To be called in the connection's task, that is in a callback. A second call changes
    /// nothing.
    ///
    /// # Errors
    /// No thread could be started, or this is another task; nothing has changed then.
    #[track_caller]
    pub fn share(&self) -> io::Result<()> {
        let shared = &self.link.shared;
        if shared.direct_stream()?.is_none() {
            return Ok(());
        }
        let socket = shared.state.lock().socket.take();
        let Some(Socket::Whole(stream)) = socket else {
            unreachable!("only the connection's task, which is this one, changes the socket")
        };
        let Ok(stream) = Arc::try_unwrap(stream) else {
            unreachable!("the connection's task holds the stream only while it reads or sends")
        };
        let (socket, result) = match stream.split() {
            Err(refused) => {
                let (error, stream) = refused.into_parts();
                (stream.map(Socket::whole), Err(error.into()))
            }
            Ok((read, write)) => match writer::spawn(shared, write, &self.link.callbacks) {
                Ok(()) => (Some(Socket::Split(Arc::new(read))), Ok(())),
                Err((error, write)) => match Stream::rejoin(read, write) {
                    Ok(stream) => (Some(Socket::whole(stream)), Err(error)),
                    Err(refused) => (None, Err(refused.error().clone().into())),
                },
            },
        };
        shared.state.lock().socket = socket;
        result
    }

    /// Which connection it sends on.
    #[must_use]
    pub fn connection(&self) -> &ConnectionLabel {
        &self.link.shared.label
    }

    /// Its node in the graph of references: for a [`TrackedArc`] that counts its holders.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl Drop for MsgSender {
    fn drop(&mut self) {
        self.link.shared.sender_is_dropped();
    }
}

impl fmt::Debug for MsgSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MsgSender({})", self.connection())
    }
}

/// Resumes a receiver that returned [`Taken::Pending`]: from any task, any
/// number of times. It does not keep the connection alive.
pub struct MsgWaker {
    shared: Weak<Shared>,
    node: Node,
    _to_task: Edge,
}

impl MsgWaker {
    /// Lets the receiver be called again. A wake before the receiver has returned `Pending` counts,
    /// too.
    pub fn wake(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state.update(|state| state.is_resumed = true);
        }
    }

    /// Its node in the graph of references: for a [`TrackedArc`] that counts its holders.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for MsgWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shared.upgrade() {
            Some(shared) => write!(f, "MsgWaker({})", shared.label),
            None => f.write_str("MsgWaker(of a connection that is gone)"),
        }
    }
}
