//! Stream sockets: TCP over IPv4 and IPv6, and Unix.

mod connect;
#[cfg(target_os = "linux")]
mod descriptors;
mod half;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use echown_fd::{fd::Direction, kind};
use rustix::event::PollFlags;
use rustix::net::sockopt;

use super::address::{Address, may_try_next, no_address};
use super::adopt::StdSocket;
use super::checked::{self, Checked, marker};
use super::endpoint::Endpoint;
use super::keep_alive::KeepAlive;
use super::socket::unix_path;
use super::wait::wait;
use crate::ownership::{Owned, Refused, Registry, Site};
use crate::sys::platform;

#[cfg(target_os = "linux")]
pub(crate) use descriptors::Peer;
pub use half::{ReadHalf, WriteHalf};

/// A connected stream socket, TCP or Unix, with one owner.
///
/// Reading and writing also work through `&Stream`, so that one owner can do both at once; for two owners
/// there is [`split`](Stream::split).
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
///
/// use echown::net::{Listener, Stream};
///
/// let listener = Listener::bind("127.0.0.1:0")?;
/// let mut client = Stream::connect_to(&listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
/// client.write_all(b"hello")?;
/// client.close()?;
/// let mut greeting = String::new();
/// server.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub type Stream = Checked<marker::Stream>;

impl StdSocket<Stream> for TcpStream {}
impl StdSocket<Stream> for UnixStream {}

/// Constructors.
impl Stream {
    pub(super) fn new(socket: Owned<OwnedFd>) -> Stream {
        Checked(socket)
    }

    /// Connects by TCP, to the first of the name's addresses that accepts (`connect(2)`).
    ///
    /// The socket is owned before it connects: a task that is cancelled meanwhile wakes. (Resolving a name
    /// is up to the system and cannot be cancelled.)
    ///
    /// # Errors
    /// The error of the last address, the resolver or the registry: `Cancelled`.
    #[track_caller]
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Stream> {
        let mut last = no_address();
        for address in addresses.to_socket_addrs()? {
            match connect::inet(&address, None) {
                Err(error) if may_try_next(&error) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Connects by TCP to one address, with a timeout (`connect(2)`, `poll(2)`).
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for a zero timeout; otherwise see [`connect`](Stream::connect).
    #[track_caller]
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<Stream> {
        if timeout.is_zero() {
            let text = "connect timeout must be greater than zero";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        connect::inet(address, Some(timeout))
    }

    /// Connects to a Unix listener (`connect(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn connect_unix(path: impl AsRef<Path>) -> io::Result<Stream> {
        connect::unix(&unix_path(path.as_ref())?, None)
    }

    /// [`connect_unix`](Stream::connect_unix) with a timeout.
    ///
    /// # Errors
    /// `TimedOut`: the listener's queue is full. Otherwise see [`connect_unix`](Stream::connect_unix).
    #[track_caller]
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn connect_unix_timeout(path: &Path, timeout: Duration) -> io::Result<Stream> {
        connect::unix(&unix_path(path)?, Some(timeout))
    }

    /// Connects to an address of either family, such as a listener's own (`connect(2)`).
    ///
    /// # Errors
    /// `InvalidInput` for a Unix socket without a name; otherwise see [`connect`](Stream::connect).
    #[track_caller]
    pub fn connect_to(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Inet(address) => connect::inet(address, None),
            Address::Path(path) => connect::unix(&unix_path(path)?, None),
            Address::Abstract(name) => connect::unix(&platform::abstract_name(name)?, None),
            Address::Unnamed => {
                let text = "a socket without a name cannot be connected to";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }

    /// Connects to an address as users write it: a name with a port, or a path. TCP streams get
    /// [keep-alive](KeepAlive::DEFAULT), so that a reading task notices when the host is gone.
    ///
    /// # Errors
    /// See [`connect`](Stream::connect) and [`connect_unix`](Stream::connect_unix).
    #[track_caller]
    pub fn connect_to_endpoint(endpoint: &Endpoint) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Unix(path) => Stream::connect_unix(path),
            Endpoint::Inet(_) | Endpoint::All(_) => {
                let stream = Stream::connect(&*endpoint.resolve()?)?;
                stream.set_keep_alive(Some(KeepAlive::DEFAULT))?;
                Ok(stream)
            }
        }
    }

    /// Two streams that are connected to each other (`socketpair(2)`, Unix).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn pair() -> io::Result<(Stream, Stream)> {
        let site = Site::here();
        let (one, other) = platform::socket_pair()?;
        // As for every other stream socket: see `net::socket`.
        sockopt::set_socket_oobinline(&one, true)?;
        sockopt::set_socket_oobinline(&other, true)?;
        let registry = Registry::current();
        let one = registry.own_fd_as(one, kind::UNIX_STREAM, None, site)?;
        let other = registry.own_fd_as(other, kind::UNIX_STREAM, None, site)?;
        for end in [&one, &other] {
            end.handle().record().set_may_time_out(Direction::Both, false);
        }
        Ok((Checked(one), Checked(other)))
    }

    /// Becomes the owner of a `TcpStream` or a `UnixStream`.
    ///
    /// # Errors
    /// `AlreadyOwned`: the number is already registered, and the socket is returned open. `Cancelled`,
    /// `TaskExiting`: it was closed at once.
    #[track_caller]
    pub fn own<S: StdSocket<Stream>>(socket: S) -> Result<Stream, Refused<S>> {
        checked::own_as(socket, S::KIND, Checked)
    }
}

/// I/O, options and shutdown.
impl Stream {
    /// The local address (`getsockname(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::of(self.handle().call(|fd| rustix::net::getsockname(fd))?)
    }

    /// Shuts down one direction, or both (`shutdown(2)`). The stream stays owned until it is released.
    ///
    /// # Errors
    /// `NotConnected` after the peer has reset the connection; errors of the registry.
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
    /// The error of the system call: a Unix stream has no such option. Errors of the registry.
    #[track_caller]
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_tcp_nodelay(fd, on))
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// See [`set_nodelay`](Stream::set_nodelay).
    #[track_caller]
    pub fn nodelay(&self) -> io::Result<bool> {
        self.handle().call(|fd| sockopt::tcp_nodelay(fd))
    }

    /// Sets or clears keep-alive of a TCP stream (`SO_KEEPALIVE` and its `TCP_*` options).
    ///
    /// # Errors
    /// The error of the system call: `InvalidInput` for values that the kernel does not accept, and a Unix
    /// stream has no such options. Errors of the registry.
    #[track_caller]
    pub fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> io::Result<()> {
        self.handle().call(|fd| match keep_alive {
            Some(keep_alive) => keep_alive.apply_to(fd),
            None => sockopt::set_socket_keepalive(fd, false),
        })
    }

    /// Reads keep-alive of a TCP stream; `None` where it is off.
    ///
    /// # Errors
    /// See [`set_keep_alive`](Self::set_keep_alive).
    #[track_caller]
    pub fn keep_alive(&self) -> io::Result<Option<KeepAlive>> {
        self.handle().call(KeepAlive::read_from)
    }

    /// Whether a read or write that would have to wait returns `WouldBlock` instead (`FIONBIO`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.handle().call(|fd| rustix::io::ioctl_fionbio(fd, on))
    }

    /// Sets how long a close waits for unsent bytes; zero resets the connection (`SO_LINGER`, in whole
    /// seconds).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn set_linger(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_socket_linger(fd, timeout))
    }

    /// Shuts down the write side, after all that was sent (`shutdown(2)`).
    ///
    /// In a task that is [drained](crate::ownership::Promise::drain) the peer may still be sending, and a
    /// close would then reset the connection; so this first waits until the peer has what was sent, until
    /// the drain deadline cancels the task, or for `timeout`.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn shutdown_write(&self, timeout: Duration) -> io::Result<()> {
        if self.handle().record().registry.is_draining() {
            self.wait_sent(timeout)?;
        }
        self.shutdown(Shutdown::Write)
    }

    /// Closes the stream after the peer has finished: in a drained task like
    /// [`shutdown_write`](Stream::shutdown_write) first; otherwise nothing is left to read, and `close(2)`
    /// alone has the same effect. The finalizer reports a close that fails.
    ///
    /// # Errors
    /// See [`shutdown_write`](Stream::shutdown_write).
    #[track_caller]
    pub fn finish(self, timeout: Duration) -> io::Result<()> {
        if self.handle().record().registry.is_draining() {
            self.shutdown_write(timeout)?;
        }
        drop(self);
        Ok(())
    }

    /// Waits until the peer's system has everything that was sent (`SIOCOUTQ`), at most for `timeout`.
    /// Returns false on a timeout, or if the connection is gone, so that nothing more will arrive.
    ///
    /// For closing a TCP connection on which the peer may still be sending: such a close resets it and
    /// discards what has not arrived yet. A Unix socket keeps what was sent and needs no waiting.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait_sent(&self, timeout: Duration) -> io::Result<bool> {
        // There is no event for it. Doubling from a short pause finds a fast peer quickly.
        const PAUSE_MIN: Duration = Duration::from_micros(50);
        const PAUSE_MAX: Duration = Duration::from_millis(10);
        let deadline = std::time::Instant::now().checked_add(timeout);
        let mut pause = PAUSE_MIN;
        while self.unacknowledged()? > 0 {
            if deadline.is_some_and(|deadline| std::time::Instant::now() >= deadline) {
                return Ok(false);
            }
            // After a reset the number never falls: an error or a hang-up is noticed at once.
            if wait(self.handle(), PollFlags::empty(), Some(pause))? {
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

    /// Splits the stream into its read half and its write half, both owned by the current task.
    ///
    /// # Errors
    /// `NotOwner` and related errors; the stream is returned.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    ///
    /// use echown::{net::Stream, thread};
    ///
    /// let (ours, theirs) = Stream::pair()?;
    /// let (mut reading, writing) = ours.split().map_err(std::io::Error::from)?;
    /// let writer = thread::spawn_with(writing, |mut writing| writing.write_all(b"hello"))?;
    /// std::io::copy(&mut &theirs, &mut &theirs)?;
    /// theirs.close()?;
    /// assert_eq!(std::io::read_to_string(&mut reading)?, "hello");
    /// writer.join_flat()?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[track_caller]
    pub fn split(self) -> Result<(ReadHalf, WriteHalf), Refused<Stream>> {
        match self.0.split() {
            Ok((reading, writing)) => Ok((Checked(reading), Checked(writing))),
            Err(refused) => Err(refused.map(Checked)),
        }
    }

    /// Joins two halves; see [`ReadHalf::rejoin`].
    ///
    /// # Errors
    /// See [`ReadHalf::rejoin`].
    #[track_caller]
    pub fn rejoin(
        reading: ReadHalf,
        writing: WriteHalf,
    ) -> Result<Stream, Refused<(ReadHalf, WriteHalf)>> {
        reading.rejoin(writing)
    }
}
