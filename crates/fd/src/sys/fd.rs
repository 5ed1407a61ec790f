//! Descriptors: their numbers, kinds and identities.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::FileType;
use rustix::net::{AddressFamily, Shutdown, SocketAddrAny, SocketType, sockopt};

use super::cookies;
pub use super::cookies::without_cookies;
use super::unix_address::UnixName;
pub use crate::identity::Identity;
use crate::{escape, kind};

/// A descriptor's number, without a claim that it is open.
///
/// The registry stores numbers, not descriptors: the slot keeps the value that closes. A caller
/// that lends a number for use needs proof that the registry does not close it meanwhile: it runs
/// on the owner's thread, holds a pin, or has won the close. Inspecting a number needs no proof;
/// the result is valid only for that moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number(RawFd);

impl Number {
    /// The number of an open descriptor.
    pub fn of(fd: &impl AsFd) -> Number {
        Number(fd.as_fd().as_raw_fd())
    }

    /// A number from a list of open descriptors, for inspection only: its owner may close it at any
    /// time. An inspection then returns `EBADF`, or describes another file.
    pub fn listed(number: RawFd) -> Number {
        Number(number)
    }

    /// The raw number.
    pub fn raw(self) -> RawFd {
        self.0
    }

    /// Lends the number for one call.
    ///
    /// The borrow cannot escape `call`, because its lifetime is bound to the closure.
    #[inline]
    pub fn lend<R>(self, call: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        // SAFETY: `borrow_raw` requires a number that is not -1 (this one came from an `AsFd` or
        // from a list of open descriptors) and that stays open during the borrow. The registry's
        // own closes guarantee that: they are made by the owner's own thread or by the exclusive
        // holder of the handle, and wait for pins (docs/proof.md, "Why a number is never used after
        // its close"). There is no guarantee for a number that is closed outside the registry, that
        // is from a list and only inspected, or that belongs to a registry at level `off` or in a
        // forked child. Such a call affects the file that the number refers to at that moment, or
        // fails with EBADF. That violates the convention of I/O safety but is no undefined
        // behaviour: no memory is accessed through a number, and the borrow does not outlive
        // `call`.
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.0) };
        call(borrowed)
    }

    /// The identity of the open file that the number refers to now (`fstat(2)`, `SO_COOKIE`).
    ///
    /// # Limits
    /// Where the system rejects `SO_COOKIE`, a socket is identified by its inode
    /// ([`Identity::SocketInode`]), whose number may be used again after a close; see
    /// [`without_cookies`].
    ///
    /// # Errors
    /// `EBADF` if the number is closed.
    pub fn identity(self) -> io::Result<Identity> {
        self.lend(|fd| {
            let stat = rustix::fs::fstat(fd)?;
            let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
            match if is_socket { cookies::cookie(fd)? } else { None } {
                Some(cookie) => Ok(Identity::Socket { cookie }),
                None => Ok(by_inode(&stat)),
            }
        })
    }

    /// The identity of a number that is probably a socket. Takes one system call, while
    /// [`identity`](Number::identity) of a socket takes two.
    ///
    /// # Errors
    /// `EBADF` if the number is closed.
    pub fn identity_as_socket(self) -> io::Result<Identity> {
        self.lend(|fd| match cookies::cookie(fd)? {
            Some(cookie) => Ok(Identity::Socket { cookie }),
            None => Ok(by_inode(&rustix::fs::fstat(fd)?)),
        })
    }

    /// The identity to compare with one that was taken earlier: of the same kind, if the number still
    /// refers to the same file.
    ///
    /// # Errors
    /// `EBADF` if the number is closed.
    pub fn identity_like(self, earlier: Identity) -> io::Result<Identity> {
        match earlier {
            Identity::Socket { .. } => self.identity_as_socket(),
            Identity::SocketInode { .. } => self.lend(|fd| Ok(by_inode(&rustix::fs::fstat(fd)?))),
            _ => self.identity(),
        }
    }

    /// The kind of the open file; see [`kind`](crate::kind).
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

    /// Addresses or path, as far as the kernel returns them.
    pub fn addresses(self) -> FdAddresses {
        self.lend(|fd| {
            let local = rustix::net::getsockname(fd).ok().and_then(address);
            let peer = rustix::net::getpeername(fd).ok().flatten().and_then(address);
            let path = if local.is_none() && peer.is_none() { link_target(self.0) } else { None };
            FdAddresses { local, peer, path }
        })
    }

    /// The number of sent bytes that the peer's system has not acknowledged (`SIOCOUTQ`).
    ///
    /// # Errors
    /// The number is not a socket.
    #[cfg(target_os = "linux")]
    pub fn unacknowledged(self) -> io::Result<u32> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (the same as TIOCOUTQ) writes one int to the pointer's target, which is
        // alive and writable during the call.
        let result = unsafe { libc::ioctl(self.0, libc::TIOCOUTQ as _, &raw mut bytes) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.unsigned_abs()) }
    }

    /// The length of a TCP listener's accept queue: `tcpi_unacked` of `TCP_INFO`, which has this
    /// meaning for listeners. `None` for every other kind of descriptor.
    #[cfg(target_os = "linux")]
    pub fn queued_connections(self) -> Option<u32> {
        /// The index of the field in `struct tcp_info`: after eight bytes and four words.
        const UNACKED: usize = 6;
        const LISTENING: u8 = 10;
        let mut info = [0_u32; UNACKED + 1];
        let mut length = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large, and then
        // the written length; both are on this stack.
        let result = unsafe {
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
        (result == 0 && length as usize == size_of_val(&info) && is_listening)
            .then_some(info[UNACKED])
    }

    /// Not available on this system.
    #[cfg(not(target_os = "linux"))]
    pub fn queued_connections(self) -> Option<u32> {
        None
    }

    /// Shuts down the socket behind the number (`shutdown(2)`), which wakes threads that block in
    /// it.
    ///
    /// Does nothing for a descriptor that is not a connected socket, because no call blocks in it.
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

/// The directions of a socket: both, or one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading and writing.
    Both,
    /// Received data.
    Read,
    /// Sent data.
    Write,
}

/// The addresses or path of a descriptor, [escaped](escape), because clients choose the names of
/// their sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdAddresses {
    /// The local address.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The target of the link in `/proc/self/fd`, if there is no address.
    pub path: Option<String>,
}

/// The identity without a cookie.
fn by_inode(stat: &rustix::fs::Stat) -> Identity {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the types of the fields differ from system to system"
    )]
    let (device, inode) = (stat.st_dev as u64, stat.st_ino as u64);
    match FileType::from_raw_mode(stat.st_mode) {
        // Systems other than Linux number only some kinds of sockets.
        FileType::Socket if inode == 0 => Identity::Anonymous,
        FileType::Socket => Identity::SocketInode { device, inode },
        FileType::Unknown => Identity::Anonymous,
        _ => Identity::Node { device, inode },
    }
}

fn socket_kind(fd: BorrowedFd<'_>) -> &'static str {
    let family = rustix::net::getsockname(fd).map(|address| address.address_family());
    // macOS does not say whether a socket listens.
    #[cfg(target_os = "macos")]
    let listening = false;
    #[cfg(not(target_os = "macos"))]
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

/// The target of the link in `/proc/self/fd`, [escaped](escape); `None` without a proc file system.
pub fn link_target(number: RawFd) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    Some(escape::path(&target).into_owned())
}

/// The numbers that are open in this process now, in ascending order.
///
/// Without `/proc/self/fd` (or `/dev/fd`), as in an empty root, each number is checked with a call.
///
/// # Limits
/// Checked one by one, numbers above 65,536 are not found, unless the descriptor limit is reached.
pub fn open_numbers() -> Vec<RawFd> {
    /// The minimum end of the check one by one: the limit may have been lowered below open numbers.
    const CHECKED_MIN: RawFd = 65_536;

    // Not F_GETFD, which the trap would catch 65536 times in a traced test.
    let is_open = |number: &RawFd| Number(*number).lend(|fd| rustix::fs::fstat(fd)).is_ok();
    let directory = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    let directory = match directory {
        Ok(directory) => directory,
        // Otherwise a program that leaks up to its descriptor limit would seem to have no leaks.
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let limit = limit.and_then(|limit| RawFd::try_from(limit).ok()).unwrap_or(CHECKED_MIN);
            return (0..limit.max(CHECKED_MIN)).filter(is_open).collect();
        }
        // The limit may be as high as 10^9; the lowest numbers are used first.
        Err(_) => return (0..CHECKED_MIN).filter(is_open).collect(),
    };
    let mut numbers: Vec<RawFd> =
        directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // Excludes the descriptor that read the directory.
    numbers.retain(is_open);
    numbers.sort_unstable();
    numbers
}
