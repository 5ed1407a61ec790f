//! Checked descriptors: sockets, pipes and files whose every call is checked for ownership first.
//!
//! They are used like those of the standard library, with two differences. Each has one owner, the task
//! that made it, until it is given, transferred or offered; it belongs to that task's
//! [current registry](crate::ownership::Registry::current). Any other user gets an ordinary
//! [`io::Error`](std::io::Error), before the system call, in which
//! [`Error::in_io`](crate::ownership::Error::in_io) finds the registry's error. And a task that is
//! cancelled while it is blocked in its own socket wakes and returns `Cancelled`: never a false end of
//! stream, and never [`ErrorKind::Interrupted`](std::io::ErrorKind::Interrupted).
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use std::net::Shutdown;
//!
//! use echown::net::{Listener, Stream};
//!
//! let listener = Listener::bind("127.0.0.1:0")?;
//! let client = Stream::connect_to(&listener.local_addr()?)?;
//! let (server, peer) = listener.accept()?;
//! assert_eq!(peer, client.local_addr()?);
//!
//! (&client).write_all(b"to be echoed")?;
//! client.shutdown(Shutdown::Write)?;
//! std::io::copy(&mut &server, &mut &server)?;
//! server.close()?;
//!
//! let mut echo = String::new();
//! (&client).read_to_string(&mut echo)?;
//! assert_eq!(echo, "to be echoed");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Limits
//!
//! - Cancelling does not wake a task that is blocked in a pipe or a file. [`Listener::accept_or_stop`],
//!   which waits for a pipe and a listener, does wake.
//! - A write that is cancelled half-way returns `Cancelled`, without how much of it was sent.
//! - No function returns a descriptor number or a borrowed descriptor, which could outlive the ownership.
//!   `disown` returns the owned descriptor.

mod accept_backoff;
mod adaptive_spin;
mod address;
mod adopt;
mod checked;
mod checked_io;
mod deadline;
mod endpoint;
mod file;
mod keep_alive;
mod line_buffer;
mod listener;
mod nonblocking;
mod pipe;
#[cfg(target_os = "linux")]
mod poller;
mod socket;
mod stop_quota;
mod stream;
mod syscalls;
mod udp;
mod wait;

pub(crate) use accept_backoff::{AcceptBackoff, is_exhaustion};
pub(crate) use adaptive_spin::AdaptiveSpin;
pub use address::Address;
pub use adopt::StdSocket;
pub use checked::Checked;
pub use endpoint::Endpoint;
pub use file::File;
pub use keep_alive::KeepAlive;
pub(crate) use line_buffer::CHUNK_BYTES as LINE_CHUNK_BYTES;
pub(crate) use line_buffer::{LineBuffer, LineStatus, Readiness};
pub(crate) use listener::listening_address;
pub use listener::{BACKLOG_DEFAULT, Listener, ListenerOptions};
pub use pipe::{PipeReader, PipeWriter, pipe};
#[cfg(target_os = "linux")]
pub(crate) use poller::{Events, Poller, Trigger};
#[cfg(target_os = "linux")]
#[cfg_attr(not(feature = "serve"), allow(unused_imports))]
pub(crate) use stream::Peer;
pub use stream::{ReadHalf, Stream, WriteHalf};
pub use udp::UdpSocket;
