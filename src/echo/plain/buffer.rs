//! An adaptive read buffer: it grows with the input and shrinks when the connection is silent.
//!
//! Ten thousand silent connections with 64 KiB each are 640 MiB that contain nothing. A thread that is
//! blocked in a read cannot free its buffer, so the read itself has to end: while the buffer is large,
//! the socket has a read timeout, and when that passes without input the buffer is freed and the read is
//! repeated without a timeout. Small messages are not affected, and a busy connection pays one
//! `getsockopt(2)` and two `setsockopt(2)` per silence. Where the connection has an idle timeout of its
//! own, that one ends the silence, and the buffer stays.

use std::io;
use std::time::Duration;

use crate::net::Stream;

/// Initial size: half a page, so that a connection's first message touches no page that the task's other
/// memory does not use.
const SMALL_BYTES: usize = 2 * 1024;

/// Size before and after a read that filled the buffer: 16 KiB, then 64 KiB, which halve the processor
/// time per mebibyte; larger sizes gain nothing.
const GROWTH: [(usize, usize); 2] = [(SMALL_BYTES, 16 * 1024), (16 * 1024, 64 * 1024)];

/// How long a connection with a large buffer is silent before it frees the buffer. Longer than clients
/// pause between two requests, shorter than an operator takes to check the memory.
const SILENCE: Duration = Duration::from_secs(1);

/// The read buffer. On the heap: a buffer on the stack would be touched page by page and stay with the
/// thread.
pub(super) struct AdaptiveBuffer {
    bytes: Vec<u8>,
    /// Whether this buffer has set the socket's read timeout.
    is_timed: bool,
}

impl AdaptiveBuffer {
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new() -> io::Result<AdaptiveBuffer> {
        Ok(AdaptiveBuffer { bytes: crate::echo::exchange::buffer(SMALL_BYTES)?, is_timed: false })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Grows the buffer if a read filled it. The bytes of that read are no longer needed.
    pub(super) fn grow_if_filled(&mut self, received: usize, stream: &Stream) -> io::Result<()> {
        if received < self.bytes.len() {
            return Ok(());
        }
        let Some((_, larger)) = GROWTH.into_iter().find(|(now, _)| *now == received) else {
            return Ok(());
        };
        // Without memory for a larger one, continue with the current one.
        let Ok(larger) = crate::echo::exchange::buffer(larger) else { return Ok(()) };
        self.bytes = larger;
        if !self.is_timed && stream.read_timeout()?.is_none() {
            stream.set_read_timeout(Some(SILENCE))?;
            self.is_timed = true;
        }
        Ok(())
    }

    /// After a failed read: whether the buffer's own timeout has passed, so that the read is repeated.
    pub(super) fn shrink_if_silent(
        &mut self,
        error: &io::Error,
        stream: &Stream,
    ) -> io::Result<bool> {
        if !self.is_timed || error.kind() != io::ErrorKind::WouldBlock {
            return Ok(false);
        }
        self.bytes = crate::echo::exchange::buffer(SMALL_BYTES)?;
        stream.set_read_timeout(None)?;
        self.is_timed = false;
        Ok(true)
    }
}
