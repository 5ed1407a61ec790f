//! The plain echo of RFC 862: sends every byte back, in order, until the peer has finished.
//!
//! The failure story: a write fails after all input was read. An ordinary close would then send the end
//! of the stream, and the client would take half an echo for a complete one. So a connection that ends
//! with a system error is reset. A timeout without input is no such error: nothing is missing, and the
//! client gets an ordinary end.

mod buffer;

use std::io::{self, Write};
use std::time::Duration;

use super::{ChaosTarget, EndReason, Handler, Memory};
use crate::net::{AdaptiveSpin, Stream};
use buffer::AdaptiveBuffer;

/// Size of the one read of [`ChaosTarget::echo_first`].
const BUFFER_BYTES: usize = 16 * 1024;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// usually earlier.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection's buffer at its largest, and the smaller one that it replaces.
pub(super) const MEMORY: Memory = Memory { own: 80 * 1024, pooled: 0 };

/// Echoes what it receives until the peer closes its sending side, and then closes ours: a client that
/// sends a file and half-closes gets all of it back, and then the end of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Handler for Plain {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let mut buffer = AdaptiveBuffer::new()?;
        let mut spin = AdaptiveSpin::default();
        loop {
            let received = match receive(&stream, buffer.bytes(), &mut spin) {
                Err(error) if buffer.shrink_if_silent(&error, &stream)? => continue,
                result => result.map_err(|error| timed_out(error, EndReason::IdleTimeout))?,
            };
            if received == 0 {
                break;
            }
            send_back(&stream, &buffer.bytes()[..received])?;
            buffer.grow_if_filled(received, &stream)?;
        }
        stream.finish(FINAL_SEND_TIMEOUT)
    }
}

impl ChaosTarget for Plain {}

/// Allocates the buffer of one read.
///
/// # Errors
/// There is no memory for it.
pub(super) fn buffer() -> io::Result<Vec<u8>> {
    super::buffer(BUFFER_BYTES)
}

/// Echoes the input of one read and returns its length; zero at the end of the stream.
pub(super) fn echo_once(
    stream: &Stream,
    buffer: &mut [u8],
    spin: &mut AdaptiveSpin,
) -> io::Result<usize> {
    let received = receive(stream, buffer, spin)?;
    send_back(stream, &buffer[..received])?;
    Ok(received)
}

fn receive(stream: &Stream, buffer: &mut [u8], spin: &mut AdaptiveSpin) -> io::Result<usize> {
    stream.read_spinning(buffer, spin).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => error,
        _ => super::reset_by(stream, error),
    })
}

fn send_back(mut stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    let failed = |error| timed_out(super::reset_by(stream, error), EndReason::WriteTimeout);
    stream.write_all(bytes).map_err(failed)
}

/// The error that says which socket timeout passed.
pub(super) fn timed_out(error: io::Error, timeout: EndReason) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { timeout.into_error() } else { error }
}
