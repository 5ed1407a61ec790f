//! The reader of one client: decodes its bytes into frames and publishes them.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::hub::Hub;
use super::send_queue::SendQueue;
use crate::frame::{FrameDecoder, FrameError};
use crate::net::ReadHalf;
use crate::ownership::Registry;

/// Size of one read. The buffer is on the heap: on the stack it would be touched page by page and stay
/// with the thread.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// How long a drained client in the middle of a frame may be silent, including the time before the drain:
/// half a frame that was sent long ago does not delay the drain.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How often a drained client in the middle of a frame is polled: after its read side was shut down, no
/// event announces further bytes.
const PAUSE: Duration = Duration::from_millis(1);

/// Why the reader has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The client finished between two frames.
    Finished,
    /// The client finished in the middle of a frame.
    MidFrame,
    /// The server drains, and all received input was read.
    Drained,
    /// The queue was aborted; the writer returns the reason.
    QueueAborted,
}

/// Progress of a drain.
struct DrainProgress {
    /// Bytes that had arrived when the drain was noticed and are not published yet.
    left: u64,
}

/// Publishes every frame until the client finishes, or until it is drained: then everything that had
/// arrived, and the incomplete frame if its rest arrives.
///
/// A failed write is no reason to stop: a client may send much and close without reading the echo. The
/// system keeps what has arrived and reports the reset only afterwards.
///
/// # Errors
/// What ended the reading early; or an invalid frame, with [`FrameError`] as the source.
pub(super) fn run(
    mut reading: &ReadHalf,
    hub: &Hub,
    queue: &SendQueue,
    registry: &Registry,
    mut decoder: FrameDecoder,
) -> io::Result<ReadEnd> {
    let mut buffer = crate::echo::exchange::buffer(BUFFER_BYTES)?;
    let mut drain: Option<DrainProgress> = None;
    // When the latest piece of an incomplete frame arrived.
    let mut last_input = Instant::now();
    loop {
        let received = reading.read(&mut buffer)?;
        if queue.is_aborted() {
            return Ok(ReadEnd::QueueAborted);
        }
        if drain.is_none() && registry.is_draining() {
            let left = reading.unread()? + received as u64;
            drain = Some(DrainProgress { left });
        }
        let mut piece = &buffer[..received];
        match &mut drain {
            None if received == 0 => {
                return Ok(if decoder.has_partial() {
                    ReadEnd::MidFrame
                } else {
                    ReadEnd::Finished
                });
            }
            None => {
                while let Some(frame) = decoder.take(&mut piece).map_err(frame_error)? {
                    hub.publish(&frame);
                }
                if decoder.has_partial() {
                    last_input = Instant::now();
                }
            }
            Some(_) if received == 0 => {
                let is_silent = queue.is_peer_gone() || last_input.elapsed() >= SILENCE_MAX;
                if !decoder.has_partial() || is_silent {
                    return Ok(ReadEnd::Drained);
                }
                std::thread::sleep(PAUSE);
            }
            Some(drain) => {
                last_input = Instant::now();
                while let Some(frame) = decoder.take(&mut piece).map_err(frame_error)? {
                    hub.publish(&frame);
                    // Do not wait for a client that keeps sending.
                    if drain.left <= (received - piece.len()) as u64 {
                        return Ok(ReadEnd::Drained);
                    }
                }
                drain.left = drain.left.saturating_sub(received as u64);
            }
        }
    }
}

pub(super) fn frame_error(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
