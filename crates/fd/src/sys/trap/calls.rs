//! The trapped system calls: those that open and close descriptors, with their effect on numbers.

use std::os::fd::RawFd;

use super::Level;

/// The effect of a trapped call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Returns a new number.
    Opens,
    /// Returns a new number, or whether a number is open, depending on its second argument.
    OpensOrQueries,
    /// Writes two new numbers where the argument with this index points.
    OpensPair(usize),
    /// Writes a new number where the argument with this index points.
    OpensInto(usize),
    /// May receive numbers in the message that its second argument points to.
    Receives,
    /// May receive numbers in the messages that its second argument points to; returns their count.
    ReceivesMany,
    /// May write a new number, and starts a thread or a process.
    Clones,
    /// Closes the number in its second argument, and opens it again, unless both are equal.
    Replaces,
    /// Closes the number in its first argument.
    Closes,
    /// Closes the numbers from its first argument to its second.
    ClosesRange,
    /// Executes a program.
    Executes,
    /// Needs an open number, see [`used_numbers`].
    Uses,
    /// Reads or writes the number in its first argument. Trapped on the paranoid level only.
    Transfers,
    /// Asks for facts about the number in its first argument. Trapped on the paranoid level only.
    Probes,
    /// Sets which signals are blocked.
    Masks,
    /// Sets a signal's handler, and which signals are blocked while it runs.
    Handles,
}

const OPEN_TREE_ATTR: i64 = 467;

/// Every trapped call. The hot ones come first, because the filter compares in this order.
pub(super) const CALLS: &[(i64, &str, Effect)] = &[
    (libc::SYS_ioctl, "ioctl", Effect::Opens),
    (libc::SYS_getsockopt, "getsockopt", Effect::OpensInto(3)),
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
    (libc::SYS_fsopen, "fsopen", Effect::Opens),
    (libc::SYS_fspick, "fspick", Effect::Opens),
    (libc::SYS_fsmount, "fsmount", Effect::Opens),
    (OPEN_TREE_ATTR, "open_tree_attr", Effect::Opens),
    (libc::SYS_memfd_secret, "memfd_secret", Effect::Opens),
    (libc::SYS_landlock_create_ruleset, "landlock_create_ruleset", Effect::Opens),
    (libc::SYS_bpf, "bpf", Effect::Opens),
    (libc::SYS_seccomp, "seccomp", Effect::Opens),
    (libc::SYS_recvmsg, "recvmsg", Effect::Receives),
    (libc::SYS_recvmmsg, "recvmmsg", Effect::ReceivesMany),
    (libc::SYS_clone, "clone", Effect::Clones),
    (libc::SYS_clone3, "clone3", Effect::Clones),
    (libc::SYS_close, "close", Effect::Closes),
    (libc::SYS_close_range, "close_range", Effect::ClosesRange),
    (libc::SYS_execve, "execve", Effect::Executes),
    (libc::SYS_execveat, "execveat", Effect::Executes),
    // Also for the numbers in its message.
    (libc::SYS_sendmsg, "sendmsg", Effect::Uses),
    (libc::SYS_bind, "bind", Effect::Uses),
    (libc::SYS_listen, "listen", Effect::Uses),
    (libc::SYS_connect, "connect", Effect::Uses),
    (libc::SYS_shutdown, "shutdown", Effect::Uses),
    (libc::SYS_setsockopt, "setsockopt", Effect::Uses),
    (libc::SYS_getsockname, "getsockname", Effect::Uses),
    (libc::SYS_getpeername, "getpeername", Effect::Uses),
    (libc::SYS_epoll_ctl, "epoll_ctl", Effect::Uses),
    (libc::SYS_timerfd_settime, "timerfd_settime", Effect::Uses),
    (libc::SYS_inotify_add_watch, "inotify_add_watch", Effect::Uses),
    (libc::SYS_ftruncate, "ftruncate", Effect::Uses),
    (libc::SYS_fsync, "fsync", Effect::Uses),
    (libc::SYS_fdatasync, "fdatasync", Effect::Uses),
    (libc::SYS_flock, "flock", Effect::Uses),
    (libc::SYS_fchmod, "fchmod", Effect::Uses),
    (libc::SYS_fallocate, "fallocate", Effect::Uses),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", Effect::Masks),
    (libc::SYS_rt_sigaction, "rt_sigaction", Effect::Handles),
];

/// The calls that are trapped on the paranoid level, too.
pub(super) const PARANOID_CALLS: &[(i64, &str, Effect)] = &[
    (libc::SYS_read, "read", Effect::Transfers),
    (libc::SYS_write, "write", Effect::Transfers),
    (libc::SYS_readv, "readv", Effect::Transfers),
    (libc::SYS_writev, "writev", Effect::Transfers),
    (libc::SYS_pread64, "pread64", Effect::Transfers),
    (libc::SYS_pwrite64, "pwrite64", Effect::Transfers),
    (libc::SYS_preadv, "preadv", Effect::Transfers),
    (libc::SYS_pwritev, "pwritev", Effect::Transfers),
    (libc::SYS_sendto, "sendto", Effect::Transfers),
    (libc::SYS_recvfrom, "recvfrom", Effect::Transfers),
    (libc::SYS_sendmsg, "sendmsg", Effect::Transfers),
    (libc::SYS_sendmmsg, "sendmmsg", Effect::Transfers),
    (libc::SYS_lseek, "lseek", Effect::Transfers),
    (libc::SYS_fstat, "fstat", Effect::Probes),
    (libc::SYS_newfstatat, "newfstatat", Effect::Probes),
    (libc::SYS_statx, "statx", Effect::Probes),
];

/// A condition on the lower half of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The argument with this index is one of these values.
    OneOf(u32, &'static [u32]),
    /// The argument with this index has at least one of these bits.
    AnyBit(u32, u32),
    /// The argument with the first index is this value, or that with the second is not null.
    IsOrNotNull(u32, u32, u32),
}

/// The calls that are trapped only if all of these conditions hold. The filter checks them, so that
/// other uses of the call run at full speed.
pub(super) const CONDITIONS: &[(i64, &[Condition])] = &[
    (libc::SYS_ioctl, &[Condition::OneOf(1, OPENING_REQUESTS)]),
    (
        libc::SYS_getsockopt,
        &[
            Condition::OneOf(1, &[libc::SOL_SOCKET as u32]),
            Condition::OneOf(2, &[libc::SO_PEERPIDFD as u32]),
        ],
    ),
    // F_GETFD because of the standard library's check, see `handler::record`.
    (
        libc::SYS_fcntl,
        &[Condition::OneOf(
            1,
            &[
                libc::F_DUPFD as u32,
                libc::F_GETFD as u32,
                libc::F_SETFD as u32,
                libc::F_DUPFD_CLOEXEC as u32,
            ],
        )],
    ),
    // With a number in the first argument, they change that descriptor.
    (libc::SYS_signalfd, &[Condition::OneOf(0, &[u32::MAX])]),
    (libc::SYS_signalfd4, &[Condition::OneOf(0, &[u32::MAX])]),
    // With flags, it returns a version.
    (libc::SYS_landlock_create_ruleset, &[Condition::OneOf(2, &[0])]),
    (libc::SYS_bpf, &[Condition::OneOf(0, OPENING_BPF_COMMANDS)]),
    (
        libc::SYS_seccomp,
        &[
            Condition::OneOf(0, &[libc::SECCOMP_SET_MODE_FILTER]),
            Condition::AnyBit(1, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32),
        ],
    ),
    // A question without a new action is harmless, unless it is for SIGSYS. Each `posix_spawn` asks for
    // all signals.
    (libc::SYS_rt_sigaction, &[Condition::IsOrNotNull(0, libc::SIGSYS as u32, 1)]),
    // `clone3` has its flags in memory, which a filter cannot read.
    (libc::SYS_clone, &[Condition::AnyBit(0, (libc::CLONE_THREAD | libc::CLONE_PIDFD) as u32)]),
];

/// Requests of `ioctl` that return a new number.
const OPENING_REQUESTS: &[u32] = &[
    0x5441, // TIOCGPTPEER
    0x894c, // SIOCGSKNS
    0xb701, // NS_GET_USERNS
    0xb702, // NS_GET_PARENT
    0xaa00, // USERFAULTFD_IOC_NEW
    0xae01, // KVM_CREATE_VM
    0xae41, // KVM_CREATE_VCPU
    0xff01, 0xff02, 0xff03, 0xff04, 0xff05, // PIDFD_GET_*_NAMESPACE
    0xff06, 0xff07, 0xff08, 0xff09, 0xff0a,
];

/// Commands of `bpf` that return a new number.
const OPENING_BPF_COMMANDS: &[u32] = &[
    0,  // BPF_MAP_CREATE
    5,  // BPF_PROG_LOAD
    7,  // BPF_OBJ_GET
    13, // BPF_PROG_GET_FD_BY_ID
    14, // BPF_MAP_GET_FD_BY_ID
    17, // BPF_RAW_TRACEPOINT_OPEN
    18, // BPF_BTF_LOAD
    19, // BPF_BTF_GET_FD_BY_ID
    28, // BPF_LINK_CREATE
    30, // BPF_LINK_GET_FD_BY_ID
    32, // BPF_ENABLE_STATS
    33, // BPF_ITER_CREATE
    36, // BPF_TOKEN_CREATE
];

/// The conditions on the arguments of a trapped call.
pub(super) fn conditions(call: i64, level: Level) -> &'static [Condition] {
    if call == libc::SYS_fcntl && level == Level::Paranoid {
        return &[];
    }
    CONDITIONS.iter().find(|(number, _)| *number == call).map_or(&[], |(_, all)| all)
}

/// The numbers that a call needs to be open: it is misused if it fails because one of them is
/// closed. `None` for calls that fail for other reasons, or that check whether a number is open.
///
/// Removing a number from an epoll set is no use: event loops do it for numbers that are closed
/// already, and ignore the error.
pub(super) fn used_numbers(call: i64, arguments: [u64; 5]) -> Option<impl Iterator<Item = RawFd>> {
    let number = |index: usize| Some(arguments[index] as u32 as RawFd);
    let (first, second) = match call {
        libc::SYS_epoll_ctl if arguments[1] as i32 == libc::EPOLL_CTL_DEL => (number(0), None),
        libc::SYS_epoll_ctl => (number(0), number(2)),
        libc::SYS_close => return None,
        libc::SYS_pidfd_getfd
        | libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_dup
        | libc::SYS_dup2
        | libc::SYS_dup3
        | libc::SYS_fcntl
        | libc::SYS_accept
        | libc::SYS_accept4
        | libc::SYS_recvmsg
        | libc::SYS_recvmmsg => (number(0), None),
        _ if matches!(effect(call), Some(Effect::Uses | Effect::Transfers)) => (number(0), None),
        _ => return None,
    };
    Some([first, second].into_iter().flatten())
}

pub(super) fn effect(call: i64) -> Option<Effect> {
    let mut all = CALLS.iter().chain(PARANOID_CALLS);
    all.find(|(number, _, _)| *number == call).map(|(_, _, effect)| *effect)
}

pub(super) fn name(call: i64) -> &'static str {
    let mut all = CALLS.iter().chain(PARANOID_CALLS);
    all.find(|(number, _, _)| *number == call).map_or("an unknown call", |(_, name, _)| name)
}
