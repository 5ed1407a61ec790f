//! What one client says: frames out of its bytes, until it has said everything.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::hub::Hub;
use super::send_queue::SendQueue;
use crate::frame::{FrameDecoder, FrameError};
use crate::net::ReadHalf;
use crate::ownership::Registry;

/// Bytes that are read at a time. On the heap: a buffer on the stack would be touched page by page
/// and stay with the thread.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// How long a drained client that is in the middle of a frame may be silent, the time before the drain
/// included: half a frame that was sent long ago does not hold up the drain.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How often a drained client in the middle of a frame is looked at: after its reading was shut down
/// no event tells of what still comes.
const PAUSE: Duration = Duration::from_millis(1);

/// Why there is nothing more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The client has finished, between two frames.
    Finished,
    /// The client has finished in the middle of a frame.
    MidFrame,
    /// The server drains, and what had arrived was read.
    Drained,
    /// The client was given up; the writer knows why.
    GivenUp,
}

/// How a drain stands.
struct DrainProgress {
    /// Bytes that had arrived when it was noticed and are not published yet.
    left: u64,
}

/// Publishes every frame that comes until the client has finished, or until it is drained: then all
/// that had arrived, and the frame that was begun if it comes to its end.
///
/// That the client cannot be written to any more, as one that has sent much and closed without having
/// read the echo of it, is no reason to stop: the system keeps what has arrived, and only then tells
/// of the reset.
///
/// # Errors
/// What ended the reading before its time; a frame that cannot be taken, with [`FrameError`] inside.
pub(super) fn run(
    mut reading: &ReadHalf,
    hub: &Hub,
    queue: &SendQueue,
    registry: &Registry,
    mut decoder: FrameDecoder,
) -> io::Result<ReadEnd> {
    let mut buffer = crate::echo::buffer(BUFFER_BYTES)?;
    let mut drain: Option<DrainProgress> = None;
    // When the latest piece of a frame that is not complete came.
    let mut heard = Instant::now();
    loop {
        let received = reading.read(&mut buffer)?;
        if queue.is_aborted() {
            return Ok(ReadEnd::GivenUp);
        }
        if drain.is_none() && registry.is_draining() {
            let left = reading.unread()? + received as u64;
            drain = Some(DrainProgress { left });
        }
        let mut piece = &buffer[..received];
        match &mut drain {
            None if received == 0 => {
                return Ok(if decoder.has_begun() { ReadEnd::MidFrame } else { ReadEnd::Finished });
            }
            None => {
                while let Some(frame) = decoder.take(&mut piece).map_err(frame_error)? {
                    hub.publish(&frame);
                }
                if decoder.has_begun() {
                    heard = Instant::now();
                }
            }
            Some(_) if received == 0 => {
                let is_silent = queue.is_peer_gone() || heard.elapsed() >= SILENCE_MAX;
                if !decoder.has_begun() || is_silent {
                    return Ok(ReadEnd::Drained);
                }
                std::thread::sleep(PAUSE);
            }
            Some(drain) => {
                heard = Instant::now();
                while let Some(frame) = decoder.take(&mut piece).map_err(frame_error)? {
                    hub.publish(&frame);
                    // Whoever goes on talking is not waited for.
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
