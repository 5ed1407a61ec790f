//! Streams: TCP of either version, and Unix.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use echown_fd::{fd::Direction, kind};
use rustix::event::PollFlags;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::address::{Address, may_try_next, no_address};
use super::adopt::StdStream;
use super::connect;
use super::deadline;
use super::endpoint::Endpoint;
use super::half::{ReadHalf, WriteHalf};
use super::keep_alive::KeepAlive;
use super::nonblocking;
use super::wire::{self, checked, disowned, reads, writes};
use crate::ownership::{Owned, Refused, Registry, Site};

/// A connected stream socket, TCP or Unix, with one owner.
///
/// Reading and writing go by `&Stream` too, so that both can be done at once by one owner; for two
/// owners there is [`split`](Stream::split).
#[must_use = "a stream is closed when its handle is dropped"]
pub struct Stream(Owned<OwnedFd>);

checked!(Stream, 0, Cell);
disowned!(Stream);
reads!(
    Stream,
    |handle, buffer| wire::recv(handle, buffer, RecvFlags::empty()),
    wire::recv_vectored
);
writes!(Stream, |handle, bytes| wire::send(handle, bytes, SendFlags::empty()), wire::send_vectored);

/// Making one.
impl Stream {
    pub(super) fn new(socket: Owned<OwnedFd>) -> Stream {
        Stream(socket)
    }

    /// Connects by TCP, to the first of the name's addresses that answers (`connect(2)`).
    ///
    /// The socket is owned before it connects: a task that is cancelled meanwhile wakes. (Resolving
    /// a name is up to the system and is waited for.)
    ///
    /// # Errors
    /// The last address's, the resolver's, or the registry's: `Cancelled`.
    #[track_caller]
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Stream> {
        Stream::connect_in(Registry::global(), addresses)
    }

    /// [`connect`](Stream::connect) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn connect_in(registry: &Registry, addresses: impl ToSocketAddrs) -> io::Result<Stream> {
        let mut last = no_address();
        for address in addresses.to_socket_addrs()? {
            match connect::inet(registry, &address, None) {
                Err(error) if may_try_next(&error) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Connects by TCP to one address, for at most this long (`connect(2)`, `poll(2)`).
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for no time at all; else as [`connect`](Stream::connect).
    #[track_caller]
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<Stream> {
        Stream::connect_timeout_in(Registry::global(), address, timeout)
    }

    /// [`connect_timeout`](Stream::connect_timeout) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn connect_timeout_in(
        registry: &Registry,
        address: &SocketAddr,
        timeout: Duration,
    ) -> io::Result<Stream> {
        if timeout.is_zero() {
            let text = "a connection cannot be made in no time";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        connect::inet(registry, address, Some(timeout))
    }

    /// Begins to connect by TCP and does not wait (`connect(2)`); `source` is the address at this end,
    /// where the system's choice will not do: a pair of addresses has no more than 65,535 connections.
    ///
    /// The stream does not block: until it stands, reading and writing result `WouldBlock` or
    /// `NotConnected`, and if it fails, why. [`complete_connect`](Stream::complete_connect) waits.
    ///
    /// # Errors
    /// The system calls', and the registry's.
    #[track_caller]
    pub fn begin_connect_in(
        registry: &Registry,
        address: &SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<Stream> {
        connect::begin(registry, address, source)
    }

    /// Waits until a connection that was [begun](Stream::begin_connect_in) stands, at most for
    /// `timeout` (`poll(2)`). From then on the stream blocks, as streams do.
    ///
    /// # Errors
    /// `TimedOut`; else as [`connect`](Stream::connect).
    #[track_caller]
    pub fn complete_connect(&self, timeout: Option<Duration>) -> io::Result<()> {
        connect::complete(self, timeout)
    }

    /// Connects to a Unix listener (`connect(2)`).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn connect_unix(path: impl AsRef<Path>) -> io::Result<Stream> {
        Stream::connect_unix_in(Registry::global(), path)
    }

    /// [`connect_unix`](Stream::connect_unix) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn connect_unix_in(registry: &Registry, path: impl AsRef<Path>) -> io::Result<Stream> {
        connect::unix(registry, &connect::unix_path(path.as_ref())?)
    }

    /// Connects to an address of either family, such as a listener's own (`connect(2)`).
    ///
    /// # Errors
    /// `InvalidInput` for a Unix socket without a name; else as [`connect`](Stream::connect).
    #[track_caller]
    pub fn connect_to(address: &Address) -> io::Result<Stream> {
        Stream::connect_to_in(Registry::global(), address)
    }

    /// [`connect_to`](Stream::connect_to) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn connect_to_in(registry: &Registry, address: &Address) -> io::Result<Stream> {
        match address {
            Address::Inet(address) => connect::inet(registry, address, None),
            Address::Path(path) => connect::unix(registry, &connect::unix_path(path)?),
            Address::Abstract(name) => {
                connect::unix(registry, &SocketAddrUnix::new_abstract_name(name)?)
            }
            Address::Unnamed => {
                let text = "a socket without a name cannot be connected to";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }

    /// Connects to an address as people write it: a name with a port, or a path. By TCP it has
    /// [keep-alive](KeepAlive::DEFAULT), so that a task that reads learns when the host is gone.
    ///
    /// # Errors
    /// As [`connect`](Stream::connect) and [`connect_unix`](Stream::connect_unix).
    #[track_caller]
    pub fn connect_to_endpoint_in(registry: &Registry, endpoint: &Endpoint) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Unix(path) => Stream::connect_unix_in(registry, path),
            Endpoint::Inet(_) | Endpoint::All(_) => {
                let stream = Stream::connect_in(registry, &*endpoint.resolve()?)?;
                stream.set_keep_alive(Some(KeepAlive::DEFAULT))?;
                Ok(stream)
            }
        }
    }

    /// Two streams that are connected to each other (`socketpair(2)`, Unix).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn pair() -> io::Result<(Stream, Stream)> {
        Stream::pair_in(Registry::global())
    }

    /// [`pair`](Stream::pair) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn pair_in(registry: &Registry) -> io::Result<(Stream, Stream)> {
        let site = Site::here();
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
        let (one, other) = rustix::net::socketpair(family, SocketType::STREAM, flags, None)?;
        // As for every other stream socket: see `connect::socket`.
        sockopt::set_socket_oobinline(&one, true)?;
        sockopt::set_socket_oobinline(&other, true)?;
        let one = registry.own_fd_as(one, kind::UNIX_STREAM, None, site)?;
        let other = registry.own_fd_as(other, kind::UNIX_STREAM, None, site)?;
        for end in [&one, &other] {
            end.handle().record().set_may_time_out(Direction::Both, false);
        }
        Ok((Stream(one), Stream(other)))
    }

    /// Becomes the owner of a `TcpStream` or a `UnixStream`.
    ///
    /// # Errors
    /// `AlreadyOwned`: the number is on record, and the socket comes back unclosed. `Cancelled`,
    /// `TaskExiting`: it was closed at once.
    #[track_caller]
    pub fn own<S: StdStream>(socket: S) -> Result<Stream, Refused<S>> {
        Stream::own_in(Registry::global(), socket)
    }

    /// [`own`](Stream::own) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn own_in<S: StdStream>(registry: &Registry, socket: S) -> Result<Stream, Refused<S>> {
        registry
            .own_fd_as(socket.into(), S::KIND, None, Site::here())
            .map(Stream)
            .map_err(|refused| refused.map(S::from))
    }
}

/// Using it.
impl Stream {
    /// Reads without taking: the next read gets the same bytes (`recv(2)` with `MSG_PEEK`).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        wire::recv(self.handle(), buffer, RecvFlags::PEEK)
    }

    /// The address at the other end (`getpeername(2)`).
    ///
    /// # Errors
    /// `NotConnected`, once the peer has reset the connection; the registry's.
    #[track_caller]
    pub fn peer_addr(&self) -> io::Result<Address> {
        match self.handle().call(|fd| rustix::net::getpeername(fd))? {
            Some(address) => Address::of(address),
            None => Ok(Address::Unnamed),
        }
    }

    /// The address at this end (`getsockname(2)`).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::of(self.handle().call(|fd| rustix::net::getsockname(fd))?)
    }

    /// Ends one direction, or both (`shutdown(2)`). The stream stays owned until it is released.
    ///
    /// # Errors
    /// `NotConnected`, once the peer has reset the connection; the registry's.
    #[track_caller]
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        self.handle().call(|fd| rustix::net::shutdown(fd, how))
    }

    /// Sends small writes at once instead of collecting them (`TCP_NODELAY`).
    ///
    /// # Errors
    /// The system call's: a Unix stream has no such option. The registry's.
    #[track_caller]
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_tcp_nodelay(fd, on))
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// As [`set_nodelay`](Stream::set_nodelay).
    #[track_caller]
    pub fn nodelay(&self) -> io::Result<bool> {
        self.handle().call(|fd| sockopt::tcp_nodelay(fd))
    }

    /// How long a read waits before it answers `WouldBlock`, signals or not; `None`: for ever
    /// (`SO_RCVTIMEO`).
    ///
    /// # Errors
    /// `InvalidInput` for no time at all; the registry's.
    #[track_caller]
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Recv, timeout)
    }

    /// How long a write waits before it answers `WouldBlock`, signals or not; `None`: for ever
    /// (`SO_SNDTIMEO`).
    ///
    /// # Errors
    /// `InvalidInput` for no time at all; the registry's.
    #[track_caller]
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Send, timeout)
    }

    /// Whether a read or write that would have to wait answers `WouldBlock` instead (`FIONBIO`).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.handle().call(|fd| rustix::io::ioctl_fionbio(fd, on))
    }

    /// How long a close waits for what was not sent yet; with no time at all it resets the
    /// connection (`SO_LINGER`, in whole seconds).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn set_linger(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_socket_linger(fd, timeout))
    }

    /// Has the close reset the connection (`SO_LINGER` of no time): for one that ends by an error, with
    /// bytes owed. The end that an ordinary close sends would tell the peer that it has everything.
    /// What was sent and has not arrived is thrown away. A Unix socket has no resets: there the peer
    /// learns of it if something is left that was not read.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// Takes the error that the socket has pending, if there is one (`SO_ERROR`).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle().call(|fd| sockopt::socket_error(fd))?.err().map(io::Error::from))
    }

    /// Closes our sending side, so that all that was sent arrives (`shutdown(2)`).
    ///
    /// In a task that is [drained](crate::ownership::Promise::drain) the peer may still be sending,
    /// and closing would then reset the connection; so what was sent is waited for first, until
    /// the deadline of the drain cancels the task, or for `timeout`.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn shutdown_write(&self, timeout: Duration) -> io::Result<()> {
        if self.handle().record().registry.is_draining() {
            self.wait_sent(timeout)?;
        }
        self.shutdown(Shutdown::Write)
    }

    /// Closes it, once the peer has [finished](Stream::shutdown_write) or is asked no more: as
    /// [`shutdown_write`](Stream::shutdown_write), and where nothing is left to be read, `close(2)` alone does the
    /// same as `shutdown(2)` before it. A close that fails is the finalizer's to report.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn finish(self, timeout: Duration) -> io::Result<()> {
        if self.handle().record().registry.is_draining() {
            self.shutdown_write(timeout)?;
        }
        drop(self);
        Ok(())
    }

    /// Waits until the peer's system has everything that was sent (`SIOCOUTQ`), at most for
    /// `timeout`. False when the time ran out, or when the connection is gone, so that nothing more
    /// will arrive.
    ///
    /// For closing a TCP connection on which the peer may still be sending: such a close resets
    /// it, and throws away what has not arrived yet. A Unix socket keeps what was sent, and so
    /// needs no waiting.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn wait_sent(&self, timeout: Duration) -> io::Result<bool> {
        // No event tells of it. Doubling from a short pause finds a quick peer quickly.
        const PAUSE_MIN: Duration = Duration::from_micros(50);
        const PAUSE_MAX: Duration = Duration::from_millis(10);
        let deadline = std::time::Instant::now().checked_add(timeout);
        let mut pause = PAUSE_MIN;
        while self.unacknowledged()? > 0 {
            if deadline.is_some_and(|deadline| std::time::Instant::now() >= deadline) {
                return Ok(false);
            }
            // After a reset the number never falls: the error, or the hang-up, is told at once.
            if nonblocking::wait(self.handle(), PollFlags::empty(), Some(pause))? {
                return Ok(false);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(true)
    }

    #[track_caller]
    fn unacknowledged(&self) -> io::Result<u32> {
        self.check()?;
        #[cfg(target_os = "linux")]
        if self.handle().record().kind == kind::TCP_STREAM {
            return self.handle().call_number(echown_fd::fd::Number::unacknowledged);
        }
        Ok(0)
    }

    /// Splits the stream into its reading and its writing half, both of them the current task's.
    ///
    /// # Errors
    /// `NotOwner` and its kin; the stream comes back.
    #[track_caller]
    pub fn split(self) -> Result<(ReadHalf, WriteHalf), Refused<Stream>> {
        match self.0.split() {
            Ok((reading, writing)) => Ok((ReadHalf::new(reading), WriteHalf::new(writing))),
            Err(refused) => Err(refused.map(Stream)),
        }
    }

    /// Makes two halves the whole again; see [`ReadHalf::rejoin`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn rejoin(
        reading: ReadHalf,
        writing: WriteHalf,
    ) -> Result<Stream, Refused<(ReadHalf, WriteHalf)>> {
        reading.rejoin(writing)
    }
}
