//! The calls that make and close descriptors, and what each does with numbers.

/// What a trapped call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Answers a new number.
    Opens,
    /// Answers a new number, or whether one is open, by its second argument.
    OpensOrAsks,
    /// Writes two new numbers where the argument with this index points.
    OpensPair(usize),
    /// May receive numbers in the message that its second argument points to.
    Receives,
    /// Closes the number in its second argument, and opens it again.
    Replaces,
    /// Closes the number in its first argument.
    Closes,
    /// Closes the numbers from its first argument to its second.
    ClosesRange,
    /// Sets which signals are blocked.
    Masks,
    /// Sets a signal's handler, and which signals are blocked while it runs.
    Handles,
}

/// Every trapped call.
pub(super) const CALLS: &[(i64, &str, Deed)] = &[
    (libc::SYS_open, "open", Deed::Opens),
    (libc::SYS_openat, "openat", Deed::Opens),
    (libc::SYS_openat2, "openat2", Deed::Opens),
    (libc::SYS_creat, "creat", Deed::Opens),
    (libc::SYS_open_by_handle_at, "open_by_handle_at", Deed::Opens),
    (libc::SYS_open_tree, "open_tree", Deed::Opens),
    (libc::SYS_socket, "socket", Deed::Opens),
    (libc::SYS_socketpair, "socketpair", Deed::OpensPair(3)),
    (libc::SYS_accept, "accept", Deed::Opens),
    (libc::SYS_accept4, "accept4", Deed::Opens),
    (libc::SYS_pipe, "pipe", Deed::OpensPair(0)),
    (libc::SYS_pipe2, "pipe2", Deed::OpensPair(0)),
    (libc::SYS_dup, "dup", Deed::Opens),
    (libc::SYS_dup2, "dup2", Deed::Replaces),
    (libc::SYS_dup3, "dup3", Deed::Replaces),
    // For its two ways of duplicating, and for F_GETFD; the others pass the filter.
    (libc::SYS_fcntl, "fcntl", Deed::OpensOrAsks),
    (libc::SYS_epoll_create, "epoll_create", Deed::Opens),
    (libc::SYS_epoll_create1, "epoll_create1", Deed::Opens),
    (libc::SYS_eventfd, "eventfd", Deed::Opens),
    (libc::SYS_eventfd2, "eventfd2", Deed::Opens),
    (libc::SYS_timerfd_create, "timerfd_create", Deed::Opens),
    (libc::SYS_signalfd, "signalfd", Deed::Opens),
    (libc::SYS_signalfd4, "signalfd4", Deed::Opens),
    (libc::SYS_memfd_create, "memfd_create", Deed::Opens),
    (libc::SYS_inotify_init, "inotify_init", Deed::Opens),
    (libc::SYS_inotify_init1, "inotify_init1", Deed::Opens),
    (libc::SYS_fanotify_init, "fanotify_init", Deed::Opens),
    (libc::SYS_pidfd_open, "pidfd_open", Deed::Opens),
    (libc::SYS_pidfd_getfd, "pidfd_getfd", Deed::Opens),
    (libc::SYS_userfaultfd, "userfaultfd", Deed::Opens),
    (libc::SYS_perf_event_open, "perf_event_open", Deed::Opens),
    (libc::SYS_io_uring_setup, "io_uring_setup", Deed::Opens),
    (libc::SYS_mq_open, "mq_open", Deed::Opens),
    (libc::SYS_recvmsg, "recvmsg", Deed::Receives),
    (libc::SYS_close, "close", Deed::Closes),
    (libc::SYS_close_range, "close_range", Deed::ClosesRange),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", Deed::Masks),
    (libc::SYS_rt_sigaction, "rt_sigaction", Deed::Handles),
];

pub(super) fn deed(call: i64) -> Option<Deed> {
    CALLS.iter().find(|(number, _, _)| *number == call).map(|(_, _, deed)| *deed)
}

pub(super) fn name(call: i64) -> &'static str {
    CALLS
        .iter()
        .find(|(number, _, _)| *number == call)
        .map_or("an unknown call", |(_, name, _)| name)
}
