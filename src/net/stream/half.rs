//! The two halves of a split stream: one socket, two owners.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::Stream;
use crate::net::address::Address;
use crate::net::checked_io::{self, checked, reads, writes};
use crate::net::deadline;
use crate::ownership::{Half, Refused};

/// The read half of a [`Stream`]. Releasing it does nothing to the socket, unless it is the second of the
/// two halves: that one closes.
#[must_use = "a half is released when its handle is dropped"]
pub struct ReadHalf(Half<OwnedFd>);

/// The write half of a [`Stream`]. Releasing it ends the writing, so that the peer reads the end of the
/// stream; the second of the two halves closes.
#[must_use = "a half is released when its handle is dropped"]
pub struct WriteHalf(Half<OwnedFd>);

checked!(ReadHalf, 0, HalfCell);
checked!(WriteHalf, 0, HalfCell);
reads!(
    ReadHalf,
    |handle, buffer| checked_io::recv(handle, buffer, RecvFlags::empty()),
    checked_io::recv_vectored
);
writes!(
    WriteHalf,
    |handle, bytes| checked_io::send(handle, bytes, SendFlags::empty()),
    checked_io::send_vectored
);

impl ReadHalf {
    pub(super) fn new(half: Half<OwnedFd>) -> ReadHalf {
        ReadHalf(half)
    }

    /// Joins the two halves of a stream.
    ///
    /// # Errors
    /// `NotOwner` and related errors for either half; `MismatchedHalves`. Both halves are returned.
    #[track_caller]
    pub fn rejoin(self, writing: WriteHalf) -> Result<Stream, Refused<(ReadHalf, WriteHalf)>> {
        match self.0.rejoin(writing.0) {
            Ok(whole) => Ok(Stream::new(whole)),
            Err(refused) => Err(refused.map(|(read, write)| (ReadHalf(read), WriteHalf(write)))),
        }
    }

    /// See [`Stream::peek`].
    ///
    /// # Errors
    /// See [`Stream::peek`].
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        checked_io::recv(self.handle(), buffer, RecvFlags::PEEK)
    }

    /// See [`Stream::set_read_timeout`].
    ///
    /// # Errors
    /// See [`Stream::set_read_timeout`].
    #[track_caller]
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Recv, timeout)
    }

    /// See [`Stream::reset_on_close`]; the second of the two halves closes. A write half that was released
    /// before has already sent the end.
    ///
    /// # Errors
    /// See [`Stream::reset_on_close`].
    #[track_caller]
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_socket_linger(fd, Some(Duration::ZERO)))
    }

    /// See [`Stream::peer_addr`].
    ///
    /// # Errors
    /// See [`Stream::peer_addr`].
    #[track_caller]
    pub fn peer_addr(&self) -> io::Result<Address> {
        match self.handle().call(|fd| rustix::net::getpeername(fd))? {
            Some(address) => Address::of(address),
            None => Ok(Address::Unnamed),
        }
    }

    /// See [`Stream::take_error`].
    ///
    /// # Errors
    /// See [`Stream::take_error`].
    #[track_caller]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle().call(|fd| sockopt::socket_error(fd))?.err().map(io::Error::from))
    }
}

impl WriteHalf {
    pub(super) fn new(half: Half<OwnedFd>) -> WriteHalf {
        WriteHalf(half)
    }

    /// See [`Stream::set_write_timeout`].
    ///
    /// # Errors
    /// See [`Stream::set_write_timeout`].
    #[track_caller]
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Send, timeout)
    }

    /// Shuts down both directions of the connection (`shutdown(2)`), as the peer's reset would.
    ///
    /// For a writer that gives up on its peer: releasing the half ends only the writing, and the reading
    /// task would continue to wait for the peer. The read half keeps its owner: a read that waits there
    /// returns the end of the stream.
    ///
    /// # Errors
    /// `NotConnected` after the peer has reset the connection; errors of the registry.
    #[track_caller]
    pub fn shutdown_both(&self) -> io::Result<()> {
        self.handle().call(|fd| rustix::net::shutdown(fd, rustix::net::Shutdown::Both))
    }
}
