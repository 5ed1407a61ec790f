//! System calls that differ between systems: descriptors that are close-on-exec from the start, sends
//! without SIGPIPE, names of Unix sockets.
//!
//! # Limits
//! macOS cannot make a descriptor close-on-exec in the call that opens it. A program that another thread
//! starts between the two calls inherits the descriptor.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketType};

pub(crate) use calls::{NO_SIGNAL, accept, pipe, socket, socket_pair};

/// Whether calls on a new socket wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Blocking,
    NonBlocking,
}

/// The address of a Unix socket with an abstract name, which only Linux has.
///
/// # Errors
/// The name is too long. `EINVAL` on other systems.
pub(crate) fn abstract_name(name: &[u8]) -> Result<SocketAddrUnix> {
    #[cfg(target_os = "linux")]
    return SocketAddrUnix::new_abstract_name(name);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = name;
        Err(rustix::io::Errno::INVAL)
    }
}

#[cfg(not(target_vendor = "apple"))]
mod calls {
    use rustix::net::{SendFlags, SocketFlags};
    use rustix::pipe::PipeFlags;

    use super::*;

    /// For sends: an error instead of SIGPIPE.
    pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

    /// `pipe2(2)`: the ends to read from and to write to.
    pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
    }

    /// `socket(2)`.
    pub(crate) fn socket(family: AddressFamily, kind: SocketType, mode: Mode) -> Result<OwnedFd> {
        let flags = match mode {
            Mode::Blocking => SocketFlags::CLOEXEC,
            Mode::NonBlocking => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        };
        rustix::net::socket_with(family, kind, flags, None)
    }

    /// `socketpair(2)` of Unix stream sockets.
    pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)
    }

    /// `accept4(2)`.
    #[inline]
    pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
        rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC)
    }
}

#[cfg(target_vendor = "apple")]
mod calls {
    use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
    use rustix::net::sockopt::set_socket_nosigpipe;
    use rustix::net::{SendFlags, SocketFlags};

    use super::*;

    /// For sends. Here sockets have an option instead of it.
    pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();

    /// `pipe(2)`: the ends to read from and to write to.
    pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe()?;
        fcntl_setfd(&reader, FdFlags::CLOEXEC)?;
        fcntl_setfd(&writer, FdFlags::CLOEXEC)?;
        Ok((reader, writer))
    }

    /// `socket(2)`.
    pub(crate) fn socket(family: AddressFamily, kind: SocketType, mode: Mode) -> Result<OwnedFd> {
        let socket = with_options(rustix::net::socket(family, kind, None)?)?;
        ioctl_fionbio(&socket, mode == Mode::NonBlocking)?;
        Ok(socket)
    }

    /// `socketpair(2)` of Unix stream sockets.
    pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let (one, other) = rustix::net::socketpair(family, kind, SocketFlags::empty(), None)?;
        Ok((with_options(one)?, with_options(other)?))
    }

    /// `accept(2)`. The accepted socket does not inherit the mode of its listener, as on Linux.
    pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
        let (socket, address) = rustix::net::acceptfrom(listener)?;
        let socket = with_options(socket)?;
        ioctl_fionbio(&socket, false)?;
        Ok((socket, address))
    }

    fn with_options(socket: OwnedFd) -> Result<OwnedFd> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        set_socket_nosigpipe(&socket, true)?;
        Ok(socket)
    }
}
