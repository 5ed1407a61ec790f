//! The kind of what a call opens, from its arguments. When a number is misused it is closed, so its
//! kind cannot be read any more.

use std::os::fd::RawFd;

use crate::kind;

/// A kind as its position in [`kind::ALL`], plus one; 0 if it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KindCode(u8);

/// The kind of a descriptor that a call opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenedKind {
    Known(KindCode),
    /// The kind of the descriptor that the call was given.
    SameAs(RawFd),
}

impl KindCode {
    pub(super) const UNKNOWN: KindCode = KindCode(0);

    pub(super) fn of(word: &str) -> KindCode {
        let place = kind::ALL.iter().position(|known| *known == word);
        KindCode(place.map_or(0, |place| place as u8 + 1))
    }

    /// The word; `None` if the kind is unknown.
    pub(super) fn word(self) -> Option<&'static str> {
        kind::ALL.get(usize::from(self.0).checked_sub(1)?).copied()
    }

    /// The kind of a listening socket of this kind.
    pub(super) fn listening(self) -> KindCode {
        match self.word() {
            Some(kind::TCP_STREAM) => KindCode::of(kind::TCP_LISTENER),
            Some(kind::UNIX_STREAM) => KindCode::of(kind::UNIX_LISTENER),
            _ => self,
        }
    }

    /// The kind of a socket that a socket of this kind accepts.
    pub(super) fn accepted(self) -> KindCode {
        match self.word() {
            Some(kind::TCP_LISTENER) => KindCode::of(kind::TCP_STREAM),
            Some(kind::UNIX_LISTENER) => KindCode::of(kind::UNIX_STREAM),
            _ => self,
        }
    }
}

impl OpenedKind {
    /// The kind of what a call with these arguments opens.
    pub(super) fn of(call: i64, arguments: &[u64; 5]) -> OpenedKind {
        let word = match call {
            libc::SYS_dup
            | libc::SYS_dup2
            | libc::SYS_dup3
            | libc::SYS_fcntl
            | libc::SYS_accept
            | libc::SYS_accept4 => {
                return OpenedKind::SameAs(arguments[0] as RawFd);
            }
            libc::SYS_open => file(arguments[1]),
            libc::SYS_openat => file(arguments[2]),
            libc::SYS_creat | libc::SYS_openat2 => kind::FILE,
            libc::SYS_socket | libc::SYS_socketpair => socket(arguments[0], arguments[1]),
            libc::SYS_pipe | libc::SYS_pipe2 => kind::PIPE,
            libc::SYS_epoll_create | libc::SYS_epoll_create1 => kind::EPOLL,
            libc::SYS_eventfd | libc::SYS_eventfd2 => kind::EVENTFD,
            libc::SYS_timerfd_create => kind::TIMERFD,
            libc::SYS_signalfd | libc::SYS_signalfd4 => kind::SIGNALFD,
            libc::SYS_memfd_create => kind::MEMFD,
            libc::SYS_inotify_init | libc::SYS_inotify_init1 => kind::INOTIFY,
            libc::SYS_fanotify_init => kind::FANOTIFY,
            libc::SYS_pidfd_open => kind::PIDFD,
            libc::SYS_userfaultfd => kind::USERFAULTFD,
            libc::SYS_perf_event_open => kind::PERF_EVENT,
            libc::SYS_io_uring_setup => kind::IO_URING,
            _ => "",
        };
        OpenedKind::Known(KindCode::of(word))
    }
}

fn file(flags: u64) -> &'static str {
    match flags as i32 & libc::O_DIRECTORY {
        0 => kind::FILE,
        _ => kind::DIRECTORY,
    }
}

fn socket(family: u64, kind: u64) -> &'static str {
    const KIND_MASK: i32 = 0xf;
    match (family as i32, kind as i32 & KIND_MASK) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => kind::TCP_STREAM,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => kind::UDP_SOCKET,
        (libc::AF_UNIX, libc::SOCK_STREAM) => kind::UNIX_STREAM,
        (libc::AF_UNIX, libc::SOCK_DGRAM) => kind::UNIX_DATAGRAM,
        (libc::AF_NETLINK, _) => kind::NETLINK_SOCKET,
        _ => kind::SOCKET,
    }
}
