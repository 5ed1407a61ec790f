//! One read and its echo, for every handler that echoes bytes as they come.

use std::io::{self, Write};

use super::EndReason;
use crate::net::{AdaptiveSpin, Stream};
use crate::ownership::Error;

/// Size of the one read of [`ChaosTarget::echo_first`](super::ChaosTarget::echo_first).
const BUFFER_BYTES: usize = 16 * 1024;

/// Allocates the buffer of one read.
///
/// # Errors
/// There is no memory for it.
pub(super) fn read_buffer() -> io::Result<Vec<u8>> {
    buffer(BUFFER_BYTES)
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
        _ => reset_by(stream, error),
    })
}

/// Writes all of it. An error of the system resets the connection.
#[inline]
pub(super) fn send_back(mut stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    let failed = |error| timed_out(reset_by(stream, error), EndReason::WriteTimeout);
    stream.write_all(bytes).map_err(failed)
}

/// The error that says which socket timeout passed.
pub(super) fn timed_out(error: io::Error, timeout: EndReason) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { timeout.into_error() } else { error }
}

/// A zeroed buffer of this many bytes.
///
/// # Errors
/// The allocation failed. This ends a connection and not the process.
pub(super) fn buffer(bytes: usize) -> io::Result<Vec<u8>> {
    crate::sys::zeroed::zeroed(bytes).ok_or_else(|| no_memory(bytes))
}

fn no_memory(bytes: usize) -> io::Error {
    let text = format!("failed to allocate {bytes} bytes");
    io::Error::new(io::ErrorKind::OutOfMemory, text)
}

/// Makes the close reset the connection, because it ends with this error before everything is sent: an
/// ordinary end would mean that nothing is missing.
pub(crate) fn reset_by(stream: &Stream, error: io::Error) -> io::Error {
    // A registry error concerns the task and not the connection; a closed connection needs no reset.
    if Error::in_io(&error).is_none() {
        let _ = stream.reset_on_close();
    }
    error
}
