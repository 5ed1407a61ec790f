//! One read and its echo, for every handler that echoes bytes as they come.

use std::io::{self, Write};

use super::EndReason;
use crate::net::{AdaptiveSpin, Stream};

/// Size of the one read of [`ChaosTarget::echo_first`](super::ChaosTarget::echo_first).
const BUFFER_BYTES: usize = 16 * 1024;

/// Allocates the buffer of one read.
///
/// # Errors
/// There is no memory for it.
pub(super) fn buffer() -> io::Result<Vec<u8>> {
    super::buffer(BUFFER_BYTES)
}

/// Echoes the input of one read and returns its length; zero at the end of the stream.
#[inline]
pub(super) fn echo_once(
    stream: &Stream,
    buffer: &mut [u8],
    spin: &mut AdaptiveSpin,
) -> io::Result<usize> {
    let received = receive(stream, buffer, spin)?;
    send_back(stream, &buffer[..received])?;
    Ok(received)
}

/// One read, with polls before it blocks. An error of the system resets the connection.
#[inline]
pub(super) fn receive(
    stream: &Stream,
    buffer: &mut [u8],
    spin: &mut AdaptiveSpin,
) -> io::Result<usize> {
    stream.read_spinning(buffer, spin).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => error,
        _ => super::reset_by(stream, error),
    })
}

/// Writes all of it. An error of the system resets the connection.
#[inline]
pub(super) fn send_back(mut stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    let failed = |error| timed_out(super::reset_by(stream, error), EndReason::WriteTimeout);
    stream.write_all(bytes).map_err(failed)
}

/// The error that says which socket timeout passed.
pub(super) fn timed_out(error: io::Error, timeout: EndReason) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { timeout.into_error() } else { error }
}
