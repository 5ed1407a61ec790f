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
