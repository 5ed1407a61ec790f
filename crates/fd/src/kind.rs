//! The table of descriptor kinds: the words that reports, suppressions and `ignore_kind` use.
//!
//! The registry, the harness and the attribute macro use this one file. It is a symbolic link in
//! the macro's crate, because a macro without dependencies compiles first.

macro_rules! kinds {
    ($($name:ident = $word:literal,)*) => {
        $(
            #[doc = concat!("`", $word, "`")]
            pub const $name: &str = $word;
        )*

        /// Every kind that `ignore_kind` accepts.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

kinds! {
    SOCKET = "socket",
    TCP_LISTENER = "tcp listener",
    TCP_STREAM = "tcp stream",
    UDP_SOCKET = "udp socket",
    UNIX_LISTENER = "unix listener",
    UNIX_STREAM = "unix stream",
    UNIX_DATAGRAM = "unix datagram",
    UNIX_SEQPACKET = "unix seqpacket",
    RAW_SOCKET = "raw socket",
    ICMP_SOCKET = "icmp socket",
    NETLINK_SOCKET = "netlink socket",
    PACKET_SOCKET = "packet socket",
    VSOCK_LISTENER = "vsock listener",
    VSOCK_STREAM = "vsock stream",
    VSOCK_DATAGRAM = "vsock datagram",
    VSOCK_SEQPACKET = "vsock seqpacket",
    PIPE = "pipe",
    FILE = "file",
    DIRECTORY = "directory",
    DEVICE = "device",
    PTY_MASTER = "pty master",
    PTY_SLAVE = "pty slave",
    EPOLL = "epoll",
    EVENTFD = "eventfd",
    TIMERFD = "timerfd",
    SIGNALFD = "signalfd",
    MEMFD = "memfd",
    MEMFD_SECRET = "memfd_secret",
    INOTIFY = "inotify",
    FANOTIFY = "fanotify",
    PIDFD = "pidfd",
    IO_URING = "io_uring",
    USERFAULTFD = "userfaultfd",
    PERF_EVENT = "perf event",
    BPF = "bpf",
    BPF_MAP = "bpf map",
    BPF_PROGRAM = "bpf program",
    BPF_LINK = "bpf link",
    LANDLOCK_RULESET = "landlock ruleset",
    FILESYSTEM_CONTEXT = "filesystem context",
    DETACHED_MOUNT = "detached mount",
    NAMESPACE = "namespace",
    ANONYMOUS_INODE = "anonymous inode",
}

/// The registry's kind for a [`DEVICE`] of this type.
pub const CHARACTER_DEVICE: &str = "character device";

/// The registry's kind for a [`DEVICE`] of this type.
pub const BLOCK_DEVICE: &str = "block device";

/// The kind of a number that is not open.
pub const CLOSED: &str = "closed descriptor";

/// The target of a `/proc/self/fd` link to an anonymous inode, and the kind for it. The first match
/// counts.
pub const BY_LINK: &[(&str, &str)] = &[
    ("eventpoll", EPOLL),
    ("eventfd", EVENTFD),
    ("timerfd", TIMERFD),
    ("signalfd", SIGNALFD),
    ("inotify", INOTIFY),
    ("fanotify", FANOTIFY),
    ("pidfd", PIDFD),
    ("io_uring", IO_URING),
    ("userfaultfd", USERFAULTFD),
    ("perf_event", PERF_EVENT),
    ("bpf-map", BPF_MAP),
    ("bpf-prog", BPF_PROGRAM),
    ("bpf_link", BPF_LINK),
    ("bpf", BPF),
    ("btf", BPF),
    ("landlock-ruleset", LANDLOCK_RULESET),
    ("fscontext", FILESYSTEM_CONTEXT),
];

/// Whether a kind is a socket of any family; `ignore_kind = "socket"` means all of them.
pub fn is_socket(kind: &str) -> bool {
    const SOCKETS: &[&str] = &[
        SOCKET,
        TCP_LISTENER,
        TCP_STREAM,
        UDP_SOCKET,
        UNIX_LISTENER,
        UNIX_STREAM,
        UNIX_DATAGRAM,
        UNIX_SEQPACKET,
        RAW_SOCKET,
        ICMP_SOCKET,
        NETLINK_SOCKET,
        PACKET_SOCKET,
        VSOCK_LISTENER,
        VSOCK_STREAM,
        VSOCK_DATAGRAM,
        VSOCK_SEQPACKET,
    ];
    SOCKETS.contains(&kind)
}

/// Whether a kind is a connected stream socket.
pub fn is_stream(kind: &str) -> bool {
    [TCP_STREAM, UNIX_STREAM].contains(&kind)
}
