//! The list of open descriptors of this process: their kinds and identities.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::OFlags;
use rustix::net::sockopt::Timeout;

use crate::kind;

use super::fd::{FdAddresses, Identity, Number, link_target, open_numbers};
use super::rare_socket;
use super::timeout::socket_timeout;

/// The identity of a descriptor: its number and the open file that it refers to.
///
/// Two of them are equal if they cannot be distinguished: the same number and the same socket or
/// inode, or for a shared anonymous inode, the same kind (and for an eventfd, the same id).
#[derive(Clone, Debug)]
pub struct FdIdentity {
    /// The number.
    pub number: RawFd,
    identity: Identity,
    anonymous: Option<String>,
}

impl PartialEq for FdIdentity {
    fn eq(&self, other: &FdIdentity) -> bool {
        self.number == other.number
            && !self.identity.differs_from(other.identity)
            && self.anonymous == other.anonymous
    }
}

/// The identities of all open descriptors, in ascending order of numbers.
pub fn all() -> Vec<FdIdentity> {
    open_numbers().into_iter().filter_map(identify).collect()
}

/// Identifies the open file of a number; `None` if it is closed.
pub fn identify(number: RawFd) -> Option<FdIdentity> {
    let identity = Number::listed(number).identity().ok()?;
    let anonymous = (identity == Identity::Anonymous).then(|| {
        let mut what = link_target(number).unwrap_or_default();
        if what.contains("eventfd") {
            what += field(number, "eventfd-id").unwrap_or_default().as_str();
        }
        what
    });
    Some(FdIdentity { number, identity, anonymous })
}

impl FdIdentity {
    /// Whether the number still refers to the same open file.
    pub fn still_holds(&self) -> bool {
        identify(self.number).as_ref() == Some(self)
    }

    /// Whether another number certainly refers to the same socket or, if the kernel can compare
    /// them, to the same open file description.
    pub fn shares_with(&self, other: &FdIdentity) -> bool {
        match (self.identity, other.identity) {
            (Identity::Socket { .. }, Identity::Socket { .. })
            | (Identity::SocketInode { .. }, Identity::SocketInode { .. }) => {
                self.identity == other.identity
            }
            _ => is_same_open_file(self.number, other.number),
        }
    }
}

/// The description of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// A word of [`kind::ALL`].
    pub kind: &'static str,
    /// The local address.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The path, if there is no address.
    pub path: Option<String>,
    /// Further facts, such as the state of a connection.
    pub facts: Vec<String>,
}

/// Describes an open number of this process.
pub fn describe(number: RawFd) -> Described {
    let link = link_target(number);
    let kind = kind_of(number, link.as_deref());
    let FdAddresses { local, peer, path } = Number::listed(number).addresses();
    let facts = Number::listed(number).lend(|fd| facts(fd, kind));
    // A link to an anonymous inode contains nothing but the kind.
    let path = path.filter(|path| !path.starts_with("anon_inode:"));
    Described { kind, local, peer, path, facts }
}

/// The kind of a descriptor, as a word that `ignore_kind` accepts.
fn kind_of(number: RawFd, link: Option<&str>) -> &'static str {
    let number = Number::listed(number);
    match (number.kind(), link.unwrap_or_default()) {
        (kind::SOCKET, _) => number.lend(rare_socket::kind_of),
        (kind::UDP_SOCKET, _) if number.lend(rare_socket::is_icmp) => kind::ICMP_SOCKET,
        (kind::CHARACTER_DEVICE, link) if is_pty_master(link) => kind::PTY_MASTER,
        (kind::CHARACTER_DEVICE, link) if link.starts_with("/dev/pts/") => kind::PTY_SLAVE,
        (kind::CHARACTER_DEVICE | kind::BLOCK_DEVICE, _) => kind::DEVICE,
        (_, link) if link.starts_with("anon_inode:") => anonymous(link),
        (_, link) if link.starts_with("pidfd:") => kind::PIDFD,
        (_, link) if link.starts_with("/memfd:") => kind::MEMFD,
        (_, "/secretmem (deleted)") => kind::MEMFD_SECRET,
        (_, link) if is_namespace(link) => kind::NAMESPACE,
        (_, "/") if is_detached_mount(number.raw()) => kind::DETACHED_MOUNT,
        (kind::PIPE | kind::FILE | kind::DIRECTORY, link) if link.starts_with("/dev/mqueue/") => {
            kind::FILE
        }
        (known, _) => known,
    }
}

fn anonymous(link: &str) -> &'static str {
    let found = kind::BY_LINK.iter().find(|(word, _)| link.contains(word));
    found.map_or(kind::ANONYMOUS_INODE, |(_, kind)| kind)
}

fn anonymous_name(number: RawFd) -> Option<String> {
    let link = link_target(number)?;
    let name = link.strip_prefix("anon_inode:")?;
    Some(name.trim_matches(['[', ']']).to_owned())
}

fn is_pty_master(link: &str) -> bool {
    ["/dev/ptmx", "/dev/pts/ptmx"].contains(&link)
}

/// Whether it refers to a mount that has no place in the tree of this process (`fsmount`,
/// `open_tree` with OPEN_TREE_CLONE). Such a descriptor has the flag O_PATH.
fn is_detached_mount(number: RawFd) -> bool {
    const O_PATH: u64 = 0o10_000_000;
    let flags = field(number, "flags").and_then(|flags| u64::from_str_radix(&flags, 8).ok());
    if flags.unwrap_or(0) & O_PATH == 0 {
        return false;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = field(number, "mnt_id").unwrap_or_default();
    let is_listed = |line: &str| line.split(' ').next() == Some(&*mount);
    !mounts.is_empty() && !mount.is_empty() && !mounts.lines().any(is_listed)
}

fn is_namespace(link: &str) -> bool {
    let names = ["net:[", "mnt:[", "pid:[", "user:[", "uts:[", "ipc:[", "cgroup:[", "time:["];
    names.iter().any(|name| link.starts_with(name))
}

/// Whether a number is a socket on which a receiving call returns after some time (`SO_RCVTIMEO`).
pub fn has_receive_timeout(number: RawFd) -> bool {
    let timeout = |fd: BorrowedFd<'_>| socket_timeout(fd, Timeout::Recv);
    matches!(Number::listed(number).lend(timeout), Ok(Some(_)))
}

/// Whether a number is a timerfd that is running.
pub fn is_running_timer(number: RawFd) -> bool {
    link_target(number).is_some_and(|link| link == "anon_inode:[timerfd]")
        && field(number, "it_value").is_some_and(|value| value != "(0, 0)")
}

/// Further facts for a descriptor of this kind.
fn facts(fd: BorrowedFd<'_>, kind: &str) -> Vec<String> {
    let number = fd.as_raw_fd();
    match kind {
        kind::TCP_STREAM => tcp_state(fd).map(str::to_owned).into_iter().collect(),
        kind::PIPE => pipe_end(fd).map(str::to_owned).into_iter().collect(),
        kind::EPOLL => watched(number),
        kind::EVENTFD => labelled(number, "eventfd-count", "count"),
        kind::SIGNALFD => labelled(number, "sigmask", "mask"),
        kind::PIDFD => match field(number, "Pid").as_deref() {
            Some("-1") => vec![String::from("of a process that has ended")],
            Some(process) => vec![format!("of process {process}")],
            None => Vec::new(),
        },
        kind::PTY_MASTER => {
            let index = field(number, "tty-index");
            index.map(|index| format!("of /dev/pts/{index}")).into_iter().collect()
        }
        kind::BPF_MAP => labelled(number, "map_id", "id"),
        kind::BPF_PROGRAM => labelled(number, "prog_id", "id"),
        kind::BPF_LINK => labelled(number, "link_id", "id"),
        // The only thing known about it is the name in the link.
        kind::ANONYMOUS_INODE => anonymous_name(number).into_iter().collect(),
        kind::INOTIFY => {
            let watches = lines(number).filter(|line| line.starts_with("inotify wd:")).count();
            vec![format!("{watches} watches")]
        }
        kind::SOCKET | kind::RAW_SOCKET | kind::NETLINK_SOCKET => rare_socket::facts(fd, kind),
        kind::FILE | kind::DIRECTORY => opened_for(fd).map(str::to_owned).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn pipe_end(fd: BorrowedFd<'_>) -> Option<&'static str> {
    match rustix::fs::fcntl_getfl(fd).ok()? & OFlags::RWMODE {
        mode if mode == OFlags::RDONLY => Some("reading end"),
        mode if mode == OFlags::WRONLY => Some("writing end"),
        _ => None,
    }
}

fn opened_for(fd: BorrowedFd<'_>) -> Option<&'static str> {
    match rustix::fs::fcntl_getfl(fd).ok()? & OFlags::RWMODE {
        mode if mode == OFlags::RDONLY => Some("for reading"),
        mode if mode == OFlags::WRONLY => Some("for writing"),
        mode if mode == OFlags::RDWR => Some("for reading and writing"),
        _ => None,
    }
}

/// The numbers that an epoll watches.
fn watched(number: RawFd) -> Vec<String> {
    let targets: Vec<String> = lines(number)
        .filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next().map(str::to_owned))
        .collect();
    match &targets[..] {
        [] => vec![String::from("watching nothing")],
        _ => vec![format!("watching fd {}", targets.join(", "))],
    }
}

fn labelled(number: RawFd, name: &str, label: &str) -> Vec<String> {
    field(number, name).map(|value| format!("{label} {value}")).into_iter().collect()
}

/// The value of a field in `/proc/self/fdinfo`.
fn field(number: RawFd, name: &str) -> Option<String> {
    lines(number).find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim().to_owned())
    })
}

fn lines(number: RawFd) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The state of a connection, as `ss` shows it.
#[cfg(target_os = "linux")]
fn tcp_state(fd: BorrowedFd<'_>) -> Option<&'static str> {
    const STATES: [&str; 12] = [
        "",
        "established",
        "syn-sent",
        "syn-received",
        "fin-wait-1",
        "fin-wait-2",
        "time-wait",
        "closed",
        "close-wait: the peer has closed",
        "last-ack",
        "listening",
        "closing",
    ];
    let mut state = 0_u8;
    let mut length: libc::socklen_t = 1;
    // SAFETY: the kernel writes at most `length` bytes, which is the one byte of `state` (the first
    // field of `tcp_info` is the state, a byte), and then the written length; both are on this
    // stack.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return None;
    }
    STATES.get(usize::from(state)).copied().filter(|state| !state.is_empty())
}

#[cfg(not(target_os = "linux"))]
fn tcp_state(_: BorrowedFd<'_>) -> Option<&'static str> {
    None
}

/// Whether a number of another process refers to the same open file as this process's number:
/// certain by `kcmp(2)`, otherwise by the link if it names a socket or a pipe.
#[cfg(target_os = "linux")]
pub fn is_open_in(number: RawFd, process: i32, other: i64) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let this = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the call takes five integers and accesses no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, this, process, KCMP_FILE, number, other) };
    if result >= 0 {
        return result == 0;
    }
    let link = |path: String| fs::read_link(path).ok();
    let here = link(format!("/proc/self/fd/{number}"));
    let is_unique = |link: &std::path::Path| {
        link.to_str().is_some_and(|it| it.starts_with("socket:[") || it.starts_with("pipe:["))
    };
    here.as_deref().is_some_and(is_unique) && here == link(format!("/proc/{process}/fd/{other}"))
}

/// Not available on this system.
#[cfg(not(target_os = "linux"))]
pub fn is_open_in(_: RawFd, _: i32, _: i64) -> bool {
    false
}

/// Whether two numbers are duplicates of each other (`kcmp(2)`); false if the kernel cannot compare
/// them.
#[cfg(target_os = "linux")]
fn is_same_open_file(one: RawFd, other: RawFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the call takes five integers and accesses no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, process, process, KCMP_FILE, one, other) };
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_same_open_file(_: RawFd, _: RawFd) -> bool {
    false
}

/// Describes a duplicate of another process's descriptor.
pub fn describe_borrowed(fd: &impl AsFd) -> Described {
    describe(fd.as_fd().as_raw_fd())
}
