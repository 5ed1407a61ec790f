//! Descriptors that are forgotten, mostly on error paths.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

fn last(result: libc::c_int) -> io::Result<RawFd> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The fault: the two numbers are never wrapped.
pub fn pipe_never_wrapped() -> io::Result<u8> {
    let mut ends = [0; 2];
    last(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let mut byte = [7];
    unsafe {
        libc::write(ends[1], byte.as_ptr().cast(), 1);
        libc::read(ends[0], byte.as_mut_ptr().cast(), 1);
    }
    Ok(byte[0])
}

/// The fault: only one end is wrapped.
pub fn pipe_half_wrapped() -> io::Result<()> {
    let mut ends = [0; 2];
    last(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let mut writer = unsafe { File::from_raw_fd(ends[1]) };
    writer.write_all(b"x")
}

/// The fault: a regular file cannot be watched, and then the epoll descriptor is forgotten.
pub fn poller(watched: &impl AsRawFd) -> io::Result<OwnedFd> {
    let epoll = last(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    last(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, watched.as_raw_fd(), &mut event) })?;
    Ok(unsafe { OwnedFd::from_raw_fd(epoll) })
}

/// The fault: the number is taken out of its owner before the last fallible step.
pub fn raw_on_an_error_path(path: &str) -> io::Result<RawFd> {
    let mut file = File::open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let number = file.into_raw_fd();
    text.lines().next().filter(|line| line.contains("impossible")).ok_or(io::ErrorKind::InvalidData)?;
    Ok(number)
}

/// The fault: forgotten on purpose, to keep the lock.
pub fn forgotten_lock(path: &str) -> io::Result<()> {
    let file = File::open(path)?;
    file.lock_shared()?;
    std::mem::forget(file);
    Ok(())
}

/// The fault: a timer and a signal descriptor of an event loop whose other half failed to start.
pub fn half_an_event_loop() -> io::Result<()> {
    last(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) })?;
    last(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    Err(io::ErrorKind::Unsupported.into())
}

/// The fault: a duplicate for each call.
pub fn duplicates(times: usize) -> io::Result<()> {
    for _ in 0..times {
        last(unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) })?;
    }
    Ok(())
}
