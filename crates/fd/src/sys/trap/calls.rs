//! The trapped system calls: those that open and close descriptors, with their effect on numbers.

/// The effect of a trapped call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Returns a new number.
    Opens,
    /// Returns a new number, or whether a number is open, depending on its second argument.
    OpensOrQueries,
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
pub(super) const CALLS: &[(i64, &str, Effect)] = &[
    (libc::SYS_open, "open", Effect::Opens),
    (libc::SYS_openat, "openat", Effect::Opens),
    (libc::SYS_openat2, "openat2", Effect::Opens),
    (libc::SYS_creat, "creat", Effect::Opens),
    (libc::SYS_open_by_handle_at, "open_by_handle_at", Effect::Opens),
    (libc::SYS_open_tree, "open_tree", Effect::Opens),
    (libc::SYS_socket, "socket", Effect::Opens),
    (libc::SYS_socketpair, "socketpair", Effect::OpensPair(3)),
    (libc::SYS_accept, "accept", Effect::Opens),
    (libc::SYS_accept4, "accept4", Effect::Opens),
    (libc::SYS_pipe, "pipe", Effect::OpensPair(0)),
    (libc::SYS_pipe2, "pipe2", Effect::OpensPair(0)),
    (libc::SYS_dup, "dup", Effect::Opens),
    (libc::SYS_dup2, "dup2", Effect::Replaces),
    (libc::SYS_dup3, "dup3", Effect::Replaces),
    // For its two duplicating commands and for F_GETFD; other commands pass the filter.
    (libc::SYS_fcntl, "fcntl", Effect::OpensOrQueries),
    (libc::SYS_epoll_create, "epoll_create", Effect::Opens),
    (libc::SYS_epoll_create1, "epoll_create1", Effect::Opens),
    (libc::SYS_eventfd, "eventfd", Effect::Opens),
    (libc::SYS_eventfd2, "eventfd2", Effect::Opens),
    (libc::SYS_timerfd_create, "timerfd_create", Effect::Opens),
    (libc::SYS_signalfd, "signalfd", Effect::Opens),
    (libc::SYS_signalfd4, "signalfd4", Effect::Opens),
    (libc::SYS_memfd_create, "memfd_create", Effect::Opens),
    (libc::SYS_inotify_init, "inotify_init", Effect::Opens),
    (libc::SYS_inotify_init1, "inotify_init1", Effect::Opens),
    (libc::SYS_fanotify_init, "fanotify_init", Effect::Opens),
    (libc::SYS_pidfd_open, "pidfd_open", Effect::Opens),
    (libc::SYS_pidfd_getfd, "pidfd_getfd", Effect::Opens),
    (libc::SYS_userfaultfd, "userfaultfd", Effect::Opens),
    (libc::SYS_perf_event_open, "perf_event_open", Effect::Opens),
    (libc::SYS_io_uring_setup, "io_uring_setup", Effect::Opens),
    (libc::SYS_mq_open, "mq_open", Effect::Opens),
    (libc::SYS_recvmsg, "recvmsg", Effect::Receives),
    (libc::SYS_close, "close", Effect::Closes),
    (libc::SYS_close_range, "close_range", Effect::ClosesRange),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", Effect::Masks),
    (libc::SYS_rt_sigaction, "rt_sigaction", Effect::Handles),
];

pub(super) fn effect(call: i64) -> Option<Effect> {
    CALLS.iter().find(|(number, _, _)| *number == call).map(|(_, _, effect)| *effect)
}

pub(super) fn name(call: i64) -> &'static str {
    CALLS
        .iter()
        .find(|(number, _, _)| *number == call)
        .map_or("an unknown call", |(_, name, _)| name)
}
