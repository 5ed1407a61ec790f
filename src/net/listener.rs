//! Listeners: accept connections, and stop on request.

mod mode;
mod received;

mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use echown_fd::{fd::Number, kind};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketType};

use super::adaptive_spin::AdaptiveSpin;
use super::address::{Address, may_try_next, no_address};
use super::adopt::StdSocket;
use super::checked::{self, Checked, Held, Kind, marker};
use super::deadline;
use super::keep_alive::KeepAlive;
use super::pipe::PipeReader;
use super::socket;
use super::stop_quota::StopQuota;
use super::stream::Stream;
use super::syscalls::{Syscalls, was_gone};
use crate::ownership::handle::Handle;
use crate::ownership::{Owned, Refused, ResourceCell, Site};
use crate::sys::platform::Mode;
pub(crate) use received::listening_address;

/// Default for the number of connections that wait to be accepted. The standard library's 128 are used
/// up by a few milliseconds of a busy server's pause; the kernel's own limit (`net.core.somaxconn`, 4096)
/// caps larger values.
pub const BACKLOG_DEFAULT: u32 = 1024;

/// A listening socket, TCP or Unix, with one owner.
///
/// The accepting task owns what it accepts from the start, in the listener's registry. Closing a Unix
/// listener leaves its path in place.
pub type Listener = Checked<marker::Listener>;

/// The socket of a [`Listener`], with what accepting needs.
pub(crate) struct Listening {
    socket: Owned<OwnedFd>,
    mode: AtomicU8,
    accepted: AcceptedOptions,
    stop_quota: StopQuota,
}

impl Kind for marker::Listener {
    const NAME: &'static str = "Listener";
    const IS_SOCKET: bool = true;
    type Held = Listening;
}

impl Held for Listening {
    type Cell = ResourceCell<OwnedFd>;

    #[inline]
    fn handle(&self) -> &Handle<ResourceCell<OwnedFd>> {
        self.socket.handle()
    }
}

impl StdSocket<Listener> for TcpListener {}
impl StdSocket<Listener> for UnixListener {}

/// How accepting waits.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ListenerMode {
    /// In `accept4(2)`.
    Blocking = 0,
    /// In `poll(2)`, because [`Listener::accept_or_stop`] made the socket non-blocking.
    Polling = 1,
    /// Not at all: set by the user.
    Nonblocking = 2,
}

/// Options that accepted streams have from the start.
#[derive(Clone, Copy, Debug, Default)]
struct AcceptedOptions {
    nodelay: bool,
    write_timeout: Option<Duration>,
    keep_alive: Option<KeepAlive>,
    buffer_bytes: Option<usize>,
}

/// Settings of a new listener.
///
/// # Examples
/// ```
/// let listener = echown::net::Listener::options().backlog(16).bind("127.0.0.1:0")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `bind`"]
pub struct ListenerOptions {
    backlog: u32,
    reuse_port: bool,
    /// `None`: the system's default (`net.ipv6.bindv6only`).
    is_dual_stack: Option<bool>,
    /// The mode of a Unix socket's file. `None`: what the umask leaves.
    mode: Option<u32>,
    accepted: AcceptedOptions,
}

impl ListenerOptions {
    /// How many connections may wait to be accepted; [`BACKLOG_DEFAULT`] by default.
    pub fn backlog(mut self, connections: u32) -> ListenerOptions {
        self.backlog = connections;
        self
    }

    /// Whether other listeners of this user may bind the same TCP address, each with its own queue, among
    /// which the kernel distributes the clients (`SO_REUSEPORT`); off by default. A busy address is then
    /// no longer detected; [`Listener::reuse_port_clone`] detects it.
    pub fn reuse_port(mut self, on: bool) -> ListenerOptions {
        self.reuse_port = on;
        self
    }

    /// Whether a listener on an IPv6 address also accepts IPv4 clients, whose addresses then have the form
    /// `[::ffff:192.0.2.1]:1234` (`IPV6_V6ONLY`); the system's default unless set.
    pub fn dual_stack(mut self, on: bool) -> ListenerOptions {
        self.is_dual_stack = Some(on);
        self
    }

    /// Whether accepted TCP streams send small writes at once (`TCP_NODELAY`); off by default. They inherit
    /// it, which saves a call per stream.
    pub fn nodelay(mut self, on: bool) -> ListenerOptions {
        self.accepted.nodelay = on;
        self
    }

    /// How long a write to an accepted stream waits before it returns `WouldBlock`; indefinitely by default
    /// (`SO_SNDTIMEO`). TCP streams inherit it; it is set on each Unix stream.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> ListenerOptions {
        self.accepted.write_timeout = timeout;
        self
    }

    /// When the peers of accepted TCP streams are probed (`SO_KEEPALIVE`); never by default. They inherit
    /// it; Unix streams need none.
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> ListenerOptions {
        self.accepted.keep_alive = keep_alive;
        self
    }

    /// Listens by TCP on the first of the name's addresses that is free (`bind(2)`, `listen(2)`), with
    /// `SO_REUSEADDR`, as the standard library does.
    ///
    /// # Errors
    /// The error of the last address, the resolver or the registry. `InvalidInput`: a zero write timeout.
    #[track_caller]
    pub fn bind(&self, addresses: impl ToSocketAddrs) -> io::Result<Listener> {
        let mut last = no_address();
        for address in addresses.to_socket_addrs()? {
            match self.bind_inet(&address) {
                Err(error) if may_try_next(&error) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Listens on a Unix socket at a path that does not exist yet (`bind(2)`, `listen(2)`).
    ///
    /// # Errors
    /// `AddrInUse`: the path exists. Errors of the registry. `InvalidInput` as above.
    #[track_caller]
    pub fn bind_unix(&self, path: impl AsRef<Path>) -> io::Result<Listener> {
        self.bind_unix_then(path.as_ref(), || Ok(()))
    }

    #[track_caller]
    fn bind_inet(&self, address: &SocketAddr) -> io::Result<Listener> {
        let listener = self.socket(socket::family(address), kind::TCP_LISTENER)?;
        listener.handle().call(|fd| sockopt::set_socket_reuseaddr(fd, true))?;
        if self.reuse_port {
            listener.handle().call(|fd| sockopt::set_socket_reuseport(fd, true))?;
        }
        if let Some(on) = self.is_dual_stack.filter(|_| address.is_ipv6()) {
            listener.handle().call(|fd| sockopt::set_ipv6_v6only(fd, !on))?;
        }
        listener.handle().call(|fd| rustix::net::bind(fd, address))?;
        // Before the first client can connect, whose stream would inherit nothing.
        if self.accepted.nodelay {
            listener.handle().call(|fd| sockopt::set_tcp_nodelay(fd, true))?;
        }
        if let Some(keep_alive) = self.accepted.keep_alive {
            listener.handle().call(|fd| keep_alive.apply_to(fd))?;
        }
        self.listen(listener)
    }

    #[track_caller]
    fn socket(&self, family: AddressFamily, kind: &'static str) -> io::Result<Listener> {
        let socket = socket::socket(family, SocketType::STREAM, Mode::Blocking, kind)?;
        let stop_quota = StopQuota::new(self.backlog);
        let listening = Listening::new(socket, ListenerMode::Blocking);
        let listener: Listener =
            Checked(Listening { accepted: self.accepted, stop_quota, ..listening });
        if let timeout @ Some(_) = self.accepted.write_timeout {
            // A Unix listener's streams do not inherit it, but an invalid one fails before there is a file.
            deadline::set_timeout(listener.handle(), Timeout::Send, timeout)?;
        }
        Ok(listener)
    }

    #[track_caller]
    fn listen(&self, listener: Listener) -> io::Result<Listener> {
        self.set_backlog(&listener)?;
        Ok(listener)
    }
}

impl Default for ListenerOptions {
    fn default() -> ListenerOptions {
        let accepted = AcceptedOptions::default();
        ListenerOptions {
            backlog: BACKLOG_DEFAULT,
            reuse_port: false,
            is_dual_stack: None,
            mode: None,
            accepted,
        }
    }
}

impl Listening {
    fn new(socket: Owned<OwnedFd>, mode: ListenerMode) -> Listening {
        Listening {
            socket,
            mode: AtomicU8::new(mode as u8),
            accepted: AcceptedOptions::default(),
            stop_quota: StopQuota::new(BACKLOG_DEFAULT),
        }
    }
}

/// Constructors.
impl Listener {
    /// Settings for a new listener.
    pub fn options() -> ListenerOptions {
        ListenerOptions::default()
    }

    /// [`ListenerOptions::bind`] with the default settings.
    ///
    /// # Errors
    /// See [`ListenerOptions::bind`].
    #[track_caller]
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Listener> {
        Listener::options().bind(addresses)
    }

    /// [`ListenerOptions::bind_unix`] with the default settings.
    ///
    /// # Errors
    /// See [`ListenerOptions::bind_unix`].
    #[track_caller]
    pub fn bind_unix(path: impl AsRef<Path>) -> io::Result<Listener> {
        Listener::options().bind_unix(path)
    }

    /// Becomes the owner of a `TcpListener` or a `UnixListener`.
    ///
    /// # Errors
    /// `AlreadyOwned`: the number is already registered, and the socket is returned open. `Cancelled`,
    /// `TaskExiting`: it was closed at once.
    #[track_caller]
    pub fn own<S: StdSocket<Listener>>(socket: S) -> Result<Listener, Refused<S>> {
        let flags = rustix::fs::fcntl_getfl(socket.as_fd());
        // If even this fails, the socket is not open, and `own` reports it.
        let waits = !flags.is_ok_and(|flags| flags.contains(OFlags::NONBLOCK));
        let mode = if waits { ListenerMode::Blocking } else { ListenerMode::Nonblocking };
        checked::own_as(socket, S::KIND, |socket| Checked(Listening::new(socket, mode)))
    }

    /// Ends the ownership without closing it. The returned descriptor converts into types of the standard
    /// library.
    ///
    /// # Errors
    /// `NotOwner` and related errors, which return the listener; `FdReplaced` if the number no
    /// longer refers to the registered socket.
    #[track_caller]
    pub fn disown(self) -> Result<OwnedFd, Refused<Listener>> {
        let Listening { socket, mode, accepted, stop_quota } = self.0;
        let descriptor = match socket.disown() {
            Ok(descriptor) => descriptor,
            Err(refused) => {
                return Err(
                    refused.map(|socket| Checked(Listening { socket, mode, accepted, stop_quota }))
                );
            }
        };
        if mode.into_inner() == ListenerMode::Polling as u8 {
            // The user expects a blocking socket. FIONBIO fails on no open socket.
            let _ = rustix::io::ioctl_fionbio(&descriptor, false);
        }
        Ok(descriptor)
    }
}

/// Several listeners on one address.
impl Listener {
    /// Another listener on the same address, with its own queue, for another acceptor.
    ///
    /// TCP: a second socket (`SO_REUSEPORT`); the kernel distributes the clients. The option is set on this
    /// listener only now, after its `bind(2)`, so that the bind could detect a busy address. Unix: a
    /// duplicate descriptor of the same socket (`fcntl(2)`, `F_DUPFD_CLOEXEC`), because a path can have only
    /// one socket; so is the clone of a listener that another process has as well. The [`ListenerOptions`] apply
    /// to its streams as well.
    ///
    /// # Errors
    /// Errors of the system calls and the registry.
    #[track_caller]
    pub fn reuse_port_clone(&self, backlog: u32) -> io::Result<Listener> {
        let record = self.handle().record();
        let _entered = record.registry.enter();
        let accepted = self.0.accepted;
        // A received TCP socket may belong to another user, and then no other can share its address.
        if record.kind == kind::UNIX_LISTENER || record.is_shared() {
            let other = self.handle().call(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))?;
            let kind = record.kind;
            let other = record.registry.own_fd_as(other, kind, None, Site::here())?;
            other.handle().record().inherit_timeouts(record);
            if record.is_shared() {
                other.handle().record().set_shared();
            }
            let stop_quota = StopQuota::new(backlog);
            let listening = Listening::new(other, self.mode());
            return Ok(Checked(Listening { accepted, stop_quota, ..listening }));
        }
        let address: SocketAddr =
            self.handle().call(|fd| rustix::net::getsockname(fd))?.try_into()?;
        self.handle().call(|fd| sockopt::set_socket_reuseport(fd, true))?;
        let is_dual_stack = if address.is_ipv6() {
            Some(!self.handle().call(|fd| sockopt::ipv6_v6only(fd))?)
        } else {
            None
        };
        let options =
            ListenerOptions { backlog, reuse_port: true, is_dual_stack, mode: None, accepted };
        options.bind_inet(&address)
    }
}

/// Accepting and options.
impl Listener {
    /// Limits each of the two buffers of every stream accepted from now on to this many bytes of the kernel's
    /// memory (`SO_RCVBUF`, `SO_SNDBUF`); without it the kernel lets them grow. The system's own limits
    /// (`net.core.rmem_max`, `net.core.wmem_max`) may reduce the value. TCP streams inherit it; a Unix stream
    /// gets only the limit on what it sends, because what it receives counts as its peer's.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn limit_buffers(&mut self, bytes: usize) -> io::Result<()> {
        // The kernel takes the number as payload and doubles it, for its own bookkeeping.
        let payload = bytes / 2;
        self.handle().call(|fd| sockopt::set_socket_recv_buffer_size(fd, payload))?;
        self.handle().call(|fd| sockopt::set_socket_send_buffer_size(fd, payload))?;
        self.0.accepted.buffer_bytes = Some(payload);
        Ok(())
    }

    /// Accepts the next connection, owned by the current task, and returns it with its peer's address
    /// (`accept4(2)`). Waits for one, unless the listener is [non-blocking](Listener::set_nonblocking).
    ///
    /// Skips a connection that was closed before it could be accepted.
    ///
    /// # Errors
    /// `Cancelled` and the registry's other refusals, which leave no connection open. Errors of a limit
    /// (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) leave the connection in the backlog: an immediate retry
    /// would spin.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(Stream, Address)> {
        loop {
            if let Some(accepted) = self.accept_once()? {
                return Ok(accepted);
            }
            if self.mode() == ListenerMode::Nonblocking {
                return Err(Errno::AGAIN.into());
            }
            let syscalls = Syscalls::of(self.handle());
            self.handle().call(|fd| syscalls.poll(&mut [PollFd::new(&fd, PollFlags::IN)], None))?;
        }
    }

    /// Accepts the next connection, or returns `None` once `stop` is set and no connection is left
    /// (`accept4(2)`, `poll(2)`).
    ///
    /// `stop` is set when its pipe's write end is closed, or when something was written there. The listener
    /// stays open: clients that the kernel had already put into the backlog are still served, because a
    /// waiting connection comes first. Clients that arrive later do not extend the stop: after as many
    /// connections as were waiting when `stop` was noticed, which takes at most 16 connections, the result is
    /// `None`. Waits even if the listener is non-blocking.
    ///
    /// # Limits
    /// The number of waiting connections is known for TCP on Linux. Elsewhere the size of the backlog is
    /// used.
    ///
    /// # Errors
    /// See [`accept`](Listener::accept); the registry's refusals also for `stop`, which the current task must
    /// own too.
    ///
    /// # Examples
    /// ```
    /// use echown::net::{Listener, Stream, pipe};
    ///
    /// let listener = Listener::bind("127.0.0.1:0")?;
    /// let client = Stream::connect_to(&listener.local_addr()?)?;
    /// let (stopped, stop) = pipe()?;
    /// stop.close()?;
    ///
    /// let (_server, _) = listener.accept_or_stop(&stopped)?.expect("a client was waiting");
    /// assert!(listener.accept_or_stop(&stopped)?.is_none());
    /// # drop(client);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn accept_or_stop(&self, stop: &PipeReader) -> io::Result<Option<(Stream, Address)>> {
        self.accept_or_stop_spinning(stop, &mut AdaptiveSpin::disabled())
    }

    /// [`accept_or_stop`](Listener::accept_or_stop) that yields and polls a few times before it blocks, where
    /// that pays.
    ///
    /// # Errors
    /// See [`accept_or_stop`](Listener::accept_or_stop).
    #[track_caller]
    pub(crate) fn accept_or_stop_spinning(
        &self,
        stop: &PipeReader,
        spin: &mut AdaptiveSpin,
    ) -> io::Result<Option<(Stream, Address)>> {
        stop.check()?;
        self.prepare_to_poll()?;
        let is_stopped = || stop.wait_readable(Duration::ZERO);
        if self.0.stop_quota.is_reached(is_stopped, || self.queued())? {
            return Ok(None);
        }
        loop {
            if let Some(accepted) = self.accept_once()? {
                return Ok(Some(accepted));
            }
            let attempts = spin.attempts(&self.handle().record().registry);
            for _ in 0..attempts {
                std::thread::yield_now();
                if let Some(accepted) = self.accept_once()? {
                    spin.hit();
                    return Ok(Some(accepted));
                }
            }
            if attempts > 0 {
                spin.miss();
            }
            let (has_connection, is_stopped) = self.poll_with(stop)?;
            // Both polled at once: a connection that arrived between the two calls is noticed here.
            if is_stopped && !has_connection {
                return Ok(None);
            }
        }
    }

    /// Accepts the next connection if there is one, without waiting (`accept4(2)`).
    ///
    /// # Errors
    /// See [`accept`](Listener::accept).
    #[track_caller]
    pub fn try_accept(&self) -> io::Result<Option<(Stream, Address)>> {
        self.prepare_to_poll()?;
        self.accept_once()
    }

    /// One `accept4(2)`; `None` if it would have to wait.
    #[track_caller]
    fn accept_once(&self) -> io::Result<Option<(Stream, Address)>> {
        let syscalls = Syscalls::of(self.handle());
        let is_waiting = self.mode() == ListenerMode::Blocking;
        // If the task was cancelled meanwhile, `call` drops the result and with it the connection.
        let result = self.handle().call(|fd| {
            match syscalls.accept(fd, is_waiting) {
                Ok(accepted) => Ok(Some(accepted)),
                Err(Errno::AGAIN) => Ok(None),
                // `call` repeats an interrupted call.
                Err(error) if was_gone(error) => Err(Errno::INTR),
                Err(error) => Err(error),
            }
        })?;
        let Some((socket, peer)) = result else {
            return Ok(None);
        };
        self.0.stop_quota.count();
        let record = self.handle().record();
        let is_unix = record.kind == kind::UNIX_LISTENER;
        let kind = if is_unix { kind::UNIX_STREAM } else { kind::TCP_STREAM };
        let stream = Stream::new(record.registry.own_fd_as(socket, kind, None, Site::here())?);
        stream.handle().record().inherit_timeouts(record);
        if is_unix {
            // A TCP socket inherits these from its listener.
            stream.handle().call(|fd| sockopt::set_socket_oobinline(fd, true))?;
            if self.0.accepted.write_timeout.is_some() {
                stream.set_write_timeout(self.0.accepted.write_timeout)?;
            }
            if let Some(bytes) = self.0.accepted.buffer_bytes {
                stream.handle().call(|fd| sockopt::set_socket_send_buffer_size(fd, bytes))?;
            }
        }
        let peer = peer.map_or(Ok(Address::Unnamed), Address::of)?;
        Ok(Some((stream, peer)))
    }

    /// The maximum number of connections that can wait in the backlog.
    #[track_caller]
    fn queued(&self) -> io::Result<u32> {
        let waiting = self.handle().call(|fd| Ok(Number::of(&fd).queued_connections()))?;
        Ok(waiting.unwrap_or(self.0.stop_quota.places))
    }

    /// Waits for either, and returns which of the two is ready.
    #[track_caller]
    fn poll_with(&self, stop: &PipeReader) -> io::Result<(bool, bool)> {
        let syscalls = Syscalls::of(self.handle());
        self.handle().call(|listener| {
            Ok(stop.handle().call(|stop| {
                let mut polled =
                    [PollFd::new(&listener, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
                syscalls.poll(&mut polled, None)?;
                Ok((!polled[0].revents().is_empty(), !polled[1].revents().is_empty()))
            }))
        })?
    }

    // A connection can disappear between `poll(2)` and `accept4(2)`; accepting must not block then.
    #[track_caller]
    fn prepare_to_poll(&self) -> io::Result<()> {
        if self.mode() == ListenerMode::Blocking {
            self.handle().call(|fd| rustix::io::ioctl_fionbio(fd, true))?;
            self.set_mode(ListenerMode::Polling);
        }
        Ok(())
    }

    /// Whether [`accept`](Listener::accept) returns `WouldBlock` when no connection waits (`FIONBIO`).
    /// Accepted streams block in any case.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.handle().call(|fd| rustix::io::ioctl_fionbio(fd, on))?;
        self.set_mode(if on { ListenerMode::Nonblocking } else { ListenerMode::Blocking });
        Ok(())
    }

    /// The local address, with the port that the kernel chose (`getsockname(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::of(self.handle().call(|fd| rustix::net::getsockname(fd))?)
    }

    fn mode(&self) -> ListenerMode {
        // ord: Relaxed; only the owner reads and writes it, and a change of owner orders them (the
        // slot's AcqRel).
        match self.0.mode.load(Ordering::Relaxed) {
            0 => ListenerMode::Blocking,
            1 => ListenerMode::Polling,
            _ => ListenerMode::Nonblocking,
        }
    }

    fn set_mode(&self, mode: ListenerMode) {
        // ord: Relaxed, as above.
        self.0.mode.store(mode as u8, Ordering::Relaxed);
    }
}
