//! Listeners: taking connections, and being told to stop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use echown_fd::{fd::Number, kind};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::adaptive_spin::AdaptiveSpin;
use super::address::{Address, may_try_next, no_address};
use super::adopt::StdListener;
use super::connect;
use super::deadline;
use super::keep_alive::KeepAlive;
use super::pipe::PipeReader;
use super::stop_quota::StopQuota;
use super::stream::Stream;
use super::syscalls::{Syscalls, was_gone};
use super::wire::checked;
use crate::ownership::{Owned, Refused, Registry, Site};

/// How many connections the syscalls keeps for a listener that is not accepting just now. The
/// standard library's 128 are gone in a few milliseconds of a busy server's pause; the syscalls's
/// own ceiling (`net.core.somaxconn`, 4096) cuts what is more.
pub const DEFAULT_BACKLOG: u32 = 1024;

/// A listening socket, TCP or Unix, with one owner.
///
/// What it accepts is owned by the accepting task from its first moment, in the listener's
/// registry. A Unix listener's path is left where it is when the listener is closed.
#[must_use = "a listener is closed when its handle is dropped"]
pub struct Listener {
    socket: Owned<OwnedFd>,
    mode: AtomicU8,
    accepted: AcceptedOptions,
    stop_quota: StopQuota,
}

checked!(Listener, socket, Cell);

/// How accepting waits.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ListenerMode {
    /// In `accept4(2)`.
    Blocking = 0,
    /// In `poll(2)`, because [`Listener::accept_or_stop`] made the socket non-blocking.
    Polling = 1,
    /// Not at all: the user said so.
    Nonblocking = 2,
}

/// What accepted streams have from the start.
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
    registry: Registry,
    backlog: u32,
    reuse_port: bool,
    /// `None`: what the system has as its default (`net.ipv6.bindv6only`).
    is_dual_stack: Option<bool>,
    accepted: AcceptedOptions,
}

impl ListenerOptions {
    /// Where the listener and what it accepts are owned; the process-wide registry unless set.
    pub fn registry(mut self, registry: &Registry) -> ListenerOptions {
        self.registry = registry.clone();
        self
    }

    /// How many connections may wait to be accepted; [`DEFAULT_BACKLOG`] unless set.
    pub fn backlog(mut self, connections: u32) -> ListenerOptions {
        self.backlog = connections;
        self
    }

    /// Whether other listeners of this user may have the same TCP address, each with a queue of its
    /// own, among which the syscalls spreads the clients (`SO_REUSEPORT`); not unless set. That the
    /// address is busy is then no longer noticed; [`Listener::reuse_port_clone`] notices.
    pub fn reuse_port(mut self, on: bool) -> ListenerOptions {
        self.reuse_port = on;
        self
    }

    /// Whether a listener on an IPv6 address also takes clients that come by IPv4, whose addresses are
    /// then of the form `[::ffff:192.0.2.1]:1234` (`IPV6_V6ONLY`); the system's default unless set.
    pub fn dual_stack(mut self, on: bool) -> ListenerOptions {
        self.is_dual_stack = Some(on);
        self
    }

    /// Whether streams that are accepted by TCP send small writes at once (`TCP_NODELAY`); not unless
    /// set. They inherit it: one call for all of them instead of one for each.
    pub fn nodelay(mut self, on: bool) -> ListenerOptions {
        self.accepted.nodelay = on;
        self
    }

    /// How long a write to an accepted stream waits before it answers `WouldBlock`; for ever unless set
    /// (`SO_SNDTIMEO`). By TCP they inherit it, as above; Unix streams are each told.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> ListenerOptions {
        self.accepted.write_timeout = timeout;
        self
    }

    /// When the peers of streams that are accepted by TCP are probed (`SO_KEEPALIVE`); never unless
    /// set. They inherit it, as above; Unix streams need none.
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> ListenerOptions {
        self.accepted.keep_alive = keep_alive;
        self
    }

    /// Listens by TCP on the first of the name's addresses that is free (`bind(2)`, `listen(2)`),
    /// with `SO_REUSEADDR`, as the standard library does.
    ///
    /// # Errors
    /// The last address's, the resolver's, or the registry's. `InvalidInput`: a write timeout of no time
    /// at all.
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
    /// `AddrInUse`: the path exists, whoever made it. The registry's. `InvalidInput` as above.
    #[track_caller]
    pub fn bind_unix(&self, path: impl AsRef<Path>) -> io::Result<Listener> {
        let address = connect::unix_path(path.as_ref())?;
        let listener = self.socket(AddressFamily::UNIX, kind::UNIX_LISTENER)?;
        listener.handle().call(|fd| rustix::net::bind(fd, &address))?;
        self.listen(listener)
    }

    #[track_caller]
    fn bind_inet(&self, address: &SocketAddr) -> io::Result<Listener> {
        let listener = self.socket(connect::family(address), kind::TCP_LISTENER)?;
        listener.handle().call(|fd| sockopt::set_socket_reuseaddr(fd, true))?;
        if self.reuse_port {
            listener.handle().call(|fd| sockopt::set_socket_reuseport(fd, true))?;
        }
        if let Some(on) = self.is_dual_stack.filter(|_| address.is_ipv6()) {
            listener.handle().call(|fd| sockopt::set_ipv6_v6only(fd, !on))?;
        }
        listener.handle().call(|fd| rustix::net::bind(fd, address))?;
        // Before the first client can come, which would inherit nothing.
        if self.accepted.nodelay {
            listener.handle().call(|fd| sockopt::set_tcp_nodelay(fd, true))?;
        }
        if let Some(keep_alive) = self.accepted.keep_alive {
            listener.handle().call(|fd| keep_alive.set(fd))?;
        }
        self.listen(listener)
    }

    #[track_caller]
    fn socket(&self, family: AddressFamily, kind: &'static str) -> io::Result<Listener> {
        let flags = SocketFlags::empty();
        let socket = connect::socket(&self.registry, family, SocketType::STREAM, flags, kind)?;
        let listener = Listener {
            accepted: self.accepted,
            stop_quota: StopQuota::new(self.backlog),
            ..Listener::new(socket, ListenerMode::Blocking)
        };
        if let timeout @ Some(_) = self.accepted.write_timeout {
            // A Unix listener's streams do not inherit it, but a wrong one fails before there is a file.
            deadline::set_timeout(listener.handle(), Timeout::Send, timeout)?;
        }
        Ok(listener)
    }

    #[track_caller]
    fn listen(&self, listener: Listener) -> io::Result<Listener> {
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        listener.handle().call(|fd| rustix::net::listen(fd, backlog))?;
        Ok(listener)
    }
}

impl Default for ListenerOptions {
    fn default() -> ListenerOptions {
        let registry = Registry::global().clone();
        let accepted = AcceptedOptions::default();
        ListenerOptions {
            registry,
            backlog: DEFAULT_BACKLOG,
            reuse_port: false,
            is_dual_stack: None,
            accepted,
        }
    }
}

/// Making one.
impl Listener {
    fn new(socket: Owned<OwnedFd>, mode: ListenerMode) -> Listener {
        Listener {
            socket,
            mode: AtomicU8::new(mode as u8),
            accepted: AcceptedOptions::default(),
            stop_quota: StopQuota::new(DEFAULT_BACKLOG),
        }
    }

    /// Settings for a new listener.
    pub fn options() -> ListenerOptions {
        ListenerOptions::default()
    }

    /// [`ListenerOptions::bind`] with the default settings.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Listener> {
        Listener::options().bind(addresses)
    }

    /// [`ListenerOptions::bind`] in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn bind_in(registry: &Registry, addresses: impl ToSocketAddrs) -> io::Result<Listener> {
        Listener::options().registry(registry).bind(addresses)
    }

    /// [`ListenerOptions::bind_unix`] with the default settings.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn bind_unix(path: impl AsRef<Path>) -> io::Result<Listener> {
        Listener::options().bind_unix(path)
    }

    /// [`ListenerOptions::bind_unix`] in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn bind_unix_in(registry: &Registry, path: impl AsRef<Path>) -> io::Result<Listener> {
        Listener::options().registry(registry).bind_unix(path)
    }

    /// Becomes the owner of a `TcpListener` or a `UnixListener`.
    ///
    /// # Errors
    /// `AlreadyOwned`: the number is on record, and the socket comes back unclosed. `Cancelled`,
    /// `TaskExiting`: it was closed at once.
    #[track_caller]
    pub fn own<S: StdListener>(socket: S) -> Result<Listener, Refused<S>> {
        Listener::own_in(Registry::global(), socket)
    }

    /// [`own`](Listener::own) in another registry.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn own_in<S: StdListener>(registry: &Registry, socket: S) -> Result<Listener, Refused<S>> {
        let flags = rustix::fs::fcntl_getfl(socket.as_fd());
        // Where even this fails, the socket is not open, and `own` will say so.
        let waits = !flags.is_ok_and(|flags| flags.contains(OFlags::NONBLOCK));
        let mode = if waits { ListenerMode::Blocking } else { ListenerMode::Nonblocking };
        registry
            .own_fd_as(socket.into(), S::KIND, None, Site::here())
            .map(|socket| Listener::new(socket, mode))
            .map_err(|refused| refused.map(S::from))
    }

    /// Gives it up without closing it. Types of the standard library can be made from what comes
    /// back.
    ///
    /// # Errors
    /// `NotOwner` and its kin, and it comes back; `FdReplaced`, when the number no longer means what
    /// was registered.
    #[track_caller]
    pub fn disown(self) -> Result<OwnedFd, Refused<Listener>> {
        let Listener { socket, mode, accepted, stop_quota } = self;
        let descriptor = match socket.disown() {
            Ok(descriptor) => descriptor,
            Err(refused) => {
                return Err(refused.map(|socket| Listener { socket, mode, accepted, stop_quota }));
            }
        };
        if mode.into_inner() == ListenerMode::Polling as u8 {
            // Nobody asked for a non-blocking socket. FIONBIO fails on no socket that is open.
            let _ = rustix::io::ioctl_fionbio(&descriptor, false);
        }
        Ok(descriptor)
    }
}

/// Several on one address.
impl Listener {
    /// Another listener on the same address, with a queue of its own, for another acceptor.
    ///
    /// TCP: a second socket (`SO_REUSEPORT`); the syscalls spreads the clients. The option is set on
    /// this one only now, after its `bind(2)`, so that an address that another program has was
    /// noticed then. Unix: another descriptor of the same socket (`fcntl(2)`, `F_DUPFD_CLOEXEC`),
    /// because such a socket's path has room for one. What was set by [`ListenerOptions`] holds for its
    /// streams as well.
    ///
    /// # Errors
    /// The system calls', and the registry's.
    #[track_caller]
    pub fn reuse_port_clone(&self, backlog: u32) -> io::Result<Listener> {
        let record = self.handle().record();
        let registry = record.registry.clone();
        let accepted = self.accepted;
        if record.kind == kind::UNIX_LISTENER {
            let other = self.handle().call(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0))?;
            let kind = record.kind;
            let other = record.registry.own_fd_as(other, kind, None, Site::here())?;
            other.handle().record().inherit_timeouts(record);
            let stop_quota = StopQuota::new(backlog);
            return Ok(Listener { accepted, stop_quota, ..Listener::new(other, self.mode()) });
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
            ListenerOptions { registry, backlog, reuse_port: true, is_dual_stack, accepted };
        options.bind_inet(&address)
    }
}

/// Using it.
impl Listener {
    /// Holds each of the two buffers of every stream that is accepted from now on to so many bytes of
    /// the syscalls's memory (`SO_RCVBUF`, `SO_SNDBUF`), which it otherwise lets grow as it sees fit. The
    /// system's own limits (`net.core.rmem_max`, `net.core.wmem_max`) may hold them to less. By TCP
    /// streams inherit it; a Unix stream is told, and only of what it sends: what is sent to it counts
    /// as its peer's.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn limit_buffers(&mut self, bytes: usize) -> io::Result<()> {
        // The syscalls takes the number for payload and doubles it, for its own bookkeeping.
        let payload = bytes / 2;
        self.handle().call(|fd| sockopt::set_socket_recv_buffer_size(fd, payload))?;
        self.handle().call(|fd| sockopt::set_socket_send_buffer_size(fd, payload))?;
        self.accepted.buffer_bytes = Some(payload);
        Ok(())
    }

    /// Takes the next connection, owned by the current task, and its peer's address
    /// (`accept4(2)`). Waits for one, unless the listener is
    /// [non-blocking](Listener::set_nonblocking).
    ///
    /// A connection that was gone before it could be accepted is passed over.
    ///
    /// # Errors
    /// `Cancelled` and the registry's other refusals, with which no connection is left open. What
    /// a limit brings (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) leaves the connection in the
    /// backlog: whoever tries again at once spins.
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

    /// Takes the next connection, or answers `None` once `stop` is on and no connection is left
    /// (`accept4(2)`, `poll(2)`).
    ///
    /// `stop` is on when its pipe's write end is closed, or when something was written there. The
    /// listener stays as it is: clients that the syscalls had already put into the backlog are still
    /// served, because a waiting connection always comes first. Those that come later are not waited
    /// for: after as many as were waiting when `stop` was noticed, at most 16 connections late, the
    /// result is `None` however many there are. Waits even where the listener is non-blocking.
    ///
    /// # Limits
    /// How many are waiting is known for TCP on Linux. Elsewhere it is as many as the backlog has
    /// places.
    ///
    /// # Errors
    /// As [`accept`](Listener::accept); the registry's refusals also for `stop`, which the current
    /// task must own too.
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
        self.accept_or_stop_spinning(stop, &mut AdaptiveSpin::none())
    }

    /// As [`accept_or_stop`](Listener::accept_or_stop), but attempts a few times before it sleeps, as far
    /// as that has paid.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn accept_or_stop_spinning(
        &self,
        stop: &PipeReader,
        spin: &mut AdaptiveSpin,
    ) -> io::Result<Option<(Stream, Address)>> {
        stop.check()?;
        self.prepare_to_poll()?;
        let is_stopped = || stop.wait_readable(Duration::ZERO);
        if self.stop_quota.is_reached(is_stopped, || self.queued())? {
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
            // Looked at in one moment: a connection that came between the two calls is seen here.
            if is_stopped && !has_connection {
                return Ok(None);
            }
        }
    }

    /// Takes the next connection if there is one, without waiting (`accept4(2)`).
    ///
    /// # Errors
    /// As [`accept`](Listener::accept).
    #[track_caller]
    pub fn try_accept(&self) -> io::Result<Option<(Stream, Address)>> {
        self.prepare_to_poll()?;
        self.accept_once()
    }

    /// One `accept4(2)`; `None` when it would have to wait.
    #[track_caller]
    fn accept_once(&self) -> io::Result<Option<(Stream, Address)>> {
        let syscalls = Syscalls::of(self.handle());
        let is_waiting = self.mode() == ListenerMode::Blocking;
        // Cancelled meanwhile, the result is dropped in `call`, and the connection with it.
        let result = self.handle().call(|fd| {
            match syscalls.accept(fd, is_waiting) {
                Ok(accepted) => Ok(Some(accepted)),
                Err(Errno::AGAIN) => Ok(None),
                // `call` makes an interrupted call again.
                Err(error) if was_gone(error) => Err(Errno::INTR),
                Err(error) => Err(error),
            }
        })?;
        let Some((socket, peer)) = result else {
            return Ok(None);
        };
        self.stop_quota.count();
        let record = self.handle().record();
        let is_unix = record.kind == kind::UNIX_LISTENER;
        let kind = if is_unix { kind::UNIX_STREAM } else { kind::TCP_STREAM };
        let stream = Stream::new(record.registry.own_fd_as(socket, kind, None, Site::here())?);
        stream.handle().record().inherit_timeouts(record);
        if is_unix {
            // A TCP socket has these from its listener.
            stream.handle().call(|fd| sockopt::set_socket_oobinline(fd, true))?;
            if self.accepted.write_timeout.is_some() {
                stream.set_write_timeout(self.accepted.write_timeout)?;
            }
            if let Some(bytes) = self.accepted.buffer_bytes {
                stream.handle().call(|fd| sockopt::set_socket_send_buffer_size(fd, bytes))?;
            }
        }
        let peer = peer.map_or(Ok(Address::Unnamed), Address::of)?;
        Ok(Some((stream, peer)))
    }

    /// How many connections wait to be accepted, at most.
    #[track_caller]
    fn queued(&self) -> io::Result<u32> {
        let waiting = self.handle().call(|fd| Ok(Number::of(&fd).queued_connections()))?;
        Ok(waiting.unwrap_or(self.stop_quota.places))
    }

    /// Waits for either; answers which of them has something.
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

    /// Between `poll(2)` and `accept4(2)` a connection can go; accepting must not block then.
    #[track_caller]
    fn prepare_to_poll(&self) -> io::Result<()> {
        if self.mode() == ListenerMode::Blocking {
            self.handle().call(|fd| rustix::io::ioctl_fionbio(fd, true))?;
            self.set_mode(ListenerMode::Polling);
        }
        Ok(())
    }

    /// Whether [`accept`](Listener::accept) answers `WouldBlock` when no connection is there
    /// (`FIONBIO`). What is accepted waits in any case.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.handle().call(|fd| rustix::io::ioctl_fionbio(fd, on))?;
        self.set_mode(if on { ListenerMode::Nonblocking } else { ListenerMode::Blocking });
        Ok(())
    }

    /// The address that is listened on, with the port that the syscalls chose (`getsockname(2)`).
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::of(self.handle().call(|fd| rustix::net::getsockname(fd))?)
    }

    fn mode(&self) -> ListenerMode {
        // ord: Relaxed; only the owner reads and writes it, and a change of owner orders them (the
        // slot's AcqRel).
        match self.mode.load(Ordering::Relaxed) {
            0 => ListenerMode::Blocking,
            1 => ListenerMode::Polling,
            _ => ListenerMode::Nonblocking,
        }
    }

    fn set_mode(&self, mode: ListenerMode) {
        // ord: Relaxed, as above.
        self.mode.store(mode as u8, Ordering::Relaxed);
    }
}
