//! Small programs with one fault each, in which a descriptor number is used by code that does not own
//! it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::closes::{close, open};

/// A file in memory.
pub fn memory() -> File {
    let number = unsafe { libc::memfd_create(c"bug".as_ptr(), libc::MFD_CLOEXEC) };
    unsafe { File::from_raw_fd(number) }
}

fn copy_of(file: &impl AsRawFd) -> OwnedFd {
    unsafe { OwnedFd::from_raw_fd(file.as_raw_fd()) }
}

/// The fault: a panic skips the close.
pub fn a_panic_before_the_close() {
    let number = open();
    let failed = std::panic::catch_unwind(|| assert_eq!(number, -1, "it was opened"));
    if failed.is_ok() {
        close(number);
    }
}

/// The fault: two owners of one descriptor.
pub fn two_owners() {
    let first = memory();
    let second = copy_of(&first);
    drop(first);
    drop(second);
}

/// The fault: two owners of one descriptor, and a third file that gets its number in between. Returns
/// whether that file works after both were dropped.
pub fn two_owners_with_a_reuse() -> bool {
    let first = memory();
    let second = copy_of(&first);
    drop(first);
    let mut victim = memory();
    drop(second);
    let works = victim.write_all(b"data").is_ok();
    std::mem::forget(victim);
    works
}

/// The fault: a write to a number that was closed. Returns the length of the file that is opened next.
pub fn stale_write() -> u64 {
    let log = memory();
    let number = log.as_raw_fd();
    drop(log);
    let database = memory();
    unsafe { libc::write(number, b"a log line".as_ptr().cast(), 10) };
    database.metadata().unwrap().len()
}

/// The fault: a read from a number that was closed. Returns what the next owner can still read.
pub fn stale_read() -> String {
    let old = memory();
    let number = old.as_raw_fd();
    drop(old);
    let (mut victim, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(b"secret").unwrap();
    drop(peer);
    let mut buffer = [0_u8; 3];
    unsafe { libc::read(number, buffer.as_mut_ptr().cast(), 3) };
    let mut rest = String::new();
    victim.read_to_string(&mut rest).unwrap();
    rest
}

/// The fault: a datagram is sent on a number that was closed.
pub fn stale_send() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (number, to) = (socket.as_raw_fd(), socket.local_addr().unwrap());
    assert_eq!(socket.send_to(b"to myself", to).unwrap(), 9);
    let mut buffer = [0; 9];
    assert_eq!(socket.recv_from(&mut buffer).unwrap(), (9, to));
    drop(socket);
    unsafe { libc::send(number, b"late".as_ptr().cast(), 4, 0) };
}

/// Waits until a thread blocks in `read`, for five seconds at most.
fn wait_until_it_reads(thread: libc::pid_t) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let reads = format!("{} ", libc::SYS_read);
    let call = || std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
    while !call().is_ok_and(|call| call.starts_with(&reads)) {
        assert!(Instant::now() < deadline, "the thread does not read");
        thread::yield_now();
    }
}

/// The fault: a thread closes what another thread reads from.
pub fn close_under_a_blocked_read() {
    let (reader, writer) = std::io::pipe().unwrap();
    let number = reader.as_raw_fd();
    let (begun, wait) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        begun.send(unsafe { libc::gettid() }).unwrap();
        let mut byte = [0];
        unsafe { libc::read(number, byte.as_mut_ptr().cast(), 1) }
    });
    wait_until_it_reads(wait.recv().unwrap());
    drop(reader);
    drop(writer);
    thread.join().unwrap();
}

/// The fault: `dup2` to a number that is in use.
pub fn dup2_over_a_live_descriptor() {
    let file = memory();
    let null = open();
    unsafe { libc::dup2(null, file.as_raw_fd()) };
    close(null);
}

/// The fault: it keeps the number of a file that it has given away, and writes to it.
pub fn write_after_hand_over() {
    let file = memory();
    let number: RawFd = file.as_raw_fd();
    let (written, wait) = std::sync::mpsc::channel();
    let owner = thread::spawn(move || {
        wait.recv().unwrap();
        drop(file);
    });
    unsafe { libc::write(number, b"late".as_ptr().cast(), 4) };
    written.send(()).unwrap();
    owner.join().unwrap();
}

/// No fault: many closes, and numbers that are opened again and again.
pub fn churn() {
    for _ in 0..200 {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"x");
        let file = File::open("/etc/passwd").unwrap();
        let copy = file.try_clone().unwrap();
        assert!(copy.metadata().unwrap().len() > 0);
    }
}
