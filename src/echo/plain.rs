//! The plain echo of RFC 862: every byte comes back, in order, until the peer has finished.
//!
//! The failure story: a write fails when all that the peer sent has been read. An ordinary close would
//! then send the end, and whoever waits for the end would take half an echo for the whole. So what
//! ends by an error of the system's is reset. Silence is no error: whoever sent nothing is owed nothing,
//! and gets the end.

mod buffer;

use std::io::{self, Write};
use std::time::Duration;

use super::{ChaosTarget, EndReason, Handler, Memory};
use crate::net::{AdaptiveSpin, Stream};
use buffer::AdaptiveBuffer;

/// Bytes of the one read of [`ChaosTarget::echo_first`].
const BUFFER_BYTES: usize = 16 * 1024;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// mostly earlier.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection's buffer at its largest, and the smaller one that it takes the place of.
pub(super) const MEMORY: Memory = Memory { own: 80 * 1024, pooled: 0 };

/// Sends back what it receives until the peer has closed its sending side, and then closes ours:
/// whoever sends a file and half-closes gets all of it back, and then the end.
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
                Err(error) if buffer.was_silent(&error, &stream)? => continue,
                answer => answer.map_err(|error| timed_out(error, EndReason::IdleTimeout))?,
            };
            if received == 0 {
                break;
            }
            send_back(&stream, &buffer.bytes()[..received])?;
            buffer.was_filled(received, &stream)?;
        }
        stream.finish(FINAL_SEND_TIMEOUT)
    }
}

impl ChaosTarget for Plain {}

/// # Errors
/// There is no memory for it.
pub(super) fn buffer() -> io::Result<Vec<u8>> {
    super::buffer(BUFFER_BYTES)
}

/// Sends back what comes in one read. How much that was; zero at the end.
pub(super) fn answer(
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

/// The error that says which timeout of the socket it was.
pub(super) fn timed_out(error: io::Error, timeout: EndReason) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { timeout.into_error() } else { error }
}
