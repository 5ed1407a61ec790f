//! The system calls that move bytes and connections, each in one place: here a saboteur is asked what
//! the kernel shall answer (see [`faults`](crate::faults)). Everybody else makes them through this
//! file; `tests/tidy.rs` holds that.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, Timespec};
use rustix::io::Result;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags,
};

use crate::faults::{Call, Saboteur, Waits};
use crate::ownership::Held;
use crate::ownership::handle::Handle;

/// The kind of a UDP socket, as registries have it.
const UDP: &str = "udp socket";

/// Who may make the calls fail; mostly nobody.
#[derive(Clone, Copy)]
pub(super) struct Kernel<'a>(Option<&'a Saboteur>);

impl<'a> Kernel<'a> {
    /// The kernel as a resource's registry meets it.
    #[inline]
    pub(super) fn of<C: Held>(handle: &'a Handle<C>) -> Kernel<'a> {
        let record = handle.record();
        // A datagram is whole or lost; nothing that is said here of streams holds for it.
        Kernel(record.registry.saboteur().filter(|_| record.kind != UDP))
    }

    #[inline]
    fn before(self, call: impl FnOnce() -> Call) -> Result<()> {
        self.0.map_or(Ok(()), |saboteur| saboteur.before(call()))
    }

    /// How many bytes of `most` a call may move.
    #[inline]
    fn room(self, most: usize) -> usize {
        self.0.map_or(most, |saboteur| saboteur.shorten(most))
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
        let room = self.room(buffer.len());
        rustix::net::recv(fd, &mut buffer[..room], flags).map(|(bytes, _)| bytes)
    }

    /// `send(2)`.
    #[inline]
    pub(super) fn send(self, fd: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> Result<usize> {
        self.before(|| Call::Send(waits(!flags.contains(SendFlags::DONTWAIT))))?;
        rustix::net::send(fd, &bytes[..self.room(bytes.len())], flags)
    }

    /// `sendmsg(2)`, without control messages.
    pub(super) fn sendmsg(
        self,
        fd: BorrowedFd<'_>,
        buffers: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize> {
        self.before(|| Call::Send(waits(!flags.contains(SendFlags::DONTWAIT))))?;
        if let Some(first) = self.first_in_part(buffers) {
            return rustix::net::send(fd, first, flags);
        }
        let mut control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(fd, buffers, &mut control, flags)
    }

    /// `read(2)`: for what is no socket.
    #[inline]
    pub(super) fn read(self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        self.before(|| Call::Other)?;
        let room = self.room(buffer.len());
        rustix::io::read(fd, &mut buffer[..room])
    }

    /// `readv(2)`: for what is no socket, and for sockets.
    pub(super) fn readv(self, fd: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.before(|| Call::Other)?;
        rustix::io::readv(fd, buffers)
    }

    /// `write(2)`: for what is no socket.
    #[inline]
    pub(super) fn write(self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
        self.before(|| Call::Other)?;
        rustix::io::write(fd, &bytes[..self.room(bytes.len())])
    }

    /// `writev(2)`: for what is no socket.
    pub(super) fn writev(self, fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
        self.before(|| Call::Other)?;
        match self.first_in_part(buffers) {
            Some(first) => rustix::io::write(fd, first),
            None => rustix::io::writev(fd, buffers),
        }
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
        patience: Option<&Timespec>,
    ) -> Result<usize> {
        self.before(|| Call::Other)?;
        rustix::event::poll(polled, patience)
    }

    /// A part of the first buffer, if no more than that is to be moved.
    fn first_in_part<'b>(self, buffers: &'b [IoSlice<'_>]) -> Option<&'b [u8]> {
        let first = buffers.first()?;
        let room = self.room(first.len());
        (room < first.len()).then(|| &first[..room])
    }
}

fn waits(is_waiting: bool) -> Waits {
    if is_waiting { Waits::Yes } else { Waits::No }
}
