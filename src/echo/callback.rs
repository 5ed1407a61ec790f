//! Connections by callbacks, like those of SocketManager, and the echo handler on them.
//!
//! A [`SocketManager`] listens and connects. It calls a [`ConnCallback`] when a connection begins,
//! when its peer has finished, and when it has ended. The callback gets a connection in two parts:
//! the [`Connection`], which it starts with a [`MsgReceiver`] for the input, and a [`MsgSender`]
//! for the output. When the sender is dropped, the peer reads the end of the stream.
//!
//! ```text
//! SocketManager ─> ConnCallback ─> Connection ─> Notifier, MsgReceiver
//!                                  Sender ────────┘ (holds the connection)
//! ```
//!
//! The failure story. An echo replies inside the receiver, with the sender. So the receiver holds
//! the sender, the sender holds the connection, and the connection holds the receiver: a reference
//! cycle, which keeps the connection indefinitely. The code that makes the cycle has to break it at
//! *every* end. If it does so only when the peer finishes, each reset leaks a connection.
//! [`Callback`], the echo handler, breaks it at every end and can record the graph of references at
//! each step.
//!
//! # Promises
//!
//! - Exactly one [`on_connection_close`](ConnCallback::on_connection_close) follows each
//!   [`on_connect`](ConnCallback::on_connect), after a reset, an error, a panic or an abort, too.
//!   [`on_remote_close`](ConnCallback::on_remote_close), if it is called, comes before it.
//! - [`connect_to_addr`](SocketManager::connect_to_addr) leads to `on_connect` or to
//!   [`on_connect_error`](ConnCallback::on_connect_error), to exactly one of them.
//! - A callback that fails or panics closes its own connection and no other.
//! - No lock of the manager is held while a callback runs.
//! - The memory of a connection is bounded: the bytes that are read at a time, and the bytes that
//!   wait to be sent ([`QUEUE_BYTES`], only for a shared sender).
//! - No timer delays output: bytes are in the kernel when `send` returns, or as soon as it has
//!   room.
//!
//! # Ownership
//!
//! A connection is a task, which owns the socket. It reads and calls the receiver, and the sender
//! sends in the same task: a message and its reply are one `recv(2)` and one `send(2)`, as without
//! callbacks. For other tasks, the sender is [shared](MsgSender::share): the write half of the
//! socket is given to a task of its own, and what is sent goes through a bounded queue. A sender
//! that is not shared rejects other tasks, like any descriptor.
//!
//! At its end, a connection's task releases all that it owns. If its own sender still exists then,
//! something keeps it. That is a leak, and its report names the cycle.
//!
//! # Examples
//! ```
//! use std::io;
//! use std::sync::mpsc::{Sender, channel};
//!
//! use echown::echo::callback::{ConnCallback, Connection, MsgSender, SocketManager, Taken};
//! use echown::pool::Pool;
//!
//! /// Greets each peer, and passes on what it receives.
//! struct Host(Sender<String>);
//!
//! impl ConnCallback for Host {
//!     fn on_listen(&self, _requested: std::net::SocketAddr, actual: std::net::SocketAddr) {
//!         let _ = self.0.send(actual.to_string());
//!     }
//!
//!     fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()> {
//!         sender.send(b"welcome")?;
//!         let received = self.0.clone();
//!         connection.start(move |message: &[u8]| {
//!             let _ = received.send(String::from_utf8_lossy(message).into_owned());
//!             Ok(Taken::All)
//!         })
//!     }
//! }
//!
//! let (sender, receiver) = channel();
//! let manager = SocketManager::new(Host(sender), &Pool::new())?;
//! manager.listen_on_addr("127.0.0.1:0")?;
//! let address = receiver.recv()?;
//! manager.connect_to_addr(&address, std::time::Duration::ZERO)?;
//! // Each end greets the other.
//! assert_eq!([receiver.recv()?, receiver.recv()?], ["welcome", "welcome"]);
//! manager.abort(true);
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Limits
//!
//! - While a receiver is [pending](Taken::Pending), the socket is checked for a reset ten times per
//!   second.
//! - The callbacks of one connection run one after the other: one that waits for another of the
//!   same connection waits indefinitely. (The notifier of a shared sender is the exception: the
//!   writer calls it.)
//!
//! # Sources
//!
//! The names and promises are those of the SocketManager crate; `docs/reference-servers.md` lists
//! the differences.

mod acceptor;
mod connection_task;
mod context;
mod echo;
mod handles;
mod manager;
mod shared;
mod watched;
mod writer;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::net::Address;
use crate::ownership::graph::TrackedArc;

pub use echo::Callback;
pub use handles::{Connection, MsgSender, MsgWaker};
pub use manager::SocketManager;
pub use writer::QUEUE_BYTES;

/// The callbacks of a manager. Those of one connection run one after the other in its task, those
/// of different connections at the same time.
pub trait ConnCallback: Send + Sync + 'static {
    /// A connection begins. It is read when this has returned and the connection was started, now
    /// or later, by any task. If its handle is dropped without a start, it is closed.
    ///
    /// # Errors
    /// An error closes the connection.
    fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()>;

    /// The peer has finished, and the receiver has taken all of its input; or the task is drained,
    /// and reading has ended. The manager has released the connection: only a sender still holds
    /// it.
    ///
    /// # Errors
    /// An error ends the sending, too.
    fn on_remote_close(&self, connection: &ConnectionLabel) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }

    /// The connection has ended. Called once for each [`on_connect`](ConnCallback::on_connect),
    /// also for one that failed.
    fn on_connection_close(&self, connection: &ConnectionLabel) {
        let _ = connection;
    }

    /// The manager listens. `actual` has the kernel's choice of port if `requested` has none.
    fn on_listen(&self, requested: SocketAddr, actual: SocketAddr) {
        let _ = (requested, actual);
    }

    /// The manager cannot listen on an address.
    fn on_listen_error(&self, address: SocketAddr, error: &io::Error) {
        let _ = (address, error);
    }

    /// A connect failed, or the manager was aborted first.
    fn on_connect_error(&self, address: SocketAddr, error: &io::Error) {
        let _ = (address, error);
    }
}

/// A connection's number and its two ends. Displayed as `connection 3 with 127.0.0.1:50000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConnectionLabel {
    /// Counted from 1; a manager uses no number twice.
    pub id: u64,
    /// This end.
    pub local: Address,
    /// The other end.
    pub peer: Address,
}

impl fmt::Display for ConnectionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} with {}", self.id, self.peer)
    }
}

/// Receives the input of a connection.
pub trait MsgReceiver: Send + Sync + 'static {
    /// Bytes have arrived, at least one, in order. Called in the connection's task.
    ///
    /// # Errors
    /// An error closes the connection.
    fn on_message(&self, message: &[u8]) -> io::Result<Taken>;
}

/// How much of a message was taken: by a receiver, or by a [partial send](MsgSender::send_some).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it.
    All,
    /// This many bytes, at least one. A receiver is called with the rest at once; a caller keeps it.
    Some(usize),
    /// None for now. A receiver is called again after the connection's waker is woken; meanwhile
    /// nothing is read, and the peer's sending slows down. After a send, the connection's notifier
    /// is called when there is room.
    Pending,
}

impl<F: Fn(&[u8]) -> io::Result<Taken> + Send + Sync + 'static> MsgReceiver for F {
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        self(message)
    }
}

/// A receiver whose references are recorded.
impl<T: MsgReceiver> MsgReceiver for TrackedArc<T> {
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        (**self).on_message(message)
    }
}

/// Is notified of room to send.
pub trait Notifier: Send + Sync + 'static {
    /// A [`send_some`](MsgSender::send_some) was pending, and now there is room. Called in the
    /// connection's task; if the sender is shared, in the writer.
    fn on_writable(&self);
}

/// A notifier whose references are recorded.
impl<T: Notifier> Notifier for TrackedArc<T> {
    fn on_writable(&self) {
        (**self).on_writable();
    }
}
