//! The descriptor tables of traced processes, as far as a recording needs them: which resource each number
//! is, and which task owns it.

use std::collections::BTreeMap;
use std::sync::Arc;

use echown_trace::event::{OpenFd, Tid};
use rustc_hash::FxHashMap;

use crate::events::TaskName;

/// An open descriptor.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Never reused in a recording.
    pub(super) resource: u64,
    /// The same for duplicates.
    pub(super) description: u64,
    /// A word of [`echown_fd::kind::ALL`].
    pub(super) kind: &'static str,
    /// Escaped.
    pub(super) path: Option<Arc<str>>,
    /// The task that opened it, or that the kernel gave it to at a fork, an exec, or the end of a thread.
    pub(super) owner: Tid,
    pub(super) is_cloexec: bool,
    /// Which resource with this number in this table it is, counted from 1.
    pub(super) generation: u64,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// How many tasks use it.
    pub(super) users: u32,
    pub(super) slots: BTreeMap<i32, Slot>,
    /// How many resources each number has been.
    generations: FxHashMap<i32, u64>,
}

impl Table {
    /// A table of one task, without descriptors.
    pub(super) fn of_one() -> Table {
        Table { users: 1, ..Table::default() }
    }

    /// The generation of the next resource with this number.
    pub(super) fn next_generation(&mut self, number: i32) -> u64 {
        let generation = self.generations.entry(number).or_default();
        *generation += 1;
        *generation
    }
}

/// A task that has not ended.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Its id in the recording, and the name of its thread or program.
    pub(super) name: TaskName,
    /// The process that it belongs to.
    pub(super) process: Tid,
    /// The number of its table.
    pub(super) table: u32,
    /// How many open descriptors it owns.
    pub(super) owned: u64,
    /// The kernel's exit status, once the task is about to end.
    pub(super) status: Option<i32>,
}

/// The kind of a descriptor by its link in `/proc/PID/fd` and, if that was not read, by the call that
/// created it.
pub(super) fn kind(fd: &OpenFd, call: &str) -> &'static str {
    use echown_fd::kind;
    if let Some(details) = &fd.details {
        return details.kind;
    }
    let link = &*fd.link;
    if let Some(name) = link.strip_prefix("anon_inode:") {
        let found = kind::BY_LINK.iter().find(|(word, _)| name.contains(word));
        return found.map_or(kind::ANONYMOUS_INODE, |(_, kind)| kind);
    }
    match link {
        _ if link.starts_with("socket:") => kind::SOCKET,
        _ if link.starts_with("pipe:") => kind::PIPE,
        _ if link.starts_with("pidfd:") => kind::PIDFD,
        _ if link.starts_with("/memfd:") => kind::MEMFD,
        _ if link.starts_with("/dev/pts/") => kind::PTY_SLAVE,
        _ if link.starts_with("/dev/") && !link.starts_with("/dev/shm/") => kind::DEVICE,
        _ if !link.is_empty() => kind::FILE,
        _ => by_call(call),
    }
}

fn by_call(call: &str) -> &'static str {
    use echown_fd::kind;
    match call {
        "socket" | "socketpair" | "accept" | "accept4" => kind::SOCKET,
        "pipe" | "pipe2" => kind::PIPE,
        "epoll_create" | "epoll_create1" => kind::EPOLL,
        "eventfd" | "eventfd2" => kind::EVENTFD,
        "timerfd_create" => kind::TIMERFD,
        "signalfd" | "signalfd4" => kind::SIGNALFD,
        "memfd_create" => kind::MEMFD,
        "inotify_init" | "inotify_init1" => kind::INOTIFY,
        "pidfd_open" | "pidfd_getfd" => kind::PIDFD,
        "io_uring_setup" => kind::IO_URING,
        _ => kind::FILE,
    }
}

/// The path of a descriptor, escaped.
pub(super) fn path(fd: &OpenFd) -> Option<Arc<str>> {
    let is_path = fd.link.starts_with('/');
    is_path.then(|| echown_fd::escape::bytes(fd.link.as_bytes()).into())
}
