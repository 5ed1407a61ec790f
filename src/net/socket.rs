//! New sockets that are owned from the start, and their addresses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use echown_fd::fd::Direction;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::ownership::{Owned, Registry, Site};
use crate::sys::platform::{self, Mode};

/// A new socket, owned from the start. A stream socket receives urgent data in line (`SO_OOBINLINE`):
/// otherwise reads skip the urgent byte, and no call of a [`Stream`](super::Stream) returns it. Accepted TCP sockets
/// inherit that from their listener.
#[track_caller]
pub(super) fn socket(
    family: AddressFamily,
    socket_type: SocketType,
    mode: Mode,
    kind: &'static str,
) -> io::Result<Owned<OwnedFd>> {
    let socket = platform::socket(family, socket_type, mode)?;
    if socket_type == SocketType::STREAM {
        sockopt::set_socket_oobinline(&socket, true)?;
    }
    let socket = Registry::current().own_fd_as(socket, kind, None, Site::here())?;
    socket.handle().record().set_may_time_out(Direction::Both, false);
    Ok(socket)
}

/// The address family of an address.
pub(super) fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Converts a path to an address.
pub(super) fn unix_path(path: &Path) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(path)?)
}
