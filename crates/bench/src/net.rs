//! Client sockets and the event poller.
//!
//! Every descriptor is reported to the [`Host`] when it is opened and before it is closed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
};

use crate::host::Host;

/// A descriptor that was reported to the host.
pub(crate) struct ReportedFd {
    fd: OwnedFd,
    host: Arc<dyn Host>,
}

impl ReportedFd {
    pub(crate) fn new(host: &Arc<dyn Host>, fd: impl Into<OwnedFd>, kind: &'static str) -> Self {
        let fd = fd.into();
        host.opened(fd.as_fd(), kind);
        ReportedFd { fd, host: Arc::clone(host) }
    }
}

impl AsFd for ReportedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for ReportedFd {
    fn drop(&mut self) {
        self.host.closing(self.fd.as_fd());
    }
}

/// A stream socket, TCP or Unix.
pub(crate) struct ClientSocket(ReportedFd);

impl ClientSocket {
    /// Starts to connect over TCP and does not wait (`connect(2)`). `source` is the local address; by
    /// default the system chooses one.
    ///
    /// The stream is non-blocking: until the connection is established, reading and writing return
    /// `WouldBlock` or `NotConnected`, and if connecting fails, the reason.
    pub(crate) fn begin_connect(
        host: &Arc<dyn Host>,
        address: &SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<ClientSocket> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let stream = ClientSocket::new(host, family, SocketFlags::NONBLOCK, "tcp stream")?;
        if let Some(source) = source {
            // Without it `bind(2)` takes a port that is free for any peer, and these run out.
            setsockopt(&stream.0.fd, IpBindAddressNoPort, &true)?;
            rustix::net::bind(&stream.0, &SocketAddr::from((source, 0)))?;
        }
        match connect(&stream.0, address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        sockopt::set_tcp_nodelay(&stream.0, true)?;
        Ok(stream)
    }

    /// Waits until the connection is established, and makes the stream a blocking one.
    pub(crate) fn complete_connect(&self, timeout: Duration) -> io::Result<()> {
        let events = self.poll(PollFlags::OUT, timeout)?;
        if events.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sockopt::socket_error(&self.0)??;
        if events.contains(PollFlags::HUP) {
            // Closed before it was established, with no error left to say so.
            return Err(Errno::NOTCONN.into());
        }
        Ok(rustix::io::ioctl_fionbio(&self.0, false)?)
    }

    /// Connects to a Unix socket. `timeout` limits the wait for a place in the listener's backlog.
    pub(crate) fn connect_unix(
        host: &Arc<dyn Host>,
        path: &Path,
        timeout: Duration,
    ) -> io::Result<ClientSocket> {
        let address = SocketAddrUnix::new(path)?;
        let stream =
            ClientSocket::new(host, AddressFamily::UNIX, SocketFlags::empty(), "unix stream")?;
        sockopt::set_socket_timeout(&stream.0, Timeout::Send, Some(timeout))?;
        match retry_on_intr(|| connect(&stream.0, &address)) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
        sockopt::set_socket_timeout(&stream.0, Timeout::Send, None)?;
        Ok(stream)
    }

    fn new(
        host: &Arc<dyn Host>,
        family: AddressFamily,
        flags: SocketFlags,
        kind: &'static str,
    ) -> io::Result<ClientSocket> {
        let flags = flags | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        // Otherwise an urgent byte of the server would never be read, and so not be noticed.
        sockopt::set_socket_oobinline(&socket, true)?;
        Ok(ClientSocket(ReportedFd::new(host, socket, kind)))
    }

    /// How long a read waits before it returns `WouldBlock` (`SO_RCVTIMEO`).
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, Timeout::Recv, Some(timeout))?)
    }

    /// Reads the available bytes, without waiting.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::DONTWAIT)
    }

    /// Writes as many bytes as the socket accepts, without waiting.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, SendFlags::DONTWAIT)
    }

    /// Waits for something to read, at most for `timeout`.
    pub(crate) fn wait_readable(&self, timeout: Duration) -> io::Result<()> {
        self.poll(PollFlags::IN, timeout).map(drop)
    }

    /// Waits for something to read or room to write, at most for `timeout`.
    pub(crate) fn wait_either(&self, timeout: Duration) -> io::Result<()> {
        self.poll(PollFlags::IN | PollFlags::OUT, timeout).map(drop)
    }

    fn poll(&self, wanted: PollFlags, timeout: Duration) -> io::Result<PollFlags> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut polled = [PollFd::new(&self.0, wanted)];
        retry_on_intr(|| poll(&mut polled, timeout.as_ref()))?;
        Ok(polled[0].revents())
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let (bytes, _) = retry_on_intr(|| rustix::net::recv(&self.0, &mut *buffer, flags))?;
        Ok(bytes)
    }

    fn send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::net::send(&self.0, bytes, flags | SendFlags::NOSIGNAL))?)
    }
}

impl Read for &ClientSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::empty())
    }
}

impl Write for &ClientSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes, SendFlags::empty())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The maximum number of events that one wait returns.
const EVENTS_MAX: usize = 256;

const NANOS_PER_MILLI: u32 = 1_000_000;

/// Waits for many streams on one thread (`epoll(7)`).
///
/// It is edge-triggered (`EPOLLET`): after an event, read and write until `WouldBlock`, or until no
/// more bytes can be available. A stream that is closed leaves the poller automatically.
pub(crate) struct EventPoller {
    epoll: ReportedFd,
    events: Vec<epoll::Event>,
}

impl EventPoller {
    pub(crate) fn new(host: &Arc<dyn Host>) -> io::Result<EventPoller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let epoll = ReportedFd::new(host, epoll, "epoll");
        Ok(EventPoller { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Adds a stream, for both directions; `token` stands for it in the events.
    pub(crate) fn add(&self, stream: &ClientSocket, token: u64) -> io::Result<()> {
        let wanted = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, &stream.0, epoll::EventData::new_u64(token), wanted)?)
    }

    /// Waits for events, at most for `timeout`; a signal ends the wait early. Returns the tokens of
    /// the streams with events.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = u64>> {
        self.events.clear();
        match self.fill(timeout) {
            Ok(()) | Err(Errno::INTR) => Ok(self.events.iter().map(|event| event.data.u64())),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&mut self, timeout: Duration) -> rustix::io::Result<()> {
        let mut left = Timespec::try_from(timeout).ok();
        if !timeout.subsec_nanos().is_multiple_of(NANOS_PER_MILLI) {
            // `epoll_wait` counts in milliseconds, `ppoll` does not.
            let polled = &mut [PollFd::new(&self.epoll, PollFlags::IN)];
            if poll(polled, left.as_ref())? == 0 {
                return Ok(());
            }
            left = Some(Timespec::default());
        }
        let events = rustix::buffer::spare_capacity(&mut self.events);
        epoll::wait(&self.epoll, events, left.as_ref())?;
        Ok(())
    }
}
