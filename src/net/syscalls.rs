//! The system calls that move bytes and connections, each in one place, where the fault injector decides
//! their result (see [`faults`](crate::faults)). All other code makes them through this file;
//! `tests/tidy.rs` checks that.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use echown_fd::kind;
#[cfg(target_os = "linux")]
use rustix::event::epoll::Event;
use rustix::event::{PollFd, Timespec};
use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix,
};

use crate::faults::{Fault, FaultInjector, Waits};
use crate::ownership::Managed;
use crate::ownership::handle::Handle;
use crate::sys::platform;

/// The kind of a UDP socket in registries.
const UDP: &str = kind::UDP_SOCKET;

/// The system calls of one resource, with the registry's fault injector, if it has one.
#[derive(Clone, Copy)]
pub(super) struct Syscalls<'a>(Option<&'a FaultInjector>);

impl<'a> Syscalls<'a> {
    /// The system calls for a resource.
    #[inline]
    pub(super) fn of<C: Managed>(handle: &'a Handle<C>) -> Syscalls<'a> {
        let record = handle.record();
        // A datagram is complete or lost; the faults of streams do not apply.
        Syscalls(record.registry.fault_injector().filter(|_| record.kind != UDP))
    }

    #[inline]
    fn before(self, fault: Option<Fault>, waits: Waits) -> Result<()> {
        self.0.map_or(Ok(()), |injector| injector.before(fault, waits))
    }

    /// Makes a call that moves up to `most` bytes, or fewer if a fault shortens it.
    #[inline]
    fn moving(self, most: usize, call: impl FnOnce(usize) -> Result<usize>) -> Result<usize> {
        let Some(injector) = self.0 else { return call(most) };
        let len = injector.shorten(most);
        call(len).inspect(|&bytes| injector.moved(bytes, len, most))
    }

    /// Makes a call that reads up to `most` bytes, or fewer if a fault shortens it. It counts as shortened
    /// only if bytes are left: a single byte may also fit into a buffer of one.
    #[inline]
    fn reading(
        self,
        fd: BorrowedFd<'_>,
        most: usize,
        call: impl FnOnce(usize) -> Result<usize>,
    ) -> Result<usize> {
        let Some(injector) = self.0 else { return call(most) };
        let len = injector.shorten(most);
        call(len).inspect(|&bytes| {
            if !rustix::io::ioctl_fionread(fd).is_ok_and(|left| left == 0) {
                injector.moved(bytes, len, most);
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
        self.before(Some(Fault::Read), waits(!flags.contains(RecvFlags::DONTWAIT)))?;
        self.reading(fd, buffer.len(), |len| {
            rustix::net::recv(fd, &mut buffer[..len], flags).map(|(bytes, _)| bytes)
        })
    }

    /// `send(2)`.
    #[inline]
    pub(super) fn send(self, fd: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> Result<usize> {
        self.before(Some(Fault::Write), waits(!flags.contains(SendFlags::DONTWAIT)))?;
        self.moving(bytes.len(), |len| rustix::net::send(fd, &bytes[..len], flags))
    }

    /// `sendmsg(2)`, without control messages.
    pub(super) fn sendmsg(
        self,
        fd: BorrowedFd<'_>,
        buffers: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize> {
        self.before(Some(Fault::Write), waits(!flags.contains(SendFlags::DONTWAIT)))?;
        self.moving_first(buffers, |part| match part {
            Some(part) => rustix::net::send(fd, part, flags),
            None => {
                let mut control = SendAncillaryBuffer::default();
                rustix::net::sendmsg(fd, buffers, &mut control, flags)
            }
        })
    }

    /// `read(2)`, for descriptors other than sockets.
    #[inline]
    pub(super) fn read(self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        self.before(None, Waits::Yes)?;
        self.reading(fd, buffer.len(), |len| rustix::io::read(fd, &mut buffer[..len]))
    }

    /// `recvmsg(2)`, without control messages.
    pub(super) fn recvmsg(
        self,
        fd: BorrowedFd<'_>,
        buffers: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<usize> {
        self.before(Some(Fault::Read), waits(!flags.contains(RecvFlags::DONTWAIT)))?;
        let mut control = RecvAncillaryBuffer::default();
        rustix::net::recvmsg(fd, buffers, &mut control, flags).map(|received| received.bytes)
    }

    /// `readv(2)`, for descriptors other than sockets.
    pub(super) fn readv(self, fd: BorrowedFd<'_>, buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.before(None, Waits::Yes)?;
        rustix::io::readv(fd, buffers)
    }

    /// `write(2)`, for descriptors other than sockets.
    #[inline]
    pub(super) fn write(self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
        self.before(None, Waits::Yes)?;
        self.moving(bytes.len(), |len| rustix::io::write(fd, &bytes[..len]))
    }

    /// `sendmsg(2)` with one descriptor.
    #[cfg(target_os = "linux")]
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn send_with(
        self,
        fd: BorrowedFd<'_>,
        bytes: &[u8],
        descriptor: BorrowedFd<'_>,
        flags: SendFlags,
    ) -> Result<usize> {
        use rustix::net::SendAncillaryMessage;
        self.before(Some(Fault::Write), waits(!flags.contains(SendFlags::DONTWAIT)))?;
        let one = [descriptor];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(&one));
        debug_assert!(fits, "there is space for one descriptor");
        rustix::net::sendmsg(fd, &[IoSlice::new(bytes)], &mut control, flags)
    }

    /// `recvmsg(2)` with up to `MOST` descriptors, which are appended. Returns how many bytes came, and
    /// whether all descriptors did.
    #[cfg(target_os = "linux")]
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn receive_with<const MOST: usize>(
        self,
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
        flags: RecvFlags,
    ) -> Result<(usize, bool)> {
        use rustix::net::{RecvAncillaryMessage, ReturnFlags};
        self.before(Some(Fault::Read), waits(!flags.contains(RecvFlags::DONTWAIT)))?;
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(buffer)];
        let received = rustix::net::recvmsg(fd, &mut buffers, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        Ok((received.bytes, !received.flags.contains(ReturnFlags::CTRUNC)))
    }

    /// `writev(2)`, for descriptors other than sockets.
    pub(super) fn writev(self, fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize> {
        self.before(None, Waits::Yes)?;
        self.moving_first(buffers, |part| match part {
            Some(part) => rustix::io::write(fd, part),
            None => rustix::io::writev(fd, buffers),
        })
    }

    /// `accept4(2)`, on a listener that blocks or not.
    pub(super) fn accept(
        self,
        fd: BorrowedFd<'_>,
        is_waiting: bool,
    ) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
        self.before(Some(Fault::Accept), waits(is_waiting))?;
        platform::accept(fd)
    }

    /// `connect(2)` by TCP or UDP.
    pub(super) fn connect(self, fd: BorrowedFd<'_>, address: &SocketAddr) -> Result<()> {
        self.before(Some(Fault::Connect), Waits::Yes)?;
        rustix::net::connect(fd, address)
    }

    /// `connect(2)` to a Unix socket.
    pub(super) fn connect_unix(self, fd: BorrowedFd<'_>, address: &SocketAddrUnix) -> Result<()> {
        self.before(Some(Fault::Connect), Waits::Yes)?;
        rustix::net::connect(fd, address)
    }

    /// `poll(2)`.
    pub(super) fn poll(
        self,
        polled: &mut [PollFd<'_>],
        timeout: Option<&Timespec>,
    ) -> Result<usize> {
        self.before(None, Waits::Yes)?;
        rustix::event::poll(polled, timeout)
    }

    /// `epoll_wait(2)`.
    #[cfg(target_os = "linux")]
    pub(super) fn epoll_wait<B: rustix::buffer::Buffer<Event>>(
        self,
        fd: BorrowedFd<'_>,
        events: B,
        timeout: Option<&Timespec>,
    ) -> Result<B::Output> {
        self.before(None, Waits::Yes)?;
        rustix::event::epoll::wait(fd, events, timeout)
    }

    /// Makes a call that moves a part of the first buffer, if a fault shortens it to less than that.
    fn moving_first<'b>(
        self,
        buffers: &'b [IoSlice<'_>],
        call: impl FnOnce(Option<&'b [u8]>) -> Result<usize>,
    ) -> Result<usize> {
        let first: &'b [u8] = buffers.first().map_or(&[], |first| &**first);
        self.moving(first.len(), |len| call((len < first.len()).then(|| &first[..len])))
    }
}

pub(super) fn waits(is_waiting: bool) -> Waits {
    if is_waiting { Waits::Yes } else { Waits::No }
}

/// Whether an accept failed because of that one connection, which has left the backlog: the next accept
/// may succeed (accept(2), "Error handling").
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
