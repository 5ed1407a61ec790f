//! The plain echo of RFC 862: every byte comes back, in order, until the peer has finished.
//!
//! The failure story: a write fails when all that the peer sent has been read. An ordinary close would
//! then send the end, and whoever waits for the end would take half an echo for the whole. So what
//! ends by an error of the system's is reset. Silence is no error: whoever sent nothing is owed nothing,
//! and gets the end.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::Style;
use crate::net::Stream;

/// Bytes that are read at a time. On the heap: a buffer on the stack would be touched page by page
/// and stay with the thread.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// mostly earlier.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(30);

/// Sends back what it receives until the peer has closed its sending side, and then closes ours:
/// whoever sends a file and half-closes gets all of it back, and then the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Style for Plain {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let mut buffer = buffer();
        while answer(&stream, &mut buffer)? > 0 {}
        stream.finish(LAST_WORDS_PATIENCE)
    }
}

pub(super) fn buffer() -> Vec<u8> {
    vec![0; BUFFER_BYTES]
}

/// Sends back what comes in one read. How much that was; zero at the end.
pub(super) fn answer(mut stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let received = stream.read(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => error,
        _ => super::reset_by(stream, error),
    })?;
    let sent = stream.write_all(&buffer[..received]);
    sent.map_err(|error| super::reset_by(stream, error))?;
    Ok(received)
}
