//! Identities under a seccomp filter that rejects `SO_COOKIE`, in a process of their own: a filter
//! cannot be removed, and a rejection is remembered.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::fd::{Identity, Number, without_cookies};
use crate::open;

/// Set in the child process: the error number that the filter returns.
const ERROR: &str = "ECHOWN_FD_COOKIE_ERROR";

#[test]
fn sockets_are_identified_by_inode_where_cookies_are_rejected() {
    if let Ok(error) = std::env::var(ERROR) {
        return identities_with(error.parse().expect("it is a number"));
    }
    // As old kernels, qemu, sandboxes and their predecessors reject it; the last is unknown.
    for error in [libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EPERM, libc::ENOSYS, libc::EXFULL] {
        let mut child = Command::new(std::env::current_exe().expect("the path of the test"));
        let name =
            "sys::cookies::tests::sockets_are_identified_by_inode_where_cookies_are_rejected";
        child.args(["--exact", name]).env(ERROR, error.to_string());
        let output = child.output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{error}: {output:?}");
    }
}

fn identities_with(error: i32) {
    let (earlier, _peer) = UnixStream::pair().expect("a pair");
    let earlier_number = Number::of(&earlier);
    let with_cookie = earlier_number.identity().expect("it is open");
    let earlier_in_list = open::identify(earlier.as_raw_fd()).expect("it is open");
    assert!(matches!(with_cookie, Identity::Socket { .. }), "{with_cookie}");
    assert_eq!(without_cookies(), None);

    reject_cookies(error);
    let (one, other) = UnixStream::pair().expect("a pair");
    let [first, second] = [&one, &other].map(|end| Number::of(end).identity().expect("open"));
    for (identity, end) in [(first, &one), (second, &other)] {
        assert!(matches!(identity, Identity::SocketInode { .. }), "{identity}");
        assert_eq!(Number::of(end).identity_as_socket().expect("open"), identity);
        assert_eq!(Number::of(end).identity_like(identity).expect("open"), identity);
    }
    assert!(first.differs_from(second));
    let copy = one.try_clone().expect("a duplicate");
    assert_eq!(Number::of(&copy).identity().expect("open"), first);
    let listed = [&one, &copy, &other].map(|end| open::identify(end.as_raw_fd()).expect("open"));
    assert!(listed[0].shares_with(&listed[1]) && !listed[0].shares_with(&listed[2]));
    assert!(without_cookies().is_some_and(|lost| lost.contains("inode")));

    // A socket that was registered with its cookie cannot be compared, so it is not another one.
    let now = earlier_number.identity_like(with_cookie).expect("it is open");
    assert!(!with_cookie.differs_from(now) && !now.differs_from(with_cookie), "{now}");
    assert!(earlier_in_list.still_holds());
    // A file in its place is another one.
    let file = OwnedFd::from(std::fs::File::open("/dev/null").expect("it exists"));
    let as_socket = Number::of(&file).identity_as_socket().expect("it is open");
    assert!(matches!(as_socket, Identity::Node { .. }), "{as_socket}");
    assert!(with_cookie.differs_from(as_socket) && first.differs_from(as_socket));

    let closed = one.as_fd().as_raw_fd();
    drop((one, copy));
    let closed = Number::listed(closed);
    for identity in [closed.identity(), closed.identity_as_socket(), closed.identity_like(first)] {
        assert_eq!(identity.expect_err("it is closed").raw_os_error(), Some(libc::EBADF));
    }
}

/// Installs a filter on this thread that makes `getsockopt(_, SOL_SOCKET, SO_COOKIE)` fail.
fn reject_cookies(error: i32) {
    // Offsets in `seccomp_data`: the number of the call, and the low words of two arguments.
    let low_word = if cfg!(target_endian = "big") { 4 } else { 0 };
    let [level, option] = [24, 32].map(|argument| argument + low_word);
    let load = |from| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, from);
    let other_than = |value, distance| {
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, distance, value)
    };
    let result = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let mut program = [
        load(0),
        other_than(libc::SYS_getsockopt as u32, 5),
        load(level),
        other_than(libc::SOL_SOCKET as u32, 3),
        load(option),
        other_than(libc::SO_COOKIE as u32, 1),
        result(libc::SECCOMP_RET_ERRNO | error as u32),
        result(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `prctl` with the first arguments takes only integers; with the second it reads the program
    // that `filter` points to, which outlives the call and has the given length.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    assert!(installed, "{}", std::io::Error::last_os_error());
}

fn instruction(code: u32, if_true: u8, if_false: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k: value }
}
