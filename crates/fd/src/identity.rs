//! The identity of an open file, as plain data: what a report says about it, on every system.

use std::fmt;

/// Distinguishes an open file from another one with the same number.
///
/// # Limits
/// An inode's number may be used again once its file is closed. So a socket that is identified by its
/// inode, closed outside the registry, and replaced by a socket that happens to get the same inode
/// is taken for the old one. Linux counts socket inodes up to 2^32 before it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Identity {
    /// A socket, by the kernel's `SO_COOKIE`, which is not reused until the machine restarts.
    Socket {
        /// The cookie.
        cookie: u64,
    },
    /// A socket where the system rejects `SO_COOKIE`, by its inode: emulators, sandboxes that allow
    /// a list of socket options, and systems other than Linux.
    SocketInode {
        /// `st_dev`, the same for all sockets.
        device: u64,
        /// `st_ino`, unique among the sockets that are open.
        inode: u64,
    },
    /// A file, pipe, memfd or device, by its inode. Two opens of the same file are not
    /// distinguished.
    Node {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// An epoll, eventfd, timerfd or inotify descriptor (they share one inode), or a socket on a
    /// system that numbers no sockets. Two of these are not distinguished.
    Anonymous,
}

impl Identity {
    /// Whether two identities certainly belong to different open files.
    ///
    /// A cookie and an inode of a socket cannot be compared. They meet where a sandbox starts to
    /// refuse cookies while sockets are open.
    #[must_use]
    pub fn differs_from(self, other: Identity) -> bool {
        match (self, other) {
            (Identity::Socket { .. }, Identity::SocketInode { .. })
            | (Identity::SocketInode { .. }, Identity::Socket { .. }) => false,
            _ => self != other,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Socket { cookie } => write!(f, "socket cookie {cookie}"),
            Identity::SocketInode { inode, .. } => write!(f, "socket inode {inode}"),
            Identity::Node { device, inode } => write!(f, "inode {inode} on device {device}"),
            Identity::Anonymous => f.write_str("anonymous inode"),
        }
    }
}
