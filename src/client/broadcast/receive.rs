//! The receive task: decodes frames from the connection and prints them as lines.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lines;
use crate::frame::{Frame, FrameDecoder};
use crate::net::{File, ReadHalf};

/// Size of one read.
const BUFFER_BYTES: usize = 64 * 1024;

/// Frames that were sent and have not come back, and a counter of received frames.
#[derive(Debug, Default)]
pub(super) struct PendingFrames {
    frames: Mutex<VecDeque<Frame>>,
    received: AtomicU64,
}

impl PendingFrames {
    pub(super) fn push(&self, frame: Frame) {
        self.frames().push_back(frame);
    }

    /// Frames received, including those of other clients.
    pub(super) fn received(&self) -> u64 {
        // ord: Relaxed; a statistic, read when the listener has ended.
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.frames().len()
    }

    /// Removes a frame that has come back, and those before it: frames come in order, and a server
    /// that dropped some has dropped the older ones. Returns the removed frames; `None` for a frame
    /// of another client.
    fn take_echoed(&self, received: &Frame) -> Option<EchoedFrames> {
        let mut frames = self.frames();
        let place = frames.iter().position(|pending| pending == received)?;
        let lost = place as u64;
        let bytes = frames.drain(..=place).map(|frame| frame.wire().len()).sum();
        Some(EchoedFrames { bytes, lost })
    }

    fn frames(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Own frames that are no longer pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EchoedFrames {
    /// Total bytes.
    pub(super) bytes: usize,
    /// Frames before the one that has come back, which were dropped.
    pub(super) lost: u64,
}

/// How the receiving ended.
#[derive(Debug)]
pub(super) enum ReceiveEnd {
    /// The server has closed the connection.
    Finished,
    /// The reader of the output has closed it.
    OutputClosed,
    /// The connection failed.
    Failed(io::Error),
    /// The output cannot be written.
    OutputFailed(io::Error),
}

/// Prints frames until there are none. Own frames that come back are reported to `echoes`.
pub(super) fn run(
    reading: ReadHalf,
    output: &File,
    pending: &PendingFrames,
    echoes: &Sender<EchoedFrames>,
    frame_max: usize,
    is_terminal: bool,
) -> ReceiveEnd {
    listen(reading, frame_max, |batch| {
        let mut lines = Vec::new();
        let mut echoed = Vec::new();
        for frame in batch {
            let own = pending.take_echoed(frame);
            echoed.extend(own);
            // On a terminal the line is already visible, as it was typed.
            if !is_terminal || own.is_none() {
                lines.extend_from_slice(lines::escape_payload(frame.payload()).as_bytes());
                lines.push(b'\n');
            }
        }
        let mut output = output;
        output.write_all(&lines)?;
        for echoed in echoed {
            // The sending task may have ended.
            let _ = echoes.send(echoed);
        }
        // ord: Relaxed; see `received`.
        pending.received.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    })
}

/// Passes the frames of each read together: one write prints them.
fn listen(
    mut reading: ReadHalf,
    frame_max: usize,
    mut show: impl FnMut(&[Frame]) -> io::Result<()>,
) -> ReceiveEnd {
    let mut decoder = FrameDecoder::new(frame_max);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut batch = Vec::new();
    loop {
        let mut piece = match reading.read(&mut buffer) {
            Ok(0) if decoder.has_partial() => {
                return ReceiveEnd::Failed(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(0) => return ReceiveEnd::Finished,
            Ok(received) => &buffer[..received],
            Err(error) => return ReceiveEnd::Failed(error),
        };
        let wrong = loop {
            match decoder.take(&mut piece) {
                Ok(Some(frame)) => batch.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        // The frames before an invalid length are valid.
        match show(&batch) {
            Ok(()) => batch.clear(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ReceiveEnd::OutputClosed;
            }
            Err(error) => return ReceiveEnd::OutputFailed(error),
        }
        if let Some(error) = wrong {
            return ReceiveEnd::Failed(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_frame_is_removed_with_the_lost_ones_before_it() {
        let pending = PendingFrames::default();
        let frame = |text: &str| Frame::new(text.as_bytes());
        for text in ["a", "bb", "ccc", "bb"] {
            pending.push(frame(text));
        }
        assert_eq!(pending.take_echoed(&frame("zzz")), None);
        assert_eq!(pending.take_echoed(&frame("a")), Some(EchoedFrames { bytes: 9, lost: 0 }));
        assert_eq!(pending.take_echoed(&frame("ccc")), Some(EchoedFrames { bytes: 21, lost: 1 }));
        assert_eq!(pending.len(), 1);
    }
}
