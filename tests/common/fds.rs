//! Descriptors: a tracker that knows open files by identity, listeners and connections of the
//! standard library, and a descriptor shared by several owners.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use super::lock;

/// Tracks open files by identity (`socket:[4711]`) and not by number, because the kernel reuses
/// numbers for other tests.
pub struct FdTracker {
    tracked: Mutex<Vec<String>>,
    /// A connection that belongs to no registry: nothing under test may close it or shut it down.
    unrelated: Mutex<Option<[UnixStream; 2]>>,
}

impl FdTracker {
    pub fn new() -> FdTracker {
        let (a, b) = UnixStream::pair().expect("two descriptors are free");
        FdTracker { tracked: Mutex::default(), unrelated: Mutex::new(Some([a, b])) }
    }

    pub fn track<F: AsFd>(&self, fd: F) -> F {
        self.track_number(fd.as_fd().as_raw_fd());
        fd
    }

    pub fn track_number(&self, number: RawFd) {
        let target = target(number).expect("a tracked descriptor is open");
        lock(&self.tracked).push(target);
    }

    /// Closes the unrelated connection at the end of the test.
    pub fn close_unrelated(&self) {
        drop(lock(&self.unrelated).take());
    }

    /// Asserts that all tracked files are closed, except one, and that the unrelated connection
    /// works.
    #[track_caller]
    pub fn assert_all_closed_except(&self, exception: Option<RawFd>) {
        let exception = exception.and_then(target);
        let open = targets();
        for file in lock(&self.tracked).iter().filter(|file| Some(*file) != exception.as_ref()) {
            assert!(!open.contains(file), "{file} is still open");
        }
        if let Some([a, b]) = &mut *lock(&self.unrelated) {
            assert_connected(a, b);
        }
    }
}

/// The open file behind a number of this process, such as `socket:[4711]`.
pub fn target(number: RawFd) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// The open files behind all numbers of this process.
pub fn targets() -> Vec<String> {
    let numbers = std::fs::read_dir("/proc/self/fd").expect("this is Linux");
    numbers
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(target)
        .collect()
}

/// Asserts that a byte passes in both directions.
#[track_caller]
pub fn assert_connected(a: &mut (impl io::Read + io::Write), b: &mut (impl io::Read + io::Write)) {
    let mut byte = [0];
    a.write_all(b"?").expect("one end can be written to");
    b.read_exact(&mut byte).expect("the other can be read from");
    b.write_all(b"!").expect("the other can be written to");
    a.read_exact(&mut byte).expect("and the one read from");
    assert_eq!(&byte, b"!");
}

/// A listener of the standard library on a free port of loopback.
pub fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port")
}

/// The two ends of a TCP connection.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = listener();
    let address = listener.local_addr().expect("it is bound");
    let here = TcpStream::connect(address).expect("it listens");
    let (there, _) = listener.accept().expect("a client connects");
    (here, there)
}

/// One descriptor with several owners, as an `Arc`, a foreign function or a copied number can have
/// it.
pub struct SharedFd<T>(Arc<T>);

impl<T> Clone for SharedFd<T> {
    fn clone(&self) -> SharedFd<T> {
        SharedFd(Arc::clone(&self.0))
    }
}

impl<T> SharedFd<T> {
    pub fn new(fd: T) -> SharedFd<T> {
        SharedFd(Arc::new(fd))
    }
}

impl<T: AsFd> AsFd for SharedFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd + Into<OwnedFd>> From<SharedFd<T>> for OwnedFd {
    fn from(shared: SharedFd<T>) -> OwnedFd {
        let copy = |shared: Arc<T>| shared.as_fd().try_clone_to_owned().expect("it is open");
        Arc::try_unwrap(shared.0).map_or_else(copy, T::into)
    }
}
