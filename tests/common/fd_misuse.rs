//! Misuse of descriptors that safe code cannot commit: double owners, closed and replaced numbers,
//! forks. The only unsafe code of the tests apart from signals.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Closes a number outside the registry, as stray C code would. Only for a test in a process of its
/// own: elsewhere the number could go to another test.
pub fn close_number(number: RawFd) {
    // SAFETY: the tests that call this break I/O safety on purpose: they run in a
    // process of their own, own what next gets the number, and prove that the registry leaves
    // it alone. No memory is reached through a descriptor's number.
    let closed = unsafe { libc::close(number) };
    assert_eq!(closed, 0, "the number was open");
}

/// Puts another file under a number that is in use (`dup2(2)`), outside the registry.
pub fn replace(number: RawFd, by: &impl AsFd) {
    // SAFETY: as above; the number was open and means `by` afterwards, and the tests prove that
    // the registry leaves it alone.
    let result = unsafe { libc::dup2(by.as_fd().as_raw_fd(), number) };
    assert_eq!(result, number, "both are open");
}

/// Forks (`fork(2)`) without exec. True in the child.
pub fn is_forked_child() -> bool {
    // SAFETY: the tests that call this run in a process of their own in which no other thread
    // is doing anything, so that no lock is left held in the child; glibc's allocator can be
    // used after a fork.
    match unsafe { libc::fork() } {
        0 => true,
        -1 => panic!("failed to fork: {}", std::io::Error::last_os_error()),
        _ => false,
    }
}

/// Ends a forked child at once (`_exit(2)`).
pub fn end_forked_child(code: i32) -> ! {
    // SAFETY: ends the process and touches no memory.
    unsafe { libc::_exit(code) }
}

/// A second owner of an open number.
pub fn second_owner(number: RawFd) -> OwnedFd {
    // SAFETY: as above; the number is open, and the tests prove that it is closed once.
    unsafe { OwnedFd::from_raw_fd(number) }
}
