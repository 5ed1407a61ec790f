//! The plain echo of RFC 862: every byte comes back, in order, until the peer has finished.

use std::io::{self, Read, Write};

use crate::net::Stream;

/// Bytes that are read at a time. On the heap: a buffer on the stack would be touched page by page
/// and stay with the thread.
const BUFFER_BYTES: usize = 16 * 1024;

/// Sends back what it receives until the peer has closed its sending side, and then closes ours:
/// whoever sends a file and half-closes gets all of it back, and then the end.
///
/// # Errors
/// The peer's reset, a timeout, or the registry's refusal: the current task is not the owner, or was
/// cancelled.
pub fn echo(stream: &Stream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = (&*stream).read(&mut buffer)?;
        if received == 0 {
            return stream.shutdown(std::net::Shutdown::Write);
        }
        (&*stream).write_all(&buffer[..received])?;
    }
}
