//! Sending to a client, in bounded time, and closing so that it receives everything.
//!
//! The failure story: a browser tab in the background or a stopped `curl` does not read. A write to it
//! would wait indefinitely, with a thread, a descriptor and a place. So each [`CHUNK_BYTES`] have
//! [`SEND_TIME`]; a client that reads more slowly is cut off. And a close with unread input resets the
//! connection, and the client loses the end of a response: so the end of a response is followed by a
//! short wait for the client's end.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::net::Stream;

/// The bytes that must be sent within [`SEND_TIME`].
const CHUNK_BYTES: usize = 64 * 1024;

/// The time for a chunk.
const SEND_TIME: Duration = Duration::from_secs(5);

/// How long a close waits for the client's end, and how much input it discards.
const CLOSE_TIME: Duration = Duration::from_secs(1);
const CLOSE_BYTES_MAX: usize = 64 * 1024;

/// Sends everything.
///
/// # Errors
/// `TimedOut`: the client does not read. Other errors of the connection; the task was cancelled.
pub(super) fn send(stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let deadline = Instant::now() + SEND_TIME;
        let mut rest = chunk;
        while !rest.is_empty() {
            match stream.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || !stream.wait_writable(Some(left))? {
                        // Otherwise the kernel keeps what was not read.
                        stream.reset_on_close()?;
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Ends the connection after a complete response.
pub(super) fn finish(stream: Stream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + CLOSE_TIME;
    let mut input = [0; 4096];
    let mut discarded = 0;
    while discarded < CLOSE_BYTES_MAX {
        match stream.try_read(&mut input) {
            Ok(0) => break,
            Ok(bytes) => discarded += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if !stream.wait_readable(Some(left))? {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
