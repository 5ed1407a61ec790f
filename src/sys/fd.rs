//! Descriptors: their numbers, what they are, and which one a number means right now.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::FileType;
use rustix::net::{AddressFamily, Shutdown, SocketAddrAny, SocketType, sockopt};

use super::escape;
use super::unix_address::UnixName;

/// A descriptor's number, without a claim that it is open.
///
/// The registry stores numbers, not descriptors: the value that closes stays in its slot. Whoever
/// lends a number out to use it must hold a proof from the registry that it does not close the number
/// meanwhile: being the owner's own thread, holding a pin, or having won the close. To look at what a
/// number means takes no proof, and the answer is about that moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Number(RawFd);

impl Number {
    pub(crate) fn of(fd: &impl AsFd) -> Number {
        Number(fd.as_fd().as_raw_fd())
    }

    /// A number out of the list of what is open, for looking at it and nothing else: whoever has it
    /// may close it meanwhile, and then the look answers `EBADF`, or sees a newcomer.
    #[cfg(feature = "macros")]
    pub(crate) fn listed(number: RawFd) -> Number {
        Number(number)
    }

    pub(crate) fn raw(self) -> RawFd {
        self.0
    }

    /// Lends the number for the length of one call.
    ///
    /// The borrow cannot leave `call`: its lifetime is bound inside.
    #[inline]
    pub(crate) fn lend<R>(self, call: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
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
    pub(crate) fn identity(self) -> io::Result<Identity> {
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
    pub(crate) fn identity_as_socket(self) -> io::Result<Identity> {
        match self.lend(socket_identity) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::BADF.raw_os_error()) => {
                self.identity()
            }
            answer => answer,
        }
    }

    /// What kind of thing the number means, in the field's words.
    pub(crate) fn kind(self) -> &'static str {
        self.lend(|fd| {
            let Ok(stat) = rustix::fs::fstat(fd) else {
                return "closed descriptor";
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Socket => socket_kind(fd),
                FileType::Fifo => "pipe",
                FileType::RegularFile => "file",
                FileType::Directory => "directory",
                FileType::CharacterDevice => "character device",
                FileType::BlockDevice => "block device",
                _ => "anonymous inode",
            }
        })
    }

    /// Addresses or path, as far as the kernel tells them.
    pub(crate) fn place(self) -> Place {
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
    pub(crate) fn unacknowledged(self) -> io::Result<u32> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (which is TIOCOUTQ) writes one int where the pointer leads, which is
        // alive and writable for the call.
        let answer = unsafe { libc::ioctl(self.0, libc::TIOCOUTQ, &raw mut bytes) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.unsigned_abs()) }
    }

    /// How many connections wait to be accepted from a TCP listener: `tcpi_unacked` of `TCP_INFO`,
    /// which has this meaning for listeners. `None` for every other kind of descriptor.
    #[cfg(target_os = "linux")]
    pub(crate) fn queued_connections(self) -> Option<u32> {
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
    pub(crate) fn queued_connections(self) -> Option<u32> {
        None
    }

    /// Has `bind(2)` take an address and no port, which `connect(2)` then chooses for the peer
    /// (`IP_BIND_ADDRESS_NO_PORT`; it serves both versions of IP).
    ///
    /// # Errors
    /// The number is no such socket.
    #[cfg(target_os = "linux")]
    pub(crate) fn leave_port_to_connect(self) -> io::Result<()> {
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
    /// What is no socket, or no longer connected, is left as it is: there is nobody to wake. So is
    /// everything in a forked child, whose sockets are its parent's connections.
    pub(crate) fn shut(self, direction: Direction) {
        if super::fork::in_forked_child() {
            return;
        }
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

/// Lets the file behind `by` take over `number`, whose own is closed thereby (`dup3(2)`): the theft
/// that chaos commits. In one step, so that the number is never free: no newcomer of another thread
/// can get it, and be taken for this one.
///
/// For the owner of `number` alone, in the owner's thread.
///
/// # Errors
/// The system call's; the number means what it meant before.
pub(crate) fn take_over(
    number: BorrowedFd<'_>,
    by: impl AsFd,
) -> rustix::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

    // SAFETY: this breaks I/O safety on purpose. The number is open and the caller's (it holds the
    // registry's proof, which is where the borrow comes from), so that nobody else's descriptor is
    // closed. From then on two think that they own the number: what is answered here, rightly, and the
    // old owner's value in its cell, which the registry never closes because it compares identities
    // first (`Cell::finalize`), and a socket never has that of `by`, which is none. No memory is
    // reached through a number.
    let mut taken = unsafe { OwnedFd::from_raw_fd(number.as_raw_fd()) };
    #[cfg(target_os = "linux")]
    let replaced = rustix::io::dup3(by.as_fd(), &mut taken, rustix::io::DupFlags::CLOEXEC);
    #[cfg(not(target_os = "linux"))]
    let replaced = rustix::io::dup2(by.as_fd(), &mut taken);
    match replaced {
        Ok(()) => Ok(taken),
        Err(error) => {
            // Still the old owner's.
            let _ = taken.into_raw_fd();
            Err(error)
        }
    }
}

/// Closes a descriptor (`close(2)`), once, and answers what the system said of it.
///
/// Whatever that is, the number is gone: a second try could close what somebody else has just opened.
///
/// # Errors
/// What was written could not be kept (`EIO`, `ENOSPC`, `EDQUOT`).
pub(crate) fn close(fd: std::os::fd::OwnedFd) -> rustix::io::Result<()> {
    use std::os::fd::IntoRawFd;

    // SAFETY: the number comes from the descriptor's one owner, which has given it up on the line
    // itself, so that nobody closes it a second time. No memory is reached through it.
    let answer = unsafe { libc::close(fd.into_raw_fd()) };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    tell(Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))
}

/// What there is to tell of a close. That it was interrupted says nothing: on Linux the number is free
/// before anything could be interrupted.
///
/// # Errors
/// Anything else.
pub(crate) fn tell(closed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match closed {
        Err(rustix::io::Errno::INTR) => Ok(()),
        told => told,
    }
}

/// Which ways of a socket are meant: the whole, or one half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Both,
    Read,
    Write,
}

/// Tells one open file from another that has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "snake_case"))]
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
pub(crate) struct Place {
    pub(crate) local: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) path: Option<String>,
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
        (Ok(AddressFamily::UNIX), Ok(SocketType::STREAM), true) => "unix listener",
        (Ok(AddressFamily::UNIX), Ok(SocketType::STREAM), false) => "unix stream",
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::STREAM), true) => {
            "tcp listener"
        }
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::STREAM), false) => {
            "tcp stream"
        }
        (Ok(AddressFamily::INET | AddressFamily::INET6), Ok(SocketType::DGRAM), _) => "udp socket",
        _ => "socket",
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
pub(crate) fn link_target(number: RawFd) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    Some(escape::path(&target).into_owned())
}

/// The numbers that are open in this process right now, in ascending order.
///
/// Without `/proc/self/fd` (or `/dev/fd`), as in an empty root, they are asked for one by one.
///
/// # Limits
/// Asked one by one, numbers above 65,536 are not found, unless nothing more can be opened.
pub(crate) fn open_numbers() -> Vec<RawFd> {
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
