//! Descriptors of the rarer calls and kinds.

use std::fs::File;
use std::io;
use std::mem::{forget, zeroed};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr::null_mut;

use downstream::{pass, ring};

/// A call that opens, or the reason why the kernel does not allow it here.
fn opened(result: libc::c_long) -> RawFd {
    if result < 0 {
        panic!("the kernel refuses the call: {}", io::Error::last_os_error());
    }
    result as RawFd
}

//~ fails | left 1 descriptor open | pidfd fd | of a process that has ended | @opened by clone3 at tests/verdicts/kinds.rs:
#[echown::test]
fn a_pidfd_of_a_fork() {
    let mut number: RawFd = -1;
    let mut arguments = [0_u64; 8];
    arguments[0] = libc::CLONE_PIDFD as u64;
    arguments[1] = &raw mut number as u64;
    arguments[4] = libc::SIGCHLD as u64;
    unsafe {
        match libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) {
            0 => libc::_exit(0),
            child => libc::waitpid(opened(child), null_mut(), 0),
        };
    }
}

//~ fails | left 1 descriptor open | pidfd fd | of a process that has ended | @opened by clone at tests/verdicts/kinds.rs:
#[echown::test]
fn a_pidfd_of_a_fork_by_the_older_call() {
    let (mut number, flags): (RawFd, _) = (-1, libc::CLONE_PIDFD | libc::SIGCHLD);
    unsafe {
        match libc::syscall(libc::SYS_clone, flags, 0_u64, &raw mut number, 0_u64, 0_u64) {
            0 => libc::_exit(0),
            child => libc::waitpid(opened(child), null_mut(), 0),
        };
    }
}

extern "C" fn ends(_: *mut libc::c_void) -> libc::c_int {
    0
}

//~ fails | left 1 descriptor open | pidfd fd | @opened by clone at | @in verdicts::kinds::a_pidfd_of_a_process_that_shares_the_memory
#[echown::test]
fn a_pidfd_of_a_process_that_shares_the_memory() {
    let mut number: RawFd = -1;
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        let child = libc::clone(ends, top, flags, null_mut(), &raw mut number);
        libc::waitpid(opened(child.into()), null_mut(), 0);
    }
    File::open("/etc/passwd").unwrap();
}

//~ fails | ? | left 1 descriptor open | pidfd fd | @opened by getsockopt at tests/verdicts/kinds.rs:
#[echown::test]
fn a_pidfd_of_a_peer() {
    let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut number, mut length): (RawFd, libc::socklen_t) = (-1, 4);
    let (to, length) = ((&raw mut number).cast(), &raw mut length);
    let peer = unsafe { libc::getsockopt(here.as_raw_fd(), libc::SOL_SOCKET, 77, to, length) };
    opened(peer.into());
}

//~ fails | left 2 descriptors open | /etc/hostname | /etc/passwd | @opened by recvmmsg at src/pass.rs:
#[echown::test]
fn descriptors_in_two_messages_at_once() {
    let (here, there) = UnixDatagram::pair().unwrap();
    for path in ["/etc/hostname", "/etc/passwd"] {
        pass::send(&here, File::open(path).unwrap().as_raw_fd()).unwrap();
    }
    pass::receive_two(&there).unwrap();
}

//~ fails | left 2 descriptors open | pty master fd | of /dev/pts/ | @opened by openat at | pty slave fd | /dev/pts/ | @opened by ioctl at tests/verdicts/kinds.rs:
#[echown::test]
fn both_sides_of_a_terminal() {
    unsafe {
        let master = opened(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY).into());
        libc::unlockpt(master);
        opened(libc::ioctl(master, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY).into());
    }
}

//~ fails | ? | left 3 descriptors open | filesystem context fd | @opened by fsopen at | @opened by fspick at | detached mount fd | @opened by fsmount at tests/verdicts/kinds.rs:
#[echown::test]
fn a_mount_in_progress() {
    const CREATE: u64 = 6;
    unsafe {
        let context = opened(libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1));
        libc::syscall(431, context, CREATE, 0_u64, 0_u64, 0_u64);
        opened(libc::syscall(libc::SYS_fsmount, context, 1_u64, 0_u64));
        opened(libc::syscall(libc::SYS_fspick, libc::AT_FDCWD, c"/".as_ptr(), 1_u64));
    }
}

//~ fails | ? | left 1 descriptor open | memfd_secret fd | @opened by memfd_secret at tests/verdicts/kinds.rs:
#[echown::test]
fn secret_memory() {
    opened(unsafe { libc::syscall(libc::SYS_memfd_secret, 0_u64) });
}

//~ fails | ? | left 1 descriptor open | bpf map fd | id  | @opened by bpf at tests/verdicts/kinds.rs:
#[echown::test]
fn a_bpf_map() {
    const MAP_CREATE: u64 = 0;
    // An array of four values of eight bytes.
    let mut attributes = [0_u32; 18];
    attributes[..4].copy_from_slice(&[2, 4, 8, 4]);
    let size = size_of_val(&attributes);
    opened(unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, attributes.as_ptr(), size) });
}

//~ fails | ? | left 1 descriptor open | landlock ruleset fd | @opened by landlock_create_ruleset at tests/verdicts/kinds.rs:
#[echown::test]
fn a_landlock_ruleset_after_the_question_for_the_version() {
    const VERSION: u64 = 1;
    let (access, create) = (1_u64, libc::SYS_landlock_create_ruleset);
    unsafe {
        opened(libc::syscall(create, 0_u64, 0_u64, VERSION));
        opened(libc::syscall(create, &raw const access, 8_u64, 0_u64));
    }
}

//~ fails | left 3 descriptors open | unix seqpacket fd | @opened by socketpair at | netlink socket fd | route | @opened by socket at tests/verdicts/kinds.rs:
#[echown::test]
fn sockets_for_records_and_for_netlink() {
    let mut pair = [0; 2];
    unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr());
        opened(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).into());
    }
}

//~ fails | ? | left 1 descriptor open | vsock stream fd | @opened by socket at tests/verdicts/kinds.rs:
#[echown::test]
fn a_socket_to_another_machine_on_this_host() {
    opened(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) }.into());
}

//~ fails | ? | left 2 descriptors open | packet socket fd | raw socket fd | icmp | @opened by socket at tests/verdicts/kinds.rs:
#[echown::test]
fn sockets_for_whole_packets() {
    unsafe {
        opened(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into());
        opened(libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).into());
    }
}

#[inline(never)]
fn first(set: &libc::sigset_t) -> RawFd {
    let number = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC) };
    std::hint::black_box(number)
}

//~ fails | left 1 descriptor open | signalfd fd | mask 0000000000000200 | @opened by signalfd4 at | @in verdicts::kinds::first
#[echown::test]
fn a_signalfd_that_was_changed_and_duplicated_onto_itself() {
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        let number = first(&set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        assert_eq!(libc::signalfd(number, &set, 0), number);
        assert_eq!(libc::dup2(number, number), number);
    }
}

//~ fails | ? | left 1 descriptor open | file fd | /etc/passwd | @opened by an io_uring, set up at src/ring.rs:
#[echown::test]
fn a_file_opened_by_an_io_uring() {
    match ring::open(c"/etc/passwd") {
        Ok(number) => forget(opened(number.into())),
        Err(error) => panic!("the kernel refuses the call: {error}"),
    }
}
