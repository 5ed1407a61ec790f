//! A buffer that is small until there is much to read, and small again when nothing comes.
//!
//! Ten thousand silent connections with 64 KiB each are 640 MiB that hold nothing. Nobody tells a
//! thread that is blocked in a read to give its buffer back, so the read itself has to end: while the
//! buffer is large the socket has a read timeout, and when that has passed in silence the buffer is
//! given back and the read goes on without one. Small messages never see any of this, and a busy
//! connection pays a `getsockopt(2)` and two `setsockopt(2)` from one silence to the next. Where the
//! connection has an idle timeout of its own, that is what ends the silence, and the buffer stays.

use std::io;
use std::time::Duration;

use crate::net::Stream;

/// Bytes that are read at a time to begin with: half a page, so that a connection's first message
/// touches no page that its task's other memory is not on.
const SMALL_BYTES: usize = 2 * 1024;

/// What it becomes when a read has filled it: 16 KiB, then 64, which halve a mebibyte's processor time;
/// more gain nothing.
const GROWTH: [(usize, usize); 2] = [(SMALL_BYTES, 16 * 1024), (16 * 1024, 64 * 1024)];

/// How long a connection with a large buffer is silent before it gives it back. Longer than clients
/// take to think between two requests, shorter than an operator takes to look at the memory.
const SILENCE: Duration = Duration::from_secs(1);

/// What is read into. On the heap: a buffer on the stack would be touched page by page and stay with
/// the thread.
pub(super) struct AdaptiveBuffer {
    bytes: Vec<u8>,
    /// The socket's read timeout is ours.
    is_timed: bool,
}

impl AdaptiveBuffer {
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new() -> io::Result<AdaptiveBuffer> {
        Ok(AdaptiveBuffer { bytes: crate::echo::buffer(SMALL_BYTES)?, is_timed: false })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// So much was read and is done with: a full buffer was too small.
    pub(super) fn was_filled(&mut self, received: usize, stream: &Stream) -> io::Result<()> {
        if received < self.bytes.len() {
            return Ok(());
        }
        let Some((_, larger)) = GROWTH.into_iter().find(|(now, _)| *now == received) else {
            return Ok(());
        };
        // Where there is no memory for that, the one that is there has to do.
        let Ok(larger) = crate::echo::buffer(larger) else { return Ok(()) };
        self.bytes = larger;
        if !self.is_timed && stream.read_timeout()?.is_none() {
            stream.set_read_timeout(Some(SILENCE))?;
            self.is_timed = true;
        }
        Ok(())
    }

    /// A read has failed: whether that was the silence, so that it is to be made again.
    pub(super) fn was_silent(&mut self, error: &io::Error, stream: &Stream) -> io::Result<bool> {
        if !self.is_timed || error.kind() != io::ErrorKind::WouldBlock {
            return Ok(false);
        }
        self.bytes = crate::echo::buffer(SMALL_BYTES)?;
        stream.set_read_timeout(None)?;
        self.is_timed = false;
        Ok(true)
    }
}
