//! The interface to the program that embeds the load generator.

use std::os::fd::BorrowedFd;
use std::process::Command;

/// Callbacks into the embedding program. Every method does nothing by default, and `()` is a host
/// that needs none of them.
///
/// The load generator opens its descriptors itself: a program that keeps a record of its open
/// descriptors learns of them here. Its client threads call these methods, so they must not block for
/// long.
pub trait Host: Send + Sync {
    /// A descriptor was opened. `kind` is its kind: `"tcp stream"`, `"unix stream"`,
    /// `"tcp listener"` or `"epoll"`.
    fn opened(&self, fd: BorrowedFd<'_>, kind: &'static str) {
        let _ = (fd, kind);
    }

    /// A descriptor that [`opened`](Host::opened) reported is about to be closed.
    fn closing(&self, fd: BorrowedFd<'_>) {
        let _ = fd;
    }

    /// A server is about to be started by `command`.
    ///
    /// This is the place for what only `unsafe` code can request of a child process, such as a signal
    /// when its parent dies (`PR_SET_PDEATHSIG` in a `pre_exec` hook).
    fn before_spawn(&self, command: &mut Command) {
        let _ = command;
    }
}

impl Host for () {}
