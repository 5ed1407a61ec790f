//! Descriptors and the programs that inherit them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Starts a program by `posix_spawn`, and waits for it.
pub fn start(program: &str) -> io::Result<()> {
    Command::new(program).stdout(Stdio::null()).status().map(drop)
}

/// Starts a program by `fork` and `exec`, and waits for it.
pub fn start_by_fork(program: &str) {
    let mut command = Command::new(program);
    unsafe { command.pre_exec(|| Ok(())) };
    assert!(command.status().unwrap().success());
}

fn owned(number: RawFd) -> OwnedFd {
    assert!(number >= 0);
    unsafe { OwnedFd::from_raw_fd(number) }
}

pub fn event() -> OwnedFd {
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })
}

/// The fault: `dup` loses the flag.
pub fn copy_of(fd: &OwnedFd) -> OwnedFd {
    owned(unsafe { libc::dup(fd.as_raw_fd()) })
}

/// The fault: `F_DUPFD` loses the flag.
pub fn copy_by_fcntl(fd: &OwnedFd) -> OwnedFd {
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 10) })
}

/// The fault: `pipe` has no flag.
pub fn pipe() -> [OwnedFd; 2] {
    let mut pair = [0; 2];
    assert_eq!(unsafe { libc::pipe(pair.as_mut_ptr()) }, 0);
    pair.map(owned)
}

/// The fault: a socket without the flag.
pub fn socket() -> OwnedFd {
    owned(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) })
}

/// The fault: a file without the flag.
pub fn file() -> OwnedFd {
    owned(unsafe { libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) })
}

fn wait(child: libc::pid_t) {
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
}

fn execute(program: &CStr) {
    let arguments = [program.as_ptr(), std::ptr::null()];
    let variables = [std::ptr::null()];
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
}

/// Forks, calls `prepare` in the child, executes the program there and waits for it.
pub fn fork_and_execute(program: &CStr, prepare: impl FnOnce()) {
    match unsafe { libc::fork() } {
        0 => {
            prepare();
            execute(program);
            unsafe { libc::_exit(1) };
        }
        child => wait(child),
    }
}

/// Executes a program in a child that shares this memory, as old code does.
pub fn vfork_and_execute(program: &CStr) {
    #[allow(deprecated)]
    match unsafe { libc::vfork() } {
        0 => {
            execute(program);
            unsafe { libc::_exit(1) };
        }
        child => wait(child),
    }
}

/// The fault: a child that goes on as a copy of this process opens a file without the flag, and
/// starts a program later.
pub fn worker_process() {
    match unsafe { libc::fork() } {
        0 => {
            let _log = unsafe { libc::open(c"/etc/hostname".as_ptr(), libc::O_RDONLY) };
            fork_and_execute(c"/bin/true", || ());
            unsafe { libc::_exit(0) };
        }
        child => wait(child),
    }
}

/// No fault: the program's standard streams are pipes.
pub fn standard_streams() -> String {
    let mut command = Command::new("cat");
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(cat.stdin.take());
    let output = cat.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// No fault: the program gets the descriptor under a number that both know.
pub fn pass_as(fd: &OwnedFd, number: RawFd) {
    let from = fd.as_raw_fd();
    let mut command = Command::new("true");
    unsafe {
        command.pre_exec(move || match libc::dup2(from, number) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    assert!(command.status().unwrap().success());
}

/// Clears the flag, so that programs which are started from now on inherit the descriptor.
pub fn clear_flag(fd: &impl AsRawFd) {
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }, 0);
}

/// No fault: the flag is cleared in the child.
pub fn pass_by_flag(fd: OwnedFd) {
    let mut command = Command::new("true");
    unsafe {
        command.pre_exec(move || {
            clear_flag(&fd);
            Ok(())
        });
    }
    assert!(command.status().unwrap().success());
}

/// No fault: the program's arguments name the descriptor.
pub fn pass_by_argument(fd: &OwnedFd) {
    let option = format!("/dev/fd/{}", fd.as_raw_fd());
    assert!(Command::new("test").args(["-e", &option]).status().unwrap().success());
}

/// Asks for a child whose signal handlers are all reset, as `posix_spawn` does since version 2.38
/// of the C library. Returns the error.
pub fn clone_without_handlers() -> Option<i32> {
    const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
    let mut request = [0_u64; 8];
    (request[0], request[4]) = (CLONE_CLEAR_SIGHAND, libc::SIGCHLD as u64);
    match unsafe { libc::syscall(libc::SYS_clone3, request.as_ptr(), size_of_val(&request)) } {
        0 => unsafe { libc::_exit(0) },
        child if child > 0 => {
            wait(child as libc::pid_t);
            None
        }
        _ => io::Error::last_os_error().raw_os_error(),
    }
}

/// No fault: `posix_spawn` passes the descriptor, by an action with the same number twice.
pub fn pass_by_action(fd: &OwnedFd) {
    let number = fd.as_raw_fd();
    let mut child = 0;
    unsafe {
        let mut actions = std::mem::zeroed();
        assert_eq!(libc::posix_spawn_file_actions_init(&mut actions), 0);
        assert_eq!(libc::posix_spawn_file_actions_adddup2(&mut actions, number, number), 0);
        let arguments = [c"true".as_ptr().cast_mut(), std::ptr::null_mut()];
        let variables = [std::ptr::null_mut()];
        let (arguments, variables) = (arguments.as_ptr(), variables.as_ptr());
        let program = c"/bin/true".as_ptr();
        let none = std::ptr::null();
        let result =
            libc::posix_spawn(&mut child, program, &actions, none, arguments, variables);
        assert_eq!(result, 0);
        libc::posix_spawn_file_actions_destroy(&mut actions);
    }
    wait(child);
}
