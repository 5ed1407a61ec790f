//! What a stream shares with its halves: non-blocking I/O, waiting for readiness, options.
//!
//! `try_read` and `try_write` never block, in any mode of the socket (`MSG_DONTWAIT`), and return
//! `WouldBlock` where they would have to. Waiting is a separate call with its own timeout (`poll(2)`),
//! which wakes when its task is cancelled.
#![allow(private_bounds, reason = "the traits list kinds of this crate")]

use std::io;
use std::time::Duration;

use echown_fd::timeout::socket_timeout;
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::address::Address;
use super::checked::{Checked, StreamReader, StreamWriter};
use super::checked_io;
use super::deadline::{self, Deadline};
use super::stream::Stream;
use super::syscalls::Syscalls;
use super::wait::wait;

/// The read side of a stream or of its read half.
impl<K: StreamReader> Checked<K> {
    /// Reads the available input, without blocking (`recv(2)` with `MSG_DONTWAIT`). Returns
    /// zero when the peer has finished.
    ///
    /// # Errors
    /// `WouldBlock`: nothing has arrived. Other errors of the system call and the registry.
    #[track_caller]
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        checked_io::recv(self.handle(), buffer, RecvFlags::DONTWAIT)
    }

    /// Copies the available input, without taking it and without blocking (`recv(2)` with
    /// `MSG_PEEK` and `MSG_DONTWAIT`). Returns zero when the peer has finished.
    ///
    /// # Errors
    /// See [`try_read`](Self::try_read).
    #[track_caller]
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        checked_io::recv(self.handle(), buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)
    }

    /// Waits until there is something to read, the peer has finished, or an error is pending, at most
    /// for `timeout` (`poll(2)`). Returns false on a timeout.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait(self.handle(), PollFlags::IN, timeout)
    }

    /// How many bytes have arrived and were not read yet (`FIONREAD`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn unread(&self) -> io::Result<u64> {
        self.handle().call(|fd| rustix::io::ioctl_fionread(fd))
    }

    /// The timeout of reads (`SO_RCVTIMEO`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        self.handle().call(|fd| socket_timeout(fd, Timeout::Recv))
    }

    /// Reads without taking: the next read gets the same bytes (`recv(2)` with `MSG_PEEK`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        checked_io::recv(self.handle(), buffer, RecvFlags::PEEK)
    }

    /// The address of the peer (`getpeername(2)`).
    ///
    /// # Errors
    /// `NotConnected` after the peer has reset the connection; errors of the registry.
    #[track_caller]
    pub fn peer_addr(&self) -> io::Result<Address> {
        match self.handle().call(|fd| rustix::net::getpeername(fd))? {
            Some(address) => Address::of(address),
            None => Ok(Address::Unnamed),
        }
    }

    /// Sets how long a read waits before it returns `WouldBlock`, signals or not; `None`: indefinitely
    /// (`SO_RCVTIMEO`).
    ///
    /// # Errors
    /// `InvalidInput` for a zero timeout; errors of the registry.
    #[track_caller]
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Recv, timeout)
    }

    /// Makes the close reset the connection (zero `SO_LINGER`), for a connection that ends with an error
    /// before everything is sent: the end that an ordinary close sends would mean that nothing is missing.
    /// Bytes that have not arrived are discarded. A Unix socket has no resets: there the peer notices only
    /// if some of its bytes were not read. Of two halves the second closes, and a write half that was
    /// released before has already sent the end.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_socket_linger(fd, Some(Duration::ZERO)))
    }

    /// Takes the socket's pending error, if there is one (`SO_ERROR`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle().call(|fd| sockopt::socket_error(fd))?.err().map(io::Error::from))
    }
}

/// The write side of a stream or of its write half.
impl<K: StreamWriter> Checked<K> {
    /// Writes as much as the socket accepts, without blocking (`send(2)` with `MSG_DONTWAIT`).
    ///
    /// # Errors
    /// `WouldBlock`: there is no room. Other errors of the system call and the registry.
    #[track_caller]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        checked_io::send(self.handle(), bytes, SendFlags::DONTWAIT)
    }

    /// [`try_write`](Self::try_write) of several buffers in one call (`sendmsg(2)` with
    /// `MSG_DONTWAIT`).
    ///
    /// # Errors
    /// See [`try_write`](Self::try_write).
    #[track_caller]
    pub fn try_write_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        checked_io::send_vectored_as(self.handle(), buffers, SendFlags::DONTWAIT)
    }

    /// Waits until a write is possible, or an error is pending, at most for `timeout` (`poll(2)`).
    /// Returns false on a timeout.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait(self.handle(), PollFlags::OUT, timeout)
    }

    /// The timeout of writes (`SO_SNDTIMEO`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.handle().call(|fd| socket_timeout(fd, Timeout::Send))
    }

    /// Sets how long a write waits before it returns `WouldBlock`, signals or not; `None`: indefinitely
    /// (`SO_SNDTIMEO`).
    ///
    /// # Errors
    /// `InvalidInput` for a zero timeout; errors of the registry.
    #[track_caller]
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Send, timeout)
    }
}

impl Stream {
    /// Waits until a read or a write is possible, at most for `timeout` (`poll(2)`). Returns whether the
    /// stream is readable and whether it is writable; a pending error counts as both. Neither on a
    /// timeout.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn wait_either(&self, timeout: Option<Duration>) -> io::Result<(bool, bool)> {
        let mut deadline = Deadline::after(timeout);
        let syscalls = Syscalls::of(self.handle());
        let events = self.handle().call(|fd| {
            let mut polled = [PollFd::new(&fd, PollFlags::IN | PollFlags::OUT)];
            syscalls.poll(&mut polled, deadline.left().as_ref()).map(|_| polled[0].revents())
        })?;
        let is = |wanted: PollFlags| events.intersects(wanted | PollFlags::ERR | PollFlags::HUP);
        Ok((is(PollFlags::IN), is(PollFlags::OUT)))
    }
}
