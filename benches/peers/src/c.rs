//! The two peers in C: `c/threads.c` and `c/epoll.c`. The only `unsafe` of this crate.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use crate::BUFFER_BYTES;

// SAFETY: the signatures are those of c/peers.h; `size_t` is `usize` on all supported systems.
unsafe extern "C" {
    fn peer_threads(listener: c_int, buffer_bytes: usize) -> !;
    fn peer_epoll(listener: c_int, buffer_bytes: usize) -> !;
}

/// C, one POSIX thread per connection.
pub(crate) fn threads(listener: &TcpListener) -> ! {
    // SAFETY: the descriptor is open during the call, which never returns.
    unsafe { peer_threads(listener.as_raw_fd(), BUFFER_BYTES) }
}

/// C, one thread, epoll, level-triggered.
pub(crate) fn epoll(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // SAFETY: as above.
    unsafe { peer_epoll(listener.as_raw_fd(), BUFFER_BYTES) }
}
