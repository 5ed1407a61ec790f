//! What waits for one client: a bounded queue between everybody who publishes and one writer.
//!
//! Putting a frame in never waits. What happens to a client for which too much waits is decided
//! here, in bytes, those of the wire and [`FRAME_OVERHEAD_BYTES`] for each frame: either it is over with it ([`PushResult::Full`]), or its oldest frames go. A frame that
//! is longer than the queue waits alone: it is taken when nothing else waits.
//!
//! What the writer has in hand ([`Batch`]) does not wait any more and is not counted: at the most
//! [`BATCH_BYTES`] or one frame.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::frame::Frame;

/// Frames that one system call sends at the most: beyond that a call costs little per frame.
const BATCH_FRAMES: usize = 64;

/// A batch is closed when it has so many bytes: about what a socket takes at once.
const BATCH_BYTES: usize = 256 * 1024;

/// What it costs to keep a waiting frame, beside its bytes on the wire, as an allocator for 64 bits
/// has it: its counted head (48), what its bytes are rounded up by (at most 24, but for long ones, whose
/// pages are small beside them), and its place in a queue that doubles (8 to 16). Without it, a limit
/// would let frames of nothing take twelve times its memory.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 96;

/// Bytes that a waiting frame is counted for.
fn weight(frame: &Frame) -> usize {
    frame.wire().len() + FRAME_OVERHEAD_BYTES
}

/// What is done with a client that reads more slowly than it is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowReader {
    /// It is disconnected: it misses everything from then on, and knows it.
    #[default]
    Disconnect,
    /// The frames that have waited longest are dropped: it stays, with gaps.
    DropOldest,
}

/// What waits for one client.
pub(super) struct SendQueue {
    /// Whose it is, for log lines.
    peer: Box<str>,
    max_bytes: usize,
    slow_reader: SlowReader,
    state: Mutex<QueueState>,
    /// Rung for the one writer.
    writer_wakeup: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Frame>,
    /// What all that wait weigh.
    bytes: usize,
    phase: QueuePhase,
    /// The writer waits for the writer_wakeup.
    is_parked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum QueuePhase {
    #[default]
    Open,
    /// Nothing comes in any more; what waits is still sent.
    Closed,
    /// The client has gone: nothing is sent any more, and what it had said is still heard.
    PeerGone,
    /// Nothing is sent any more, nor heard.
    Aborted,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushResult {
    /// It waits; so many others were dropped for it.
    Queued { dropped: u64 },
    /// It found none, and the client is to be disconnected.
    Full,
    /// The queue was closed before.
    Closed,
}

impl SendQueue {
    pub(super) fn new(peer: &str, max_bytes: usize, slow_reader: SlowReader) -> SendQueue {
        let (state, writer_wakeup) = (Mutex::default(), Condvar::new());
        SendQueue { peer: peer.into(), max_bytes, slow_reader, state, writer_wakeup }
    }

    /// Whose it is.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// Puts a frame in. True with it when the writer is to be [woken](SendQueue::wake): by the caller,
    /// once no lock is held. Then it may also free what was dropped, which comes to `dropped`.
    pub(super) fn push(&self, frame: &Frame, dropped: &mut Vec<Frame>) -> (PushResult, bool) {
        let mut state = self.state();
        if state.phase != QueuePhase::Open {
            return (PushResult::Closed, false);
        }
        let more = weight(frame);
        let before = dropped.len();
        while !state.waiting.is_empty() && state.bytes + more > self.max_bytes {
            match self.slow_reader {
                SlowReader::Disconnect => return (PushResult::Full, false),
                SlowReader::DropOldest => {
                    let oldest = state.waiting.pop_front();
                    state.bytes -= oldest.as_ref().map_or(0, weight);
                    dropped.extend(oldest);
                }
            }
        }
        if state.waiting.try_reserve(1).is_err() {
            // No memory for its place.
            return (PushResult::Full, false);
        }
        state.bytes += more;
        state.waiting.push_back(frame.clone());
        // Only the first who finds it parked has to wake it.
        (
            PushResult::Queued { dropped: (dropped.len() - before) as u64 },
            std::mem::take(&mut state.is_parked),
        )
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        self.writer_wakeup.notify_one();
    }

    /// Lets nothing more in. The writer sends what waits and then comes to its end.
    pub(super) fn close(&self) {
        let mut state = self.state();
        if state.phase == QueuePhase::Open {
            state.phase = QueuePhase::Closed;
        }
        drop(state);
        self.wake();
    }

    /// Lets nothing more in and throws away what waits. How many bytes it was counted for.
    pub(super) fn abort(&self) -> usize {
        self.end(QueuePhase::Aborted)
    }

    /// Whether it was [cut](SendQueue::cut): what the client says is not heard any more either.
    pub(super) fn is_aborted(&self) -> bool {
        self.state().phase == QueuePhase::Aborted
    }

    /// As [`cut`](SendQueue::cut), when it is the client that has gone: what it had said before is still
    /// to be heard.
    pub(super) fn mark_peer_gone(&self) {
        self.end(QueuePhase::PeerGone);
    }

    /// Whether the client has [gone](SendQueue::mark_peer_gone).
    pub(super) fn is_peer_gone(&self) -> bool {
        self.state().phase == QueuePhase::PeerGone
    }

    fn end(&self, phase: QueuePhase) -> usize {
        let mut state = self.state();
        if state.phase != QueuePhase::Aborted {
            state.phase = phase;
        }
        let waiting = std::mem::take(&mut state.waiting);
        let bytes = std::mem::take(&mut state.bytes);
        drop(state);
        self.wake();
        // Freeing many frames takes its time: not under the lock.
        drop(waiting);
        bytes
    }

    /// Waits for frames and takes them, for the writer. False at the end: closed and empty, or cut,
    /// or deserted.
    pub(super) fn take(&self, batch: &mut Batch) -> bool {
        let mut state = self.state();
        loop {
            if matches!(state.phase, QueuePhase::Aborted | QueuePhase::PeerGone) {
                return false;
            }
            if !state.waiting.is_empty() {
                break;
            }
            if state.phase == QueuePhase::Closed {
                return false;
            }
            state.is_parked = true;
            state = self.writer_wakeup.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_parked = false;
        while let Some(next) = state.waiting.pop_front_if(|next| batch.has_room_for(next)) {
            state.bytes -= weight(&next);
            batch.push(next);
        }
        true
    }

    /// No code of others runs under this lock, and nothing behind it can be left half done.
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "SendQueue({}, {} bytes, {:?})", self.peer, state.bytes, state.phase)
    }
}

/// What a writer has in hand.
#[derive(Debug, Default)]
pub(super) struct Batch {
    frames: VecDeque<Frame>,
    /// Bytes of all of them.
    bytes: usize,
    /// Bytes of the first frame that are sent already.
    sent: usize,
}

impl Batch {
    fn has_room_for(&self, frame: &Frame) -> bool {
        self.frames.is_empty()
            || self.frames.len() < BATCH_FRAMES && self.bytes + frame.wire().len() <= BATCH_BYTES
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.wire().len();
        self.frames.push_back(frame);
    }

    /// Whether all of it is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What is left to be sent, in one call.
    pub(super) fn pieces(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.sent;
        let rest = |frame| IoSlice::new(&Frame::wire(frame)[std::mem::take(&mut skip)..]);
        self.frames.iter().map(rest).collect()
    }

    /// Strikes off what was sent. How many frames are complete thereby.
    pub(super) fn advance(&mut self, bytes: usize) -> u64 {
        let mut complete = 0;
        self.sent += bytes;
        while let Some(first) = self.frames.front()
            && self.sent >= first.wire().len()
        {
            self.sent -= first.wire().len();
            self.bytes -= first.wire().len();
            self.frames.pop_front();
            complete += 1;
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Frame {
        Frame::of(&vec![7; bytes - crate::frame::HEADER_BYTES])
    }

    fn queue(slow_reader: SlowReader) -> SendQueue {
        SendQueue::new("peer", 100 + 2 * FRAME_OVERHEAD_BYTES, slow_reader)
    }

    fn push(queue: &SendQueue, bytes: usize) -> (PushResult, bool) {
        queue.push(&frame(bytes), &mut Vec::new())
    }

    fn lengths(batch: &Batch) -> Vec<usize> {
        batch.pieces().iter().map(|piece| piece.len()).collect()
    }

    const FOUND: PushResult = PushResult::Queued { dropped: 0 };

    #[test]
    fn a_frame_that_finds_no_room_says_so_and_the_others_wait_on() {
        let queue = queue(SlowReader::Disconnect);
        assert_eq!(push(&queue, 60).0, FOUND);
        assert_eq!(push(&queue, 40).0, FOUND, "to the last byte");
        assert_eq!(push(&queue, 8).0, PushResult::Full);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert_eq!(lengths(&batch), [60, 40]);
        assert_eq!(push(&queue, 100).0, FOUND, "what is in hand does not wait");
    }

    #[test]
    fn the_oldest_are_dropped_for_a_newer_one() {
        let queue = queue(SlowReader::DropOldest);
        for bytes in [30, 31] {
            assert_eq!(push(&queue, bytes).0, FOUND);
        }
        let mut dropped = Vec::new();
        let room = queue.push(&frame(32), &mut dropped).0;
        assert_eq!(room, PushResult::Queued { dropped: 1 }, "each is counted for its keeping");
        let room = queue.push(&frame(60), &mut dropped).0;
        assert_eq!(
            room,
            PushResult::Queued { dropped: 1 },
            "those that others have dropped do not count"
        );
        assert_eq!(dropped, [frame(30), frame(31)], "the caller frees them");
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert_eq!(lengths(&batch), [32, 60]);
    }

    #[test]
    fn a_frame_longer_than_the_outbox_waits_alone() {
        let disconnecting = queue(SlowReader::Disconnect);
        assert_eq!(push(&disconnecting, 1000).0, FOUND);
        assert_eq!(push(&disconnecting, 8).0, PushResult::Full);
        let dropping = queue(SlowReader::DropOldest);
        assert_eq!(push(&dropping, 10).0, FOUND);
        assert_eq!(push(&dropping, 1000).0, PushResult::Queued { dropped: 1 });
        assert_eq!(push(&dropping, 1001).0, PushResult::Queued { dropped: 1 });
    }

    #[test]
    fn a_closed_one_gives_out_what_waits_and_a_cut_one_does_not() {
        let closed = queue(SlowReader::Disconnect);
        push(&closed, 10);
        closed.close();
        assert_eq!(push(&closed, 10).0, PushResult::Closed);
        assert!(closed.take(&mut Batch::default()));
        assert!(!closed.take(&mut Batch::default()));
        let cut = queue(SlowReader::Disconnect);
        push(&cut, 10);
        assert_eq!(cut.abort(), 10 + FRAME_OVERHEAD_BYTES);
        assert!(!cut.take(&mut Batch::default()));
        cut.close();
        assert!(cut.is_aborted(), "closing does not mend it");
        cut.mark_peer_gone();
        assert!(cut.is_aborted(), "nor does the client's going");
    }

    #[test]
    fn a_deserted_one_takes_and_gives_nothing_and_is_not_cut() {
        let deserted = queue(SlowReader::Disconnect);
        push(&deserted, 10);
        deserted.mark_peer_gone();
        assert!(deserted.is_peer_gone() && !deserted.is_aborted());
        assert_eq!(push(&deserted, 1000).0, PushResult::Closed, "and is never full");
        assert!(!deserted.take(&mut Batch::default()));
        deserted.close();
        assert!(deserted.is_peer_gone(), "closing does not mend it");
        deserted.abort();
        assert!(deserted.is_aborted());
    }

    #[test]
    fn a_writer_that_sleeps_is_woken_by_the_first_and_by_nobody_else() {
        let queue = queue(SlowReader::Disconnect);
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| queue.take(&mut Batch::default()));
            while !queue.state().is_parked {
                std::thread::yield_now();
            }
            assert!(push(&queue, 10).1);
            assert!(!push(&queue, 10).1);
            queue.wake();
            assert!(writer.join().expect("it does not panic"));
        });
    }

    #[test]
    fn a_batch_has_a_limit_and_is_struck_off_byte_by_byte() {
        let queue = SendQueue::new("peer", usize::MAX, SlowReader::Disconnect);
        for _ in 0..BATCH_FRAMES + 1 {
            push(&queue, 10);
        }
        push(&queue, BATCH_BYTES);
        push(&queue, 2 * BATCH_BYTES);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert_eq!(batch.frames.len(), BATCH_FRAMES);
        assert_eq!(batch.advance(25), 2);
        assert_eq!(lengths(&batch)[..2], [5, 10]);
        assert_eq!(batch.advance(10 * BATCH_FRAMES - 25), BATCH_FRAMES as u64 - 2);
        assert!(batch.is_empty());
        for expected in [vec![10], vec![BATCH_BYTES], vec![2 * BATCH_BYTES]] {
            assert!(queue.take(&mut batch));
            assert_eq!(lengths(&batch), expected, "one more would be too many bytes");
            batch.advance(expected[0]);
        }
    }
}
