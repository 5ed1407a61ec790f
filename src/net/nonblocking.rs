//! Not waiting, and waiting until something can be done.
//!
//! `try_read` and `try_write` never wait, whatever the socket's mode is (`MSG_DONTWAIT`), and result
//! `WouldBlock` where they would have to. The waiting is a call of its own, with a deadline of its own
//! (`poll(2)`); it wakes when its task is cancelled.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::deadline::Deadline;
use super::half::{ReadHalf, WriteHalf};
use super::stream::Stream;
use super::syscalls::Syscalls;
use super::wire;
use crate::ownership::Held;
use crate::ownership::handle::Handle;

/// Waits for a condition of a socket; false when the time ran out.
#[track_caller]
pub(super) fn wait<C: Held>(
    handle: &Handle<C>,
    wanted: PollFlags,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let mut deadline = Deadline::after(timeout);
    let syscalls = Syscalls::of(handle);
    let ready = handle
        .call(|fd| syscalls.poll(&mut [PollFd::new(&fd, wanted)], deadline.left().as_ref()))?;
    Ok(ready > 0)
}

/// Gives a type the reading side.
macro_rules! tries_to_read {
    ($type:ty) => {
        impl $type {
            /// Reads what is there, without waiting (`recv(2)` with `MSG_DONTWAIT`). Zero: the peer
            /// has finished.
            ///
            /// # Errors
            /// `WouldBlock`: nothing is there. The system call's others, and the registry's.
            #[track_caller]
            pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                wire::recv(self.handle(), buffer, RecvFlags::DONTWAIT)
            }

            /// Looks at what is there, without taking it and without waiting (`recv(2)` with
            /// `MSG_PEEK` and `MSG_DONTWAIT`). Zero: the peer has finished.
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            #[track_caller]
            pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
                wire::recv(self.handle(), buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)
            }

            /// Waits until something can be read, the peer has finished, or an error is there to be
            /// told, at most for `timeout` (`poll(2)`). False when the time ran out.
            ///
            /// # Errors
            /// The system call's, and the registry's.
            #[track_caller]
            pub fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
                wait(self.handle(), PollFlags::IN, timeout)
            }

            /// How many bytes have arrived and were not read yet (`FIONREAD`).
            ///
            /// # Errors
            /// The system call's, and the registry's.
            #[track_caller]
            pub fn unread(&self) -> io::Result<u64> {
                self.handle().call(|fd| rustix::io::ioctl_fionread(fd))
            }

            /// How long a read waits (`SO_RCVTIMEO`).
            ///
            /// # Errors
            /// The system call's, and the registry's.
            #[track_caller]
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                self.handle().call(|fd| sockopt::socket_timeout(fd, Timeout::Recv))
            }
        }
    };
}

/// Gives a type the writing side.
macro_rules! tries_to_write {
    ($type:ty) => {
        impl $type {
            /// Writes what there is room for, without waiting (`send(2)` with `MSG_DONTWAIT`).
            ///
            /// # Errors
            /// `WouldBlock`: there is no room. The system call's others, and the registry's.
            #[track_caller]
            pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                wire::send(self.handle(), bytes, SendFlags::DONTWAIT)
            }

            /// [`try_write`](Self::try_write) of several buffers, one after the other, in one call
            /// (`sendmsg(2)` with `MSG_DONTWAIT`).
            ///
            /// # Errors
            /// As there.
            #[track_caller]
            pub fn try_write_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
                wire::send_vectored_as(self.handle(), buffers, SendFlags::DONTWAIT)
            }

            /// Waits until something can be written, or an error is there to be told, at most for
            /// `timeout` (`poll(2)`). False when the time ran out.
            ///
            /// # Errors
            /// The system call's, and the registry's.
            #[track_caller]
            pub fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
                wait(self.handle(), PollFlags::OUT, timeout)
            }

            /// How long a write waits (`SO_SNDTIMEO`).
            ///
            /// # Errors
            /// The system call's, and the registry's.
            #[track_caller]
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                self.handle().call(|fd| sockopt::socket_timeout(fd, Timeout::Send))
            }
        }
    };
}

impl Stream {
    /// Waits until something can be read or something can be written, at most for `timeout`
    /// (`poll(2)`). Answers whether something can be read, and whether something can be written; an
    /// error that is there to be told counts as both. Neither: the time ran out.
    ///
    /// # Errors
    /// The system call's, and the registry's.
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
