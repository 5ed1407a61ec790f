//! Descriptors that a crate hands to programs that the test starts.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use real::run_a_program;

/// vmm-sys-util 0.14.0, rust-vmm/vmm-sys-util de02810: `try_clone` is a `dup`.
//~ fails | exec-leak: test `exec::vmm_sys_util_clone_of_an_eventfd` leaked 1 descriptor into a program that it started | eventfd | argv[0] `true` | @without close-on-exec by dup at vmm-sys-util 0.14.0 src/linux/eventfd.rs
#[echown_test::test]
fn vmm_sys_util_clone_of_an_eventfd() {
    use vmm_sys_util::eventfd::EventFd;

    let event = EventFd::new(libc::EFD_CLOEXEC).unwrap();
    let _clone = event.try_clone().unwrap();
    run_a_program();
}

/// rexpect 0.5.0, rust-cli/rexpect#97: the program has the master of its own terminal.
//~ fails | exec-leak: test `exec::rexpect_gives_a_program_the_master_of_its_terminal` leaked 2 descriptors into a program that it started | pty master | pty slave | argv[0] `true` | @rexpect 0.5.0 src/process.rs:92
#[echown_test::test]
fn rexpect_gives_a_program_the_master_of_its_terminal() {
    let mut session = rexpect::spawn("true", Some(10_000)).unwrap();
    session.exp_eof().unwrap();
}

/// ipc-channel 0.15.0, servo/ipc-channel#271: its sockets have no close-on-exec.
//~ fails | exec-leak: test `exec::ipc_channel_sockets` leaked 2 descriptors into a program that it started | unix seqpacket | argv[0] `true` | @without close-on-exec by socketpair at ipc-channel 0.15.0 src/platform/unix/mod.rs
#[echown_test::test]
fn ipc_channel_sockets() {
    let _channel = ipc_channel::ipc::channel::<u8>().unwrap();
    run_a_program();
}

/// listenfd 0.4.0, mitsuhiko/listenfd#5: the sockets of a service manager stay inheritable.
//~ fails | exec-leak: test `exec::listenfd_activated_listener` leaked 1 descriptor into a program that it started | tcp listener | argv[0] `true`
#[echown_test::test]
fn listenfd_activated_listener() {
    let socket = real::activated_listener();
    let index = usize::try_from(socket.as_raw_fd()).unwrap() - 3;
    std::env::set_var("LISTEN_FDS", (index + 1).to_string());
    std::env::remove_var("LISTEN_PID");
    std::mem::forget(socket);
    let listener = listenfd::ListenFd::from_env().take_tcp_listener(index).unwrap();
    assert!(listener.is_some());
    run_a_program();
}

/// daemonize 0.4.1, knsd/daemonize#39: the programs of the daemon get its locked pid file.
//~ fails | exec-leak: test `exec::daemonize_pid_file` leaked 1 descriptor into a program that it started | file fd | argv[0] `true` | @without close-on-exec by openat at daemonize 0.4.1 src/lib.rs
#[echown_test::test]
fn daemonize_pid_file() {
    let path = std::env::temp_dir().join(format!("daemonize-{}", std::process::id()));
    let (mut reader, writer) = UnixStream::pair().unwrap();
    // SAFETY: the child only starts the daemon, and ends without destructors.
    match unsafe { libc::fork() } {
        0 => {
            drop(reader);
            if daemonize::Daemonize::new().pid_file(&path).start().is_ok() {
                run_a_program();
            }
            drop(writer);
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) }
        }
        child => {
            drop(writer);
            // SAFETY: waits for our own child.
            assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
            // The end of the daemon.
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }
    std::fs::remove_file(path).unwrap();
}

/// passfd 0.1.2, polachok/passfd#3: a received descriptor has no close-on-exec.
//~ fails | exec-leak: test `exec::passfd_received_descriptor` leaked 1 descriptor into a program that it started | /etc/passwd | argv[0] `true` | @without close-on-exec by recvmsg at passfd 0.1.2 src/lib.rs
#[echown_test::test]
fn passfd_received_descriptor() {
    use passfd::FdPassingExt;

    let (sender, receiver) = UnixStream::pair().unwrap();
    sender.send_fd(File::open("/etc/passwd").unwrap().as_raw_fd()).unwrap();
    // SAFETY: a received descriptor has no other owner.
    let _file = unsafe { File::from_raw_fd(receiver.recv_fd().unwrap()) };
    run_a_program();
}

/// sendfd 0.4.3, standard-ai/sendfd#16: a received descriptor has no close-on-exec. No fixed version.
//~ fails | exec-leak: test `exec::sendfd_received_descriptor` leaked 1 descriptor into a program that it started | /etc/passwd | argv[0] `true` | @without close-on-exec by recvmsg at sendfd 0.4.3 src/lib.rs
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn sendfd_received_descriptor() {
    use sendfd::{RecvWithFd, SendWithFd};

    let (sender, receiver) = UnixStream::pair().unwrap();
    sender.send_with_fd(b"x", &[File::open("/etc/passwd").unwrap().as_raw_fd()]).unwrap();
    let mut numbers = [-1];
    assert_eq!(receiver.recv_with_fd(&mut [0], &mut numbers).unwrap(), (1, 1));
    // SAFETY: a received descriptor has no other owner.
    let _file = unsafe { File::from_raw_fd(numbers[0]) };
    run_a_program();
}

/// signal-hook 0.4.1, vorner/signal-hook#206: close-on-exec goes to F_SETFL, where it does nothing.
//~ fails | exec-leak: test `exec::signal_hook_pipe` leaked 1 descriptor into a program that it started | pipe | argv[0] `true`
#[cfg(not(feature = "fixed"))]
#[echown_test::test]
fn signal_hook_pipe() {
    use std::os::fd::OwnedFd;

    let mut ends = [-1; 2];
    // SAFETY: a new pipe, without another owner.
    let (reader, writer) = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    // SAFETY: sets a flag of our own descriptor.
    assert_eq!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    let id = signal_hook::low_level::pipe::register(libc::SIGUSR2, writer).unwrap();
    run_a_program();
    // SAFETY: the pipe belongs to the crate until the unregistration, which would close it twice: see
    // `closes`. So the test closes it itself, and keeps the registration.
    unsafe { libc::close(ends[1]) };
    let _ = id;
}

/// A program that gets nothing.
//~ passes
#[echown_test::test]
fn a_program_with_piped_streams() {
    assert_eq!(Command::new("echo").arg("hello").output().unwrap().stdout, b"hello\n");
}
