//! The plain echo of RFC 862: every byte comes back, in order, until the peer has finished.
//!
//! The failure story: a write fails when all that the peer sent has been read. An ordinary close would
//! then send the end, and whoever waits for the end would take half an echo for the whole. So what
//! ends by an error of the system's is reset. Silence is no error: whoever sent nothing is owed nothing,
//! and gets the end.

mod buffer;

use std::io::{self, Write};
use std::time::Duration;

use super::{EndReason, Memory, Style};
use crate::net::{Eagerness, Stream};
use buffer::Buffer;

/// Bytes of the one read of [`Style::answer_first`].
const BUFFER_BYTES: usize = 16 * 1024;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// mostly earlier.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(30);

/// A connection's buffer at its largest, and the smaller one that it takes the place of.
pub(super) const MEMORY: Memory = Memory { own: 80 * 1024, pooled: 0 };

/// Sends back what it receives until the peer has closed its sending side, and then closes ours:
/// whoever sends a file and half-closes gets all of it back, and then the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Style for Plain {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let mut buffer = Buffer::new()?;
        let mut eagerness = Eagerness::default();
        loop {
            let received = match receive(&stream, buffer.bytes(), &mut eagerness) {
                Err(error) if buffer.was_silent(&error, &stream)? => continue,
                answer => answer.map_err(|error| timed_out(error, EndReason::IdleTimeout))?,
            };
            if received == 0 {
                break;
            }
            send_back(&stream, &buffer.bytes()[..received])?;
            buffer.was_filled(received, &stream)?;
        }
        stream.conclude(LAST_WORDS_PATIENCE)
    }
}

/// # Errors
/// There is no memory for it.
pub(super) fn buffer() -> io::Result<Vec<u8>> {
    super::buffer(BUFFER_BYTES)
}

/// Sends back what comes in one read. How much that was; zero at the end.
pub(super) fn answer(
    stream: &Stream,
    buffer: &mut [u8],
    eagerness: &mut Eagerness,
) -> io::Result<usize> {
    let received = receive(stream, buffer, eagerness)?;
    send_back(stream, &buffer[..received])?;
    Ok(received)
}

fn receive(stream: &Stream, buffer: &mut [u8], eagerness: &mut Eagerness) -> io::Result<usize> {
    stream.read_eagerly(buffer, eagerness).map_err(|error| match error.kind() {
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
