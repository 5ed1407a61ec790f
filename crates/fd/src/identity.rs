//! The identity of an open file, as plain data: what a report says about it, on every system.

use std::fmt;

/// Distinguishes an open file from another one with the same number.
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
    /// A file, pipe, memfd or device, by its inode. Two opens of the same file are not
    /// distinguished.
    Node {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// An epoll, eventfd, timerfd or inotify descriptor (they share one inode), or a socket on a
    /// system without cookies. Two of these are not distinguished.
    Anonymous,
}

impl Identity {
    /// Whether two identities certainly belong to different open files.
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
