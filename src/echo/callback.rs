//! Callbacks, and a cycle of references that is broken: connections in the manner of SocketManager.
//!
//! A [`SocketManager`] listens and connects, and calls a [`ConnCallback`] when a connection stands,
//! when its peer has finished, and when it is over. A connection is handed over in two parts: the
//! [`Connection`], which is started with a [`MsgReceiver`], and a [`MsgSender`]. What arrives is
//! given to the receiver; the sender sends, and when it is dropped, the peer reads the end.
//!
//! ```text
//! SocketManager ─> ConnCallback ─> Connection ─> Notifier, MsgReceiver
//!                                  Sender ────────┘ (holds the connection)
//! ```
//!
//! The failure story. An echo answers with the sender from within the receiver. So the receiver holds
//! the sender, which holds the connection, which holds the receiver: a cycle, in which the connection
//! would stay for ever. Whoever ties it has to cut it, at *every* end: one that is cut only when the
//! peer finishes stays after each reset. [`Callback`], the echo that stands on all this, cuts it at
//! every end and says how at each step, in pictures.
//!
//! # What is promised
//!
//! - Exactly one [`on_connection_close`](ConnCallback::on_connection_close) follows each
//!   [`on_connect`](ConnCallback::on_connect), whatever came between: a reset, an error, a panic, an
//!   abort. [`on_remote_close`](ConnCallback::on_remote_close) comes before it, if it comes.
//! - [`connect_to_addr`](SocketManager::connect_to_addr) leads to `on_connect` or to
//!   [`on_connect_error`](ConnCallback::on_connect_error), never to both and never to neither.
//! - A callback that fails or panics closes its connection, and no other.
//! - Nothing of the manager's is locked while a callback runs.
//! - What one connection keeps in memory is bounded, whatever its peer does: what it reads at a time,
//!   and what waits to be sent ([`QUEUE_BYTES`], only of a sender that is shared).
//! - Nothing is held back and no timer sends it: bytes are with the kernel when `send` returns, or as
//!   soon as it takes them.
//!
//! # Who owns what
//!
//! A connection is a task, and the task owns the socket. It reads, calls back, and the sender sends
//! in it: reading and answering is a `recv(2)` and a `send(2)`, as it is without any callback. A
//! sender that other tasks are to use is [shared](MsgSender::share): then the writing half of the
//! socket is given to a task of its own, the reading half stays, and what is sent goes through a
//! bounded queue. One that is not shared is refused to other tasks, as any descriptor is.
//!
//! At its end a connection's task gives back all that it owns. If its own sender is still there by
//! then, something keeps it: that is a leak, and its report names the cycle.
//!
//! # Examples
//! ```
//! use std::io;
//! use std::sync::mpsc::{Sender, channel};
//!
//! use echown::echo::callback::{ConnCallback, Connection, MsgSender, SocketManager, Taken};
//! use echown::pool::Pool;
//!
//! /// Greets whoever connects, and passes on what it hears.
//! struct Host(Sender<String>);
//!
//! impl ConnCallback for Host {
//!     fn on_listen(&self, _asked: std::net::SocketAddr, actual: std::net::SocketAddr) {
//!         let _ = self.0.send(actual.to_string());
//!     }
//!
//!     fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()> {
//!         sender.send(b"welcome")?;
//!         let heard = self.0.clone();
//!         connection.start(move |message: &[u8]| {
//!             let _ = heard.send(String::from_utf8_lossy(message).into_owned());
//!             Ok(Taken::All)
//!         })
//!     }
//! }
//!
//! let (heard, hear) = channel();
//! let manager = SocketManager::new(Host(heard), &Pool::new())?;
//! manager.listen_on_addr("127.0.0.1:0")?;
//! let address = hear.recv()?;
//! manager.connect_to_addr(&address, std::time::Duration::ZERO)?;
//! // Each end greets the other.
//! assert_eq!([hear.recv()?, hear.recv()?], ["welcome", "welcome"]);
//! manager.abort(true);
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Limits
//!
//! - While a receiver is [pending](Taken::Pending) nothing tells of the peer's reset; it is looked
//!   for ten times a second.
//! - A callback that waits for another one of the same connection waits for ever: they are called one
//!   after the other. (The notifier of a shared sender is the exception: its writer calls it.)
//!
//! # Sources
//!
//! The names, and what they promise, are those of the SocketManager crate; `docs/reference-servers.md` says
//! what differs.

mod acceptor;
mod connection;
mod context;
mod echo;
mod life;
mod manager;
mod receiver;
mod sender;
mod waiters;
mod writer;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::net::Address;

pub use connection::Connection;
pub use echo::{Callback, GraphSnapshot};
pub use manager::SocketManager;
pub use receiver::{MsgReceiver, MsgWaker, Notifier, Taken};
pub use sender::{MsgSender, Sent};
pub use writer::QUEUE_BYTES;

/// What a manager calls. The calls about one connection come one after the other, in its task;
/// those about different ones come at the same time.
pub trait ConnCallback: Send + Sync + 'static {
    /// A connection stands. It is read from once this has returned and the connection was started,
    /// here or later, by any task; one whose handle is dropped unstarted is closed.
    ///
    /// # Errors
    /// Whatever should close the connection.
    fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()>;

    /// The peer has finished, and all that it had sent was taken; or the task is being drained, and
    /// nothing more will be read. The manager has let go of the connection: only a sender holds it
    /// now.
    ///
    /// # Errors
    /// Whatever should end the sending too.
    fn on_remote_close(&self, connection: &ConnectionLabel) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }

    /// The connection is over. Comes once for each [`on_connect`](ConnCallback::on_connect), also
    /// for one that failed.
    fn on_connection_close(&self, connection: &ConnectionLabel) {
        let _ = connection;
    }

    /// The manager listens. `actual` has the port that the kernel chose where `asked` has none.
    fn on_listen(&self, asked: SocketAddr, actual: SocketAddr) {
        let _ = (asked, actual);
    }

    /// An address cannot be listened on.
    fn on_listen_error(&self, address: SocketAddr, error: &io::Error) {
        let _ = (address, error);
    }

    /// A connection could not be made, or the manager was aborted before it was.
    fn on_connect_error(&self, address: SocketAddr, error: &io::Error) {
        let _ = (address, error);
    }
}

/// Which connection: its number, and its two ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConnectionLabel {
    /// Counted from 1, and never used again by the same manager.
    pub id: u64,
    /// This end.
    pub local: Address,
    /// The other end.
    pub peer: Address,
}

/// `connection 3 with 127.0.0.1:50000`.
impl fmt::Display for ConnectionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} with {}", self.id, self.peer)
    }
}
