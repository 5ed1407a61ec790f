//! Non-blocking I/O, and waiting for readiness.
//!
//! `try_read` and `try_write` never block, in any mode of the socket (`MSG_DONTWAIT`), and return
//! `WouldBlock` where they would have to. Waiting is a separate call with its own timeout (`poll(2)`),
//! which wakes when its task is cancelled.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::checked_io;
use super::deadline::Deadline;
use super::stream::{ReadHalf, Stream, WriteHalf};
use super::syscalls::Syscalls;
use super::wait::wait;

/// Implements the read side for a type.
macro_rules! tries_to_read {
    ($type:ty) => {
        impl $type {
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
                self.handle().call(|fd| sockopt::socket_timeout(fd, Timeout::Recv))
            }
        }
    };
}

/// Implements the write side for a type.
macro_rules! tries_to_write {
    ($type:ty) => {
        impl $type {
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
                self.handle().call(|fd| sockopt::socket_timeout(fd, Timeout::Send))
            }
        }
    };
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

tries_to_read!(Stream);
tries_to_read!(ReadHalf);
tries_to_write!(Stream);
tries_to_write!(WriteHalf);
