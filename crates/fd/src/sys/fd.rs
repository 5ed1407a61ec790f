//! Descriptors: their numbers, kinds and identities.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::FileType;
use rustix::net::{AddressFamily, Shutdown, SocketAddrAny, SocketType, sockopt};

use super::unix_address::UnixName;
use crate::{escape, kind};

/// A descriptor's number, without a claim that it is open.
///
/// The registry stores numbers, not descriptors: the value that closes stays in its slot. Whoever
/// lends a number out to use it must hold a proof from the registry that it does not close the number
/// meanwhile: being the owner's own thread, holding a pin, or having won the close. To look at what a
/// number means takes no proof, and the answer is about that moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number(RawFd);

impl Number {
    /// The number of an open descriptor.
    pub fn of(fd: &impl AsFd) -> Number {
        Number(fd.as_fd().as_raw_fd())
    }

    /// A number out of the list of what is open, for looking at it and nothing else: whoever has it
    /// may close it meanwhile, and then the look answers `EBADF`, or sees a newcomer.
    pub fn listed(number: RawFd) -> Number {
        Number(number)
    }

    /// The plain number.
    pub fn raw(self) -> RawFd {
        self.0
    }

    /// Lends the number for the length of one call.
    ///
    /// The borrow cannot leave `call`: its lifetime is bound inside.
    #[inline]
    pub fn lend<R>(self, call: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        // SAFETY: `borrow_raw` asks for a number that is not -1 (it came from an `AsFd`, or from a list
        // of what is open) and that stays open for the borrow. The registry's own closes keep to that:
        // they come from the owner's own thread or from the exclusive holder of the handle, and wait
        // for pins (docs/proof.md, "Why a number is never used after its close"). Nothing keeps to it
        // for a number that is closed outside the registry, that is out of a list and only looked at,
        // or that belongs to a registry at level `off` or in a forked child. There the call is made on
        // whatever the number means at that moment, or answers EBADF. That breaks the convention of
        // I/O safety and is no undefined behaviour: no memory is reached through a number, and the
        // borrow does not outlive `call`.
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.0) };
        call(borrowed)
    }

    /// Which open file the number means right now (`fstat(2)`, `SO_COOKIE`).
    ///
    /// # Errors
    /// `EBADF` when the number is closed.
    pub fn identity(self) -> io::Result<Identity> {
        self.lend(|fd| {
            let stat = rustix::fs::fstat(fd)?;
            let file = FileType::from_raw_mode(stat.st_mode);
            let node = (stat.st_dev as u64, stat.st_ino as u64);
            Ok(match file {
                FileType::Socket => return socket_identity(fd),
                FileType::Unknown => Identity::Anonymous,
                _ => Identity::Node { device: node.0, inode: node.1 },
            })
        })
    }

    /// The identity of what was a socket when it was registered: one call, where
    /// [`identity`](Number::identity) takes two.
    ///
    /// # Errors
    /// `EBADF` when the number is closed.
    pub fn identity_as_socket(self) -> io::Result<Identity> {
        match self.lend(socket_identity) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::BADF.raw_os_error()) => {
                self.identity()
            }
            answer => answer,
        }
    }

    /// What kind of thing the number means, in the field's words.
    pub fn kind(self) -> &'static str {
        self.lend(|fd| {
            let Ok(stat) = rustix::fs::fstat(fd) else {
                return kind::CLOSED;
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Socket => socket_kind(fd),
                FileType::Fifo => kind::PIPE,
                FileType::RegularFile => kind::FILE,
                FileType::Directory => kind::DIRECTORY,
                FileType::CharacterDevice => kind::CHARACTER_DEVICE,
                FileType::BlockDevice => kind::BLOCK_DEVICE,
                _ => kind::ANONYMOUS_INODE,
            }
        })
    }

    /// Addresses or path, as far as the kernel tells them.
    pub fn place(self) -> Place {
        self.lend(|fd| {
            let local = rustix::net::getsockname(fd).ok().and_then(address);
            let peer = rustix::net::getpeername(fd).ok().flatten().and_then(address);
            let path = if local.is_none() && peer.is_none() { link_target(self.0) } else { None };
            Place { local, peer, path }
        })
    }

    /// Bytes that were sent and that the peer's system has not acknowledged (`SIOCOUTQ`).
    ///
    /// # Errors
    /// The number is no socket.
    #[cfg(target_os = "linux")]
    pub fn unacknowledged(self) -> io::Result<u32> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (which is TIOCOUTQ) writes one int where the pointer leads, which is
        // alive and writable for the call.
        let answer = unsafe { libc::ioctl(self.0, libc::TIOCOUTQ, &raw mut bytes) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.unsigned_abs()) }
    }

    /// How many connections wait to be accepted from a TCP listener: `tcpi_unacked` of `TCP_INFO`,
    /// which has this meaning for listeners. `None` for every other kind of descriptor.
    #[cfg(target_os = "linux")]
    pub fn queued_connections(self) -> Option<u32> {
        /// Where the field is in `struct tcp_info`: after eight bytes and four words.
        const UNACKED: usize = 6;
        const LISTENING: u8 = 10;
        let mut info = [0_u32; UNACKED + 1];
        let mut length = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which `info` has, and then the length
        // that it wrote; both live on this stack.
        let answer = unsafe {
            libc::getsockopt(
                self.0,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        // The first byte is the state.
        let is_listening = info[0].to_ne_bytes()[0] == LISTENING;
        (answer == 0 && length as usize == size_of_val(&info) && is_listening)
            .then_some(info[UNACKED])
    }

    /// Unknown here.
    #[cfg(not(target_os = "linux"))]
    pub fn queued_connections(self) -> Option<u32> {
        None
    }

    /// Has `bind(2)` take an address and no port, which `connect(2)` then chooses for the peer
    /// (`IP_BIND_ADDRESS_NO_PORT`; it serves both versions of IP).
    ///
    /// # Errors
    /// The number is no such socket.
    #[cfg(target_os = "linux")]
    pub fn leave_port_to_connect(self) -> io::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: the option takes one int, which is alive for the call, and its size is told.
        let answer = unsafe {
            libc::setsockopt(
                self.0,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Shuts the socket behind the number down (`shutdown(2)`), waking whoever is blocked in it.
    ///
    /// Does nothing for a descriptor that is not a connected socket: no call waits on it.
    pub fn shut(self, direction: Direction) {
        let how = match direction {
            Direction::Both => Shutdown::Both,
            Direction::Read => Shutdown::Read,
            Direction::Write => Shutdown::Write,
        };
        let _ = self.lend(|fd| rustix::net::shutdown(fd, how));
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {}", self.0)
    }
}

/// Which ways of a socket are meant: the whole, or one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading and writing.
    Both,
    /// What arrives.
    Read,
    /// What is sent.
    Write,
}

/// Tells one open file from another that has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Identity {
    /// A socket, by the kernel's `SO_COOKIE`: never reused while the machine runs.
    Socket {
        /// The cookie.
        cookie: u64,
    },
    /// A file, pipe, memfd or device by its inode. Another open of the same file cannot be told
    /// apart.
    Node {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// An epoll, eventfd, timerfd or inotify descriptor (they all share one inode), or a socket
    /// on a system without cookies: two of them cannot be told apart.
    Anonymous,
}

impl Identity {
    /// Whether two identities are certainly different open files.
    #[must_use]
    pub fn differs_from(self, other: Identity) -> bool {
        self != other
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Socket { cookie } => write!(f, "socket cookie {cookie}"),
            Identity::Node { device, inode } => write!(f, "inode {inode} on device {device}"),
            Identity::Anonymous => f.write_str("anonymous inode"),
        }
    }
}

/// Where a descriptor leads, [escaped](escape): clients choose their sockets' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The own address.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The target of the link in `/proc/self/fd`, if there is no address.
    pub path: Option<String>,
}

fn socket_identity(fd: BorrowedFd<'_>) -> io::Result<Identity> {
    #[cfg(target_os = "linux")]
    return Ok(Identity::Socket { cookie: sockopt::socket_cookie(fd)? });
    #[cfg(not(target_os = "linux"))]
    return rustix::fs::fstat(fd).map(|_| Identity::Anonymous).map_err(Into::into);
}

fn socket_kind(fd: BorrowedFd<'_>) -> &'static str {
    let family = rustix::net::getsockname(fd).map(|address| address.address_family());
    let listening = sockopt::socket_acceptconn(fd).unwrap_or(false);
    match (family, sockopt::socket_type(fd), listening) {
        (Ok(AddressFamily::UNIX), Ok(SocketType::STREAM), true) => kind::UNIX_LISTENER,
        (Ok(AddressFamily::UNIX), Ok(SocketType::STREAM), false) => kind::UNIX_STREAM,
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::STREAM), true) => {
            kind::TCP_LISTENER
        }
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::STREAM), false) => {
            kind::TCP_STREAM
        }
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::DGRAM), _) => {
            kind::UDP_SOCKET
        }
        _ => kind::SOCKET,
    }
}

fn address(any: SocketAddrAny) -> Option<String> {
    if any.address_family() != AddressFamily::UNIX {
        return Some(SocketAddr::try_from(any).ok()?.to_string());
    }
    match UnixName::of(&any) {
        UnixName::Path(path) => Some(format!("unix:{}", escape::path(&path))),
        UnixName::Abstract(name) => Some(format!("unix:@{}", escape::bytes(&name))),
        UnixName::Unnamed => None,
    }
}

/// What `/proc/self/fd` says about a number, [escaped](escape); `None` without a proc file system.
pub fn link_target(number: RawFd) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    Some(escape::path(&target).into_owned())
}

/// The numbers that are open in this process right now, in ascending order.
///
/// Without `/proc/self/fd` (or `/dev/fd`), as in an empty root, they are asked for one by one.
///
/// # Limits
/// Asked one by one, numbers above 65,536 are not found, unless nothing more can be opened.
pub fn open_numbers() -> Vec<RawFd> {
    /// Where asking number by number ends, if the limit is lower: it may have been lowered below
    /// numbers that are open.
    const ASKED_MIN: RawFd = 65_536;

    // Not F_GETFD, which a test that is traced would be trapped for, 65536 times.
    let is_open = |number: &RawFd| Number(*number).lend(|fd| rustix::fs::fstat(fd)).is_ok();
    let directory = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    let directory = match directory {
        Ok(directory) => directory,
        // Whoever leaks until nothing can be opened any more would otherwise seem to have left nothing.
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let limit = limit.and_then(|limit| RawFd::try_from(limit).ok()).unwrap_or(ASKED_MIN);
            return (0..limit.max(ASKED_MIN)).filter(is_open).collect();
        }
        // The limit may be a thousand million, of which the lowest are given out first.
        Err(_) => return (0..ASKED_MIN).filter(is_open).collect(),
    };
    let mut numbers: Vec<RawFd> =
        directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The descriptor that read the directory was open while it read.
    numbers.retain(is_open);
    numbers.sort_unstable();
    numbers
}
