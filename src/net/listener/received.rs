//! Listeners that another process bound: from a service manager, or from the server that is replaced.
//!
//! The failure story: such a listener is one open file description in two processes. `shutdown(2)`, which
//! wakes a task that is cancelled, would end it for the other process as well, and every further client
//! would be rejected. So it is marked as shared ([`Record::set_shared`](crate::ownership::record::Record)),
//! and the tasks that accept from it wait for their stop pipe at the same time.

// The program uses it, and the library does not.
#![allow(dead_code)]

use std::io;
use std::os::fd::OwnedFd;

use echown_fd::{fd::Number, kind};
use rustix::io::FdFlags;
use rustix::net::sockopt::{self, Timeout};

use super::{Listener, ListenerOptions};
use crate::net::address::Address;
use crate::net::deadline;

/// The address of a descriptor that is a listening stream socket, TCP or Unix.
///
/// # Errors
/// What it is instead, as in `a udp socket`.
pub(crate) fn listening_address(fd: &OwnedFd) -> Result<Address, String> {
    match Number::of(fd).kind() {
        kind::TCP_LISTENER | kind::UNIX_LISTENER => {
            let address = rustix::net::getsockname(fd).map_err(io::Error::from);
            address.and_then(Address::of).map_err(|error| error.to_string())
        }
        other => {
            let article = if other.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
            Err(format!("{article} {other}"))
        }
    }
}

impl Listener {
    /// Whether another process has taken over: its queue is that process's.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handle().record().is_handed_over()
    }

    /// Becomes the owner of a listening socket that another process has, too. It is closed at `exec`.
    ///
    /// # Errors
    /// Errors of the system calls and the registry; the descriptor is closed.
    #[track_caller]
    pub(crate) fn own_shared(socket: OwnedFd) -> io::Result<Listener> {
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        let is_unix = Number::of(&socket).kind() == kind::UNIX_LISTENER;
        let listener = if is_unix {
            Listener::own(std::os::unix::net::UnixListener::from(socket))
                .map_err(io::Error::from)?
        } else {
            Listener::own(std::net::TcpListener::from(socket)).map_err(io::Error::from)?
        };
        listener.handle().record().set_shared();
        Ok(listener)
    }
}

impl ListenerOptions {
    /// Gives a received listener these options, as if [`bind`](ListenerOptions::bind) had made it, except for
    /// those of the bind itself.
    ///
    /// # Errors
    /// Errors of the system calls and the registry.
    #[track_caller]
    pub(crate) fn apply_to(&self, listener: &mut Listener) -> io::Result<()> {
        let handle = listener.handle();
        handle.call(|fd| sockopt::set_socket_oobinline(fd, true))?;
        deadline::set_timeout(handle, Timeout::Send, self.accepted.write_timeout)?;
        if handle.record().kind == kind::TCP_LISTENER {
            handle.call(|fd| sockopt::set_tcp_nodelay(fd, self.accepted.nodelay))?;
            match self.accepted.keep_alive {
                Some(keep_alive) => handle.call(|fd| keep_alive.apply_to(fd))?,
                None => handle.call(|fd| sockopt::set_socket_keepalive(fd, false))?,
            }
        }
        listener.0.accepted = self.accepted;
        listener.0.stop_quota = super::StopQuota::new(self.backlog);
        Ok(())
    }

    /// Sets the length of a listener's queue to these options' (`listen(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn set_backlog(&self, listener: &Listener) -> io::Result<()> {
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        listener.handle().call(|fd| rustix::net::listen(fd, backlog))
    }
}
