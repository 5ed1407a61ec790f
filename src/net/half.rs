//! The two halves of a split stream: one socket, two owners.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::address::Address;
use super::deadline;
use super::stream::Stream;
use super::wire::{self, checked, reads, writes};
use crate::ownership::{Half, Refused};

/// The reading half of a [`Stream`]. Releasing it does nothing to the socket, unless it is the
/// later of the two: that one closes.
#[must_use = "a half is released when its handle is dropped"]
pub struct ReadHalf(Half<OwnedFd>);

/// The writing half of a [`Stream`]. Releasing it ends the writing, so that the peer reads the end
/// of the stream; the later of the two halves closes.
#[must_use = "a half is released when its handle is dropped"]
pub struct WriteHalf(Half<OwnedFd>);

checked!(ReadHalf, 0, HalfCell);
checked!(WriteHalf, 0, HalfCell);
reads!(
    ReadHalf,
    |handle, buffer| wire::recv(handle, buffer, RecvFlags::empty()),
    wire::recv_vectored
);
writes!(
    WriteHalf,
    |handle, bytes| wire::send(handle, bytes, SendFlags::empty()),
    wire::send_vectored
);

impl ReadHalf {
    pub(super) fn new(half: Half<OwnedFd>) -> ReadHalf {
        ReadHalf(half)
    }

    /// Makes the two halves of a stream the whole again.
    ///
    /// # Errors
    /// `NotOwner` and its kin for either half; `MismatchedHalves`. Both come back.
    #[track_caller]
    pub fn rejoin(self, writing: WriteHalf) -> Result<Stream, Refused<(ReadHalf, WriteHalf)>> {
        match self.0.rejoin(writing.0) {
            Ok(whole) => Ok(Stream::new(whole)),
            Err(refused) => Err(refused.map(|(read, write)| (ReadHalf(read), WriteHalf(write)))),
        }
    }

    /// As [`Stream::peek`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        wire::recv(self.handle(), buffer, RecvFlags::PEEK)
    }

    /// As [`Stream::set_read_timeout`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Recv, timeout)
    }

    /// As [`Stream::reset_on_close`]; the later of the two halves closes. A writing half that is released
    /// before has sent the end already.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.handle().call(|fd| sockopt::set_socket_linger(fd, Some(Duration::ZERO)))
    }

    /// As [`Stream::peer_addr`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn peer_addr(&self) -> io::Result<Address> {
        match self.handle().call(|fd| rustix::net::getpeername(fd))? {
            Some(address) => Address::of(address),
            None => Ok(Address::Unnamed),
        }
    }

    /// As [`Stream::take_error`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle().call(|fd| sockopt::socket_error(fd))?.err().map(io::Error::from))
    }
}

impl WriteHalf {
    pub(super) fn new(half: Half<OwnedFd>) -> WriteHalf {
        WriteHalf(half)
    }

    /// As [`Stream::set_write_timeout`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Send, timeout)
    }

    /// Hangs up: ends both directions of the connection (`shutdown(2)`), as the peer's reset would.
    ///
    /// For a writer that gives up on its peer. Releasing the half ends the writing only, and whoever
    /// reads would go on waiting for a peer that is not worth it. The reading half stays its owner's:
    /// a read that waits there answers the end of the stream.
    ///
    /// # Errors
    /// `NotConnected`, once the peer has reset the connection; the registry's.
    #[track_caller]
    pub fn shutdown_both(&self) -> io::Result<()> {
        self.handle().call(|fd| rustix::net::shutdown(fd, rustix::net::Shutdown::Both))
    }
}
