//! The table of system calls that the tracer follows: what each does to a descriptor table.
//!
//! The filter is made from this table, and passes the index of a call to the tracer. Numbers are those
//! of x86-64.

use crate::event::Gap;

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// When it is traced.
    pub when: When,
    /// The argument that is a descriptor which must be open; none has AT_FDCWD (-100).
    pub uses: Option<usize>,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Returns the lowest free number.
    Create(Cloexec),
    /// Returns the lowest free number that is at least its third argument (F_DUPFD).
    DupFrom {
        /// Whether it closes at an exec.
        cloexec: bool,
    },
    /// Returns a second number for its first argument.
    Dup,
    /// Makes its second argument a number for its first (`dup2`, `dup3`).
    DupTo,
    /// Writes two numbers to the memory at this argument.
    Pair(usize, Cloexec),
    /// Closes its first argument.
    Close,
    /// Closes from its first to its second argument.
    CloseRange,
    /// Sets the close-on-exec flag of its first argument to FD_CLOEXEC of its third.
    SetFdFlags,
    /// Sets the close-on-exec flag of its first argument.
    SetCloexec(bool),
    /// May receive descriptors in the message at its second argument.
    Receive,
    /// May receive descriptors in several messages.
    ReceiveMany,
    /// Runs another program.
    Exec,
    /// Stops sharing the descriptor table.
    Unshare,
    /// Changes the name of the thread to the text at its second argument.
    Name,
    /// May hide the process from this user.
    Hide,
    /// Asks for the processors of a thread, which the placement may have changed.
    GetAffinity,
    /// Sets the processors of a thread.
    SetAffinity,
    /// Does something that cannot be followed.
    Beyond(Gap),
    /// Uses a descriptor, and changes no table.
    Use,
    /// Writes to a descriptor, and changes no table. In quarantine a write to a closed number raises a
    /// signal instead.
    Write,
}

/// Whether a new descriptor closes at an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloexec {
    /// It does not.
    Never,
    /// It does.
    Always,
    /// This argument has this flag.
    Flag(usize, u64),
    /// The memory at this argument begins with the flags (`openat2`).
    InMemory(usize),
}

/// On which condition a call is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// The lower half of this argument is one of these.
    ArgumentIn(usize, &'static [u32]),
    /// The lower half of this argument has one of these bits.
    ArgumentHas(usize, u32),
}

const O_CLOEXEC: u64 = 0o2_000_000;

const fn call(number: i64, name: &'static str, action: Action) -> Call {
    Call { number, name, action, when: When::Always, uses: None }
}

const fn using(number: i64, name: &'static str, action: Action, uses: usize) -> Call {
    Call { number, name, action, when: When::Always, uses: Some(uses) }
}

const fn flagged(number: i64, name: &'static str, argument: usize, flag: u64) -> Call {
    call(number, name, Action::Create(Cloexec::Flag(argument, flag)))
}

/// Calls that are followed in every mode. Where a number stands several times, the first entry whose
/// condition holds counts.
pub const CALLS: &[Call] = &[
    flagged(libc::SYS_open, "open", 1, O_CLOEXEC),
    Call { uses: Some(0), ..flagged(libc::SYS_openat, "openat", 2, O_CLOEXEC) },
    using(libc::SYS_openat2, "openat2", Action::Create(Cloexec::InMemory(2)), 0),
    call(libc::SYS_creat, "creat", Action::Create(Cloexec::Never)),
    call(libc::SYS_close, "close", Action::Close),
    call(libc::SYS_close_range, "close_range", Action::CloseRange),
    using(libc::SYS_dup, "dup", Action::Dup, 0),
    using(libc::SYS_dup2, "dup2", Action::DupTo, 0),
    using(libc::SYS_dup3, "dup3", Action::DupTo, 0),
    Call {
        when: When::ArgumentIn(1, &[0]),
        ..using(libc::SYS_fcntl, "fcntl(F_DUPFD)", Action::DupFrom { cloexec: false }, 0)
    },
    Call {
        when: When::ArgumentIn(1, &[1030]),
        ..using(libc::SYS_fcntl, "fcntl(F_DUPFD_CLOEXEC)", Action::DupFrom { cloexec: true }, 0)
    },
    Call {
        when: When::ArgumentIn(1, &[2]),
        ..using(libc::SYS_fcntl, "fcntl(F_SETFD)", Action::SetFdFlags, 0)
    },
    Call {
        when: When::ArgumentIn(1, &[0x5451]),
        ..using(libc::SYS_ioctl, "ioctl(FIOCLEX)", Action::SetCloexec(true), 0)
    },
    Call {
        when: When::ArgumentIn(1, &[0x5450]),
        ..using(libc::SYS_ioctl, "ioctl(FIONCLEX)", Action::SetCloexec(false), 0)
    },
    Call {
        when: When::ArgumentIn(1, &[0x5441]),
        uses: Some(0),
        ..flagged(libc::SYS_ioctl, "ioctl(TIOCGPTPEER)", 2, O_CLOEXEC)
    },
    call(libc::SYS_pipe, "pipe", Action::Pair(0, Cloexec::Never)),
    call(libc::SYS_pipe2, "pipe2", Action::Pair(0, Cloexec::Flag(1, O_CLOEXEC))),
    call(libc::SYS_socketpair, "socketpair", Action::Pair(3, Cloexec::Flag(1, O_CLOEXEC))),
    flagged(libc::SYS_socket, "socket", 1, O_CLOEXEC),
    using(libc::SYS_accept, "accept", Action::Create(Cloexec::Never), 0),
    Call { uses: Some(0), ..flagged(libc::SYS_accept4, "accept4", 3, O_CLOEXEC) },
    call(libc::SYS_epoll_create, "epoll_create", Action::Create(Cloexec::Never)),
    flagged(libc::SYS_epoll_create1, "epoll_create1", 0, O_CLOEXEC),
    call(libc::SYS_eventfd, "eventfd", Action::Create(Cloexec::Never)),
    flagged(libc::SYS_eventfd2, "eventfd2", 1, O_CLOEXEC),
    flagged(libc::SYS_timerfd_create, "timerfd_create", 1, O_CLOEXEC),
    // With another first argument they change an existing descriptor.
    Call {
        when: When::ArgumentIn(0, &[u32::MAX]),
        ..call(libc::SYS_signalfd, "signalfd", Action::Create(Cloexec::Never))
    },
    Call {
        when: When::ArgumentIn(0, &[u32::MAX]),
        ..flagged(libc::SYS_signalfd4, "signalfd4", 3, O_CLOEXEC)
    },
    call(libc::SYS_inotify_init, "inotify_init", Action::Create(Cloexec::Never)),
    flagged(libc::SYS_inotify_init1, "inotify_init1", 0, O_CLOEXEC),
    flagged(libc::SYS_fanotify_init, "fanotify_init", 0, 1),
    flagged(libc::SYS_memfd_create, "memfd_create", 1, 1),
    flagged(libc::SYS_memfd_secret, "memfd_secret", 0, O_CLOEXEC),
    flagged(libc::SYS_userfaultfd, "userfaultfd", 0, O_CLOEXEC),
    flagged(libc::SYS_perf_event_open, "perf_event_open", 4, 8),
    Call {
        // The commands that return a descriptor.
        when: When::ArgumentIn(0, &[0, 5, 7, 13, 14, 17, 18, 19, 28, 30, 32, 33]),
        ..call(libc::SYS_bpf, "bpf", Action::Create(Cloexec::Always))
    },
    call(libc::SYS_pidfd_open, "pidfd_open", Action::Create(Cloexec::Always)),
    using(libc::SYS_pidfd_getfd, "pidfd_getfd", Action::Create(Cloexec::Always), 0),
    flagged(libc::SYS_fsopen, "fsopen", 1, 1),
    flagged(libc::SYS_fspick, "fspick", 2, 1),
    using(libc::SYS_fsmount, "fsmount", Action::Create(Cloexec::Flag(1, 1)), 0),
    flagged(libc::SYS_open_tree, "open_tree", 2, O_CLOEXEC),
    call(libc::SYS_mq_open, "mq_open", Action::Create(Cloexec::Always)),
    flagged(libc::SYS_open_by_handle_at, "open_by_handle_at", 2, O_CLOEXEC),
    Call {
        // With flags it returns the version of the interface.
        when: When::ArgumentIn(2, &[0]),
        ..call(
            libc::SYS_landlock_create_ruleset,
            "landlock_create_ruleset",
            Action::Create(Cloexec::Always),
        )
    },
    using(libc::SYS_recvmsg, "recvmsg", Action::Receive, 0),
    using(libc::SYS_recvmmsg, "recvmmsg", Action::ReceiveMany, 0),
    call(libc::SYS_execve, "execve", Action::Exec),
    call(libc::SYS_execveat, "execveat", Action::Exec),
    Call {
        when: When::ArgumentHas(0, libc::CLONE_FILES as u32),
        ..call(libc::SYS_unshare, "unshare", Action::Unshare)
    },
    Call {
        when: When::ArgumentIn(0, &[libc::PR_SET_NAME as u32]),
        ..call(libc::SYS_prctl, "prctl(PR_SET_NAME)", Action::Name)
    },
    Call {
        when: When::ArgumentIn(0, &[libc::PR_SET_DUMPABLE as u32]),
        ..call(libc::SYS_prctl, "prctl(PR_SET_DUMPABLE)", Action::Hide)
    },
    call(libc::SYS_sched_getaffinity, "sched_getaffinity", Action::GetAffinity),
    call(libc::SYS_sched_setaffinity, "sched_setaffinity", Action::SetAffinity),
    call(libc::SYS_io_uring_setup, "io_uring_setup", Action::Beyond(Gap::IoUring)),
    call(libc::SYS_ptrace, "ptrace", Action::Beyond(Gap::NestedTracer)),
    Call {
        // SECCOMP_FILTER_FLAG_NEW_LISTENER.
        when: When::ArgumentHas(1, 8),
        ..call(libc::SYS_seccomp, "seccomp", Action::Beyond(Gap::SeccompNotify))
    },
];

/// Calls that use a descriptor and are followed only when every use is checked.
pub const USES: &[Call] = &[
    using(libc::SYS_read, "read", Action::Use, 0),
    using(libc::SYS_readv, "readv", Action::Use, 0),
    using(libc::SYS_pread64, "pread64", Action::Use, 0),
    using(libc::SYS_preadv, "preadv", Action::Use, 0),
    using(libc::SYS_preadv2, "preadv2", Action::Use, 0),
    using(libc::SYS_recvfrom, "recvfrom", Action::Use, 0),
    using(libc::SYS_write, "write", Action::Write, 0),
    using(libc::SYS_writev, "writev", Action::Write, 0),
    using(libc::SYS_pwrite64, "pwrite64", Action::Use, 0),
    using(libc::SYS_pwritev, "pwritev", Action::Use, 0),
    using(libc::SYS_pwritev2, "pwritev2", Action::Use, 0),
    using(libc::SYS_sendto, "sendto", Action::Use, 0),
    using(libc::SYS_sendmsg, "sendmsg", Action::Use, 0),
    using(libc::SYS_sendmmsg, "sendmmsg", Action::Use, 0),
    using(libc::SYS_sendfile, "sendfile", Action::Use, 0),
    using(libc::SYS_splice, "splice", Action::Use, 0),
    using(libc::SYS_copy_file_range, "copy_file_range", Action::Use, 0),
    using(libc::SYS_fstat, "fstat", Action::Use, 0),
    using(libc::SYS_newfstatat, "newfstatat", Action::Use, 0),
    using(libc::SYS_statx, "statx", Action::Use, 0),
    using(libc::SYS_lseek, "lseek", Action::Use, 0),
    using(libc::SYS_ioctl, "ioctl", Action::Use, 0),
    using(libc::SYS_fcntl, "fcntl", Action::Use, 0),
    using(libc::SYS_flock, "flock", Action::Use, 0),
    using(libc::SYS_fsync, "fsync", Action::Use, 0),
    using(libc::SYS_fdatasync, "fdatasync", Action::Use, 0),
    using(libc::SYS_ftruncate, "ftruncate", Action::Use, 0),
    using(libc::SYS_fallocate, "fallocate", Action::Use, 0),
    using(libc::SYS_fadvise64, "fadvise64", Action::Use, 0),
    using(libc::SYS_getdents64, "getdents64", Action::Use, 0),
    using(libc::SYS_fchdir, "fchdir", Action::Use, 0),
    using(libc::SYS_fchmod, "fchmod", Action::Use, 0),
    using(libc::SYS_fchown, "fchown", Action::Use, 0),
    using(libc::SYS_fstatfs, "fstatfs", Action::Use, 0),
    using(libc::SYS_connect, "connect", Action::Use, 0),
    using(libc::SYS_bind, "bind", Action::Use, 0),
    using(libc::SYS_listen, "listen", Action::Use, 0),
    using(libc::SYS_shutdown, "shutdown", Action::Use, 0),
    using(libc::SYS_getsockname, "getsockname", Action::Use, 0),
    using(libc::SYS_getpeername, "getpeername", Action::Use, 0),
    using(libc::SYS_getsockopt, "getsockopt", Action::Use, 0),
    using(libc::SYS_setsockopt, "setsockopt", Action::Use, 0),
    using(libc::SYS_epoll_ctl, "epoll_ctl", Action::Use, 2),
    using(libc::SYS_epoll_wait, "epoll_wait", Action::Use, 0),
    using(libc::SYS_epoll_pwait, "epoll_pwait", Action::Use, 0),
    using(libc::SYS_epoll_pwait2, "epoll_pwait2", Action::Use, 0),
    using(libc::SYS_inotify_add_watch, "inotify_add_watch", Action::Use, 0),
    using(libc::SYS_timerfd_settime, "timerfd_settime", Action::Use, 0),
    using(libc::SYS_timerfd_gettime, "timerfd_gettime", Action::Use, 0),
    using(libc::SYS_unlinkat, "unlinkat", Action::Use, 0),
    using(libc::SYS_mkdirat, "mkdirat", Action::Use, 0),
    using(libc::SYS_faccessat2, "faccessat2", Action::Use, 0),
    using(libc::SYS_readlinkat, "readlinkat", Action::Use, 0),
    using(libc::SYS_pidfd_send_signal, "pidfd_send_signal", Action::Use, 0),
    using(libc::SYS_mmap, "mmap", Action::Use, 4),
];

/// The calls of a mode, in the order of their numbers, so that the index of one is its index in the
/// filter. Of equal numbers the first whose condition holds counts.
#[must_use]
pub fn of_mode(checks_uses: bool, checks_writes: bool) -> Vec<Call> {
    let uses = USES.iter().filter(|call| checks_writes || call.action != Action::Write);
    let uses = uses.take(if checks_uses { usize::MAX } else { 0 });
    let mut calls: Vec<Call> = CALLS.iter().chain(uses).copied().collect();
    // Stable: the order of equal numbers stays.
    calls.sort_by_key(|call| call.number);
    calls
}
