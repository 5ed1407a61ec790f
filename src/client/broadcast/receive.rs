//! The task that listens: frames out of the connection, lines to the output.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lines;
use crate::frame::{Frame, FrameDecoder};
use crate::net::{File, ReadHalf};

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Frames that were sent and have not come back; and how many were heard.
#[derive(Debug, Default)]
pub(super) struct PendingFrames {
    frames: Mutex<VecDeque<Frame>>,
    heard: AtomicU64,
}

impl PendingFrames {
    pub(super) fn push(&self, frame: Frame) {
        self.frames().push_back(frame);
    }

    /// How many frames were heard, whoever sent them.
    pub(super) fn heard(&self) -> u64 {
        // ord: Relaxed; a statistic, asked for when the listener has ended.
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.frames().len()
    }

    /// Strikes a frame off that has come back, and those before it: they come in order, and a server
    /// that dropped some has dropped the older ones. How many bytes are echoed off; `None` when it is
    /// somebody else's.
    fn take_echoed(&self, heard: &Frame) -> Option<EchoedFrames> {
        let mut frames = self.frames();
        let place = frames.iter().position(|expected| expected == heard)?;
        let lost = place as u64;
        let bytes = frames.drain(..=place).map(|frame| frame.wire().len()).sum();
        Some(EchoedFrames { bytes, lost })
    }

    fn frames(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is no longer expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EchoedFrames {
    /// Bytes of all of it.
    pub(super) bytes: usize,
    /// Frames that came before the one that has come back, and did not.
    pub(super) lost: u64,
}

/// How the listening ended.
#[derive(Debug)]
pub(super) enum ReceiveEnd {
    /// The server has finished.
    Finished,
    /// Nobody reads the output any more.
    Unread,
    /// The connection broke.
    Broken(io::Error),
    /// The output cannot be written.
    Unwritable(io::Error),
}

/// Shows frames until there are none. Each of our own that comes back is told to `back`.
pub(super) fn run(
    reading: ReadHalf,
    output: &File,
    expected: &PendingFrames,
    back: &Sender<EchoedFrames>,
    frame_max: usize,
    is_terminal: bool,
) -> ReceiveEnd {
    listen(reading, frame_max, |batch| {
        let mut lines = Vec::new();
        let mut echoed = Vec::new();
        for frame in batch {
            let own = expected.take_echoed(frame);
            echoed.extend(own);
            // On a terminal it stands there already, as it was typed.
            if !is_terminal || own.is_none() {
                lines.extend_from_slice(lines::visible(frame.payload()).as_bytes());
                lines.push(b'\n');
            }
        }
        let mut output = output;
        output.write_all(&lines)?;
        for echoed in echoed {
            // Whoever talks may be at its end.
            let _ = back.send(echoed);
        }
        // ord: Relaxed; as where it is asked for.
        expected.heard.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    })
}

/// Hands over the frames of each read together: one write shows them.
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
            Ok(0) if decoder.has_begun() => {
                return ReceiveEnd::Broken(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(0) => return ReceiveEnd::Finished,
            Ok(received) => &buffer[..received],
            Err(error) => return ReceiveEnd::Broken(error),
        };
        let wrong = loop {
            match decoder.take(&mut piece) {
                Ok(Some(frame)) => batch.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        // What came before a wrong length is right.
        match show(&batch) {
            Ok(()) => batch.clear(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ReceiveEnd::Unread,
            Err(error) => return ReceiveEnd::Unwritable(error),
        }
        if let Some(error) = wrong {
            return ReceiveEnd::Broken(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_struck_off_with_what_was_lost_before_it() {
        let expected = PendingFrames::default();
        let frame = |text: &str| Frame::of(text.as_bytes());
        for text in ["a", "bb", "ccc", "bb"] {
            expected.push(frame(text));
        }
        assert_eq!(expected.take_echoed(&frame("zzz")), None);
        assert_eq!(expected.take_echoed(&frame("a")), Some(EchoedFrames { bytes: 9, lost: 0 }));
        assert_eq!(expected.take_echoed(&frame("ccc")), Some(EchoedFrames { bytes: 21, lost: 1 }));
        assert_eq!(expected.len(), 1);
    }
}
