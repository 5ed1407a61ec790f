//! Double closes, and closes of descriptors with another owner.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

pub fn open() -> RawFd {
    unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
}

pub fn close(number: RawFd) {
    unsafe { libc::close(number) };
}

/// The fault: the error path closes, and the caller closes again.
pub fn twice() {
    let number = open();
    close(number);
    close(number);
}

/// The fault: the second close hits another file that reuses the number, whose own close then fails.
pub fn twice_with_a_reuse() {
    let number = open();
    close(number);
    let newcomer = open();
    assert_eq!(number, newcomer, "the lowest number is free again");
    close(number);
    close(newcomer);
}

/// The fault: `file` also closes. The standard library detects it and aborts.
pub fn a_raw_close_of_an_owned_file() {
    let file = File::open("/dev/null").unwrap();
    close(file.as_raw_fd());
}

/// No fault: closes a range of numbers, open or not, as before an `exec`.
pub fn sweep(from: RawFd, to: RawFd) {
    for number in from..to {
        close(number);
    }
}

/// The fault: 0 to 2 belong to the whole process.
pub fn standard_output() {
    close(1);
}

/// The fault: standard error is redirected and not restored.
pub fn redirect_and_leave() {
    let null = open();
    unsafe { libc::dup2(null, 2) };
    close(null);
}

/// The fault: a copy of it is closed, too.
#[derive(Clone, Copy)]
struct Pair([RawFd; 2]);

impl Pair {
    fn close(self) {
        self.0.into_iter().for_each(close);
    }
}

/// The fault: the second `close(a)`, which hits `b`. `v` is the victim.
pub fn the_history() {
    let a = open();
    close(a);
    let b = open();
    close(a);
    let v = open();
    close(b);
    close(v);
}

/// The fault: see [`Pair`].
pub fn a_copied_pair() {
    let mut pair = Pair([0; 2]);
    assert_eq!(unsafe { libc::pipe2(pair.0.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    pair.close();
    pair.close();
}

/// The fault: the number is used after its owner closed it.
pub fn use_after_close() {
    let file = File::open("/etc/passwd").unwrap();
    let number = file.as_raw_fd();
    drop(file);
    unsafe {
        libc::fsync(number);
        libc::dup(number);
    }
}

/// No fault: a test asks whether a number is closed.
pub fn ask_after_close() {
    let number = open();
    close(number);
    let file = File::open("/etc/passwd").unwrap();
    assert_eq!(file.as_raw_fd(), number);
    drop(file);
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFL) }, -1);
    let mut status = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::fstat(number, &raw mut status) }, -1);
}

/// No fault: like [`ask_after_close`], without counting on the lowest free number.
pub fn ask_after_close_of_one() {
    let number = open();
    close(number);
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1);
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFL) }, -1);
    let mut status = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::fstat(number, &raw mut status) }, -1);
}
