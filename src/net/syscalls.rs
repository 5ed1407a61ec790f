//! The system calls that move bytes and connections, each in one place: here a saboteur is asked what
//! the kernel shall result (see [`faults`](crate::faults)). Everybody else makes them through this
//! file; `tests/tidy.rs` holds that.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use echown_fd::kind;
use rustix::event::{PollFd, Timespec};
use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix,
    SocketFlags,
};

use crate::faults::{Call, Saboteur, Waits};
use crate::ownership::Held;
use crate::ownership::handle::Handle;

/// The kind of a UDP socket, as registries have it.
const UDP: &str = kind::UDP_SOCKET;

/// Who may make the calls fail; mostly nobody.
#[derive(Clone, Copy)]
pub(super) struct Syscalls<'a>(Option<&'a Saboteur>);

impl<'a> Syscalls<'a> {
    /// The kernel as a resource's registry meets it.
    #[inline]
    pub(super) fn of<C: Held>(handle: &'a Handle<C>) -> Syscalls<'a> {
        let record = handle.record();
        // A datagram is whole or lost; nothing that is said here of streams holds for it.
        Syscalls(record.registry.saboteur().filter(|_| record.kind != UDP))
    }

    #[inline]
    fn before(self, call: impl FnOnce() -> Call) -> Result<()> {
        self.0.map_or(Ok(()), |saboteur| saboteur.before(call()))
    }

    /// Has a call move bytes, as many as it may of `most`.
    #[inline]
    fn moving(self, most: usize, call: impl FnOnce(usize) -> Result<usize>) -> Result<usize> {
        let Some(saboteur) = self.0 else { return call(most) };
        let room = saboteur.shorten(most);
        call(room).inspect(|&bytes| saboteur.moved(bytes, room, most))
    }

    /// Has a call read bytes, as many as it may of `most`. It was not cut short where nothing is left:
    /// a byte that comes alone may meet a room of one.
    #[inline]
    fn reading(
        self,
        fd: BorrowedFd<'_>,
        most: usize,
        call: impl FnOnce(usize) -> Result<usize>,
    ) -> Result<usize> {
        let Some(saboteur) = self.0 else { return call(most) };
        let room = saboteur.shorten(most);
        call(room).inspect(|&bytes| {
            if !rustix::io::ioctl_fionread(fd).is_ok_and(|left| left == 0) {
                saboteur.moved(bytes, room, most);
            }
        })
    }

    /// `recv(2)`.
    #[inline]
    pub(super) fn recv(
        self,
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
        flags: RecvFlags,
    ) -> Result<usize> {
        self.before(|| Call::Receive(waits(!flags.contains(RecvFlags::DONTWAIT))))?;
        self.reading(fd, buffer.len(), |room| {
            rustix::net::recv(fd, &mut buffer[..room], flags).map(|(bytes, _)| bytes)
        })
    }

    /// `send(2)`.
    #[inline]
    pub(super) fn send(self, fd: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> Result<usize> {
        self.before(|| Call::Send(waits(!flags.contains(SendFlags::DONTWAIT))))?;
        self.moving(bytes.len(), |room| rustix::net::send(fd, &bytes[..room], flags))
    }

    /// `sendmsg(2)`, without control messages.
    pub(super) fn sendmsg(
        self,
        fd: BorrowedFd<'_>,
        buffers: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize> {
        self.before(|| Call::Send(waits(!flags.contains(SendFlags::DONTWAIT))))?;
        self.moving_first(buffers, |part| match part {
            Some(part) => rustix::net::send(fd, part, flags),
            None => {
                let mut control = SendAncillaryBuffer::default();
                rustix::net::sendmsg(fd, buffers, &mut control, flags)
            }
        })
    }

    /// `read(2)`: for what is no socket.
    #[inline]
    pub(super) fn read(self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        self.before(|| Call::Other)?;
        self.reading(fd, buffer.len(), |room| rustix::io::read(fd, &mut buffer[..room]))
    }

    /// `recvmsg(2)`, without control messages.
    pub(super) fn recvmsg(
        self,
        fd: BorrowedFd<'_>,
        buffers: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<usize> {
        self.before(|| Call::Receive(waits(!flags.contains(RecvFlags::DONTWAIT))))?;
        let mut control = RecvAncillaryBuffer::default();
        rustix::net::recvmsg(fd, buffers, &mut control, flags).map(|received| received.bytes)
    }

    /// `readv(2)`: for what is no socket.
    pub(super) fn readv(self, fd: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.before(|| Call::Other)?;
        rustix::io::readv(fd, buffers)
    }

    /// `write(2)`: for what is no socket.
    #[inline]
    pub(super) fn write(self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
        self.before(|| Call::Other)?;
        self.moving(bytes.len(), |room| rustix::io::write(fd, &bytes[..room]))
    }

    /// `writev(2)`: for what is no socket.
    pub(super) fn writev(self, fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
        self.before(|| Call::Other)?;
        self.moving_first(buffers, |part| match part {
            Some(part) => rustix::io::write(fd, part),
            None => rustix::io::writev(fd, buffers),
        })
    }

    /// `accept4(2)`, of a listener that waits or not.
    pub(super) fn accept(
        self,
        fd: BorrowedFd<'_>,
        is_waiting: bool,
    ) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
        self.before(|| Call::Accept(waits(is_waiting)))?;
        rustix::net::acceptfrom_with(fd, SocketFlags::CLOEXEC)
    }

    /// `connect(2)` by TCP or UDP.
    pub(super) fn connect(self, fd: BorrowedFd<'_>, address: &SocketAddr) -> Result<()> {
        self.before(|| Call::Connect)?;
        rustix::net::connect(fd, address)
    }

    /// `connect(2)` to a Unix socket.
    pub(super) fn connect_unix(self, fd: BorrowedFd<'_>, address: &SocketAddrUnix) -> Result<()> {
        self.before(|| Call::Connect)?;
        rustix::net::connect(fd, address)
    }

    /// `poll(2)`.
    pub(super) fn poll(
        self,
        polled: &mut [PollFd<'_>],
        timeout: Option<&Timespec>,
    ) -> Result<usize> {
        self.before(|| Call::Other)?;
        rustix::event::poll(polled, timeout)
    }

    /// Has a call move a part of the first buffer, if no more than that is to be moved.
    fn moving_first<'b>(
        self,
        buffers: &'b [IoSlice<'_>],
        call: impl FnOnce(Option<&'b [u8]>) -> Result<usize>,
    ) -> Result<usize> {
        let first: &'b [u8] = buffers.first().map_or(&[], |first| &**first);
        self.moving(first.len(), |room| call((room < first.len()).then(|| &first[..room])))
    }
}

pub(super) fn waits(is_waiting: bool) -> Waits {
    if is_waiting { Waits::Yes } else { Waits::No }
}

/// Whether an accept failed because of that one connection, which is out of the backlog: the next
/// may do (accept(2), "Error handling").
pub(super) fn was_gone(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
    )
}
