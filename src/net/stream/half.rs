//! The two halves of a split stream: one socket, two owners.

use std::io;

use super::Stream;
use crate::net::checked::{Checked, marker};
use crate::ownership::Refused;

/// The read half of a [`Stream`]. Releasing it does nothing to the socket, unless it is the second of the
/// two halves: that one closes.
pub type ReadHalf = Checked<marker::ReadHalf>;

/// The write half of a [`Stream`]. Releasing it ends the writing, so that the peer reads the end of the
/// stream; the second of the two halves closes.
pub type WriteHalf = Checked<marker::WriteHalf>;

impl ReadHalf {
    /// Joins the two halves of a stream.
    ///
    /// # Errors
    /// `NotOwner` and related errors for either half; `MismatchedHalves`. Both halves are returned.
    #[track_caller]
    pub fn rejoin(self, writing: WriteHalf) -> Result<Stream, Refused<(ReadHalf, WriteHalf)>> {
        match self.0.rejoin(writing.0) {
            Ok(whole) => Ok(Checked(whole)),
            Err(refused) => Err(refused.map(|(read, write)| (Checked(read), Checked(write)))),
        }
    }
}

impl WriteHalf {
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
