//! The send queue of one client: a bounded queue between all publishers and one writer.
//!
//! A push never blocks. The limit counts bytes on the wire and [`FRAME_OVERHEAD_BYTES`] for each
//! frame. At the limit, either the client is to be disconnected ([`PushResult::Full`]), or its
//! oldest frames are dropped. A frame that is longer than the limit is accepted when the queue is
//! empty.
//!
//! The writer's current [`Batch`] is not in the queue and is not counted: at most [`BATCH_BYTES`] or one
//! frame.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::frame::Frame;

/// The maximum number of frames per system call: beyond that a call costs little per frame.
const BATCH_FRAMES: usize = 64;

/// A batch is complete at this many bytes: about the free space of a socket buffer.
const BATCH_BYTES: usize = 256 * 1024;

/// Memory of a queued frame in addition to its bytes on the wire, with a 64-bit allocator: its
/// reference-counted header (48), rounding of its bytes (at most 24, except for long frames, where a page
/// is a small part), and its entry in a queue that doubles (8 to 16). Without it, empty frames could take
/// twelve times the limit.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 96;

/// Bytes that a queued frame counts as.
fn weight(frame: &Frame) -> usize {
    frame.wire().len() + FRAME_OVERHEAD_BYTES
}

/// The policy for a client that reads more slowly than the others write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum SlowReader {
    /// Disconnect it: it receives nothing more, and notices that.
    #[default]
    Disconnect,
    /// Drop the oldest queued frames: it stays connected, with gaps.
    DropOldest,
}

/// The bounded queue of frames for one client.
pub(super) struct SendQueue {
    /// The client, for log lines.
    peer: Box<str>,
    max_bytes: usize,
    slow_reader: SlowReader,
    state: Mutex<QueueState>,
    /// Notified for the one writer.
    writer_wakeup: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Frame>,
    /// Total weight of the queued frames.
    bytes: usize,
    phase: QueuePhase,
    /// Whether the writer waits for `writer_wakeup`.
    is_parked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum QueuePhase {
    #[default]
    Open,
    /// Accepts no more frames; queued frames are still sent.
    Closed,
    /// The client has gone: nothing more is sent, but its input is still published.
    PeerGone,
    /// Nothing more is sent, and no input published.
    Aborted,
}

/// The result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushResult {
    /// The frame is queued; this many others were dropped for it.
    Queued { dropped: u64 },
    /// The queue is full, and the client is to be disconnected.
    Full,
    /// The queue was closed before.
    Closed,
}

impl SendQueue {
    pub(super) fn new(peer: &str, max_bytes: usize, slow_reader: SlowReader) -> SendQueue {
        let (state, writer_wakeup) = (Mutex::default(), Condvar::new());
        SendQueue { peer: peer.into(), max_bytes, slow_reader, state, writer_wakeup }
    }

    /// The client, for log lines.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// Pushes a frame. Returns true with the result if the caller must [wake](SendQueue::wake) the writer,
    /// once it holds no lock. Dropped frames are moved to `dropped`, for the caller to free then.
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
            // No memory for its entry.
            return (PushResult::Full, false);
        }
        state.bytes += more;
        state.waiting.push_back(frame.clone());
        // Only the first push that finds the writer parked has to wake it.
        (
            PushResult::Queued { dropped: (dropped.len() - before) as u64 },
            std::mem::take(&mut state.is_parked),
        )
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        self.writer_wakeup.notify_one();
    }

    /// Accepts no more frames. The writer sends the queued ones and then ends.
    pub(super) fn close(&self) {
        let mut state = self.state();
        if state.phase == QueuePhase::Open {
            state.phase = QueuePhase::Closed;
        }
        drop(state);
        self.wake();
    }

    /// Accepts no more frames and discards the queue. Returns how many bytes it counted.
    pub(super) fn abort(&self) -> usize {
        self.end(QueuePhase::Aborted)
    }

    /// Whether it was [aborted](SendQueue::abort): the client's input is not published any more either.
    pub(super) fn is_aborted(&self) -> bool {
        self.state().phase == QueuePhase::Aborted
    }

    /// Like [`abort`](SendQueue::abort), but because the client has gone: its input that has arrived is
    /// still published.
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
        // Freeing many frames takes time: not under the lock.
        drop(waiting);
        bytes
    }

    /// Waits for frames and moves them into the writer's batch. Returns false at the end: closed and
    /// empty, aborted, or the client has gone.
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

    // No foreign code runs under this lock, so the state is consistent even after a panic.
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

/// The frames that the writer is sending.
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

    /// The unsent bytes, for one system call.
    pub(super) fn pieces(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.sent;
        let rest = |frame| IoSlice::new(&Frame::wire(frame)[std::mem::take(&mut skip)..]);
        self.frames.iter().map(rest).collect()
    }

    /// Removes `sent` bytes from the front. Returns how many frames that completes.
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
        Frame::new(&vec![7; bytes - crate::frame::HEADER_BYTES])
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
    fn a_full_queue_refuses_a_frame_and_keeps_the_others() {
        let queue = queue(SlowReader::Disconnect);
        assert_eq!(push(&queue, 60).0, FOUND);
        assert_eq!(push(&queue, 40).0, FOUND, "to the last byte");
        assert_eq!(push(&queue, 8).0, PushResult::Full);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert_eq!(lengths(&batch), [60, 40]);
        assert_eq!(push(&queue, 100).0, FOUND, "a batch in progress does not count");
    }

    #[test]
    fn the_oldest_frames_are_dropped_for_a_newer_one() {
        let queue = queue(SlowReader::DropOldest);
        for bytes in [30, 31] {
            assert_eq!(push(&queue, bytes).0, FOUND);
        }
        let mut dropped = Vec::new();
        let result = queue.push(&frame(32), &mut dropped).0;
        assert_eq!(result, PushResult::Queued { dropped: 1 }, "the overhead of each frame counts");
        let result = queue.push(&frame(60), &mut dropped).0;
        assert_eq!(
            result,
            PushResult::Queued { dropped: 1 },
            "frames that others have dropped do not count"
        );
        assert_eq!(dropped, [frame(30), frame(31)], "the caller frees them");
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert_eq!(lengths(&batch), [32, 60]);
    }

    #[test]
    fn a_frame_longer_than_the_limit_is_queued_alone() {
        let disconnecting = queue(SlowReader::Disconnect);
        assert_eq!(push(&disconnecting, 1000).0, FOUND);
        assert_eq!(push(&disconnecting, 8).0, PushResult::Full);
        let dropping = queue(SlowReader::DropOldest);
        assert_eq!(push(&dropping, 10).0, FOUND);
        assert_eq!(push(&dropping, 1000).0, PushResult::Queued { dropped: 1 });
        assert_eq!(push(&dropping, 1001).0, PushResult::Queued { dropped: 1 });
    }

    #[test]
    fn a_closed_queue_is_still_sent_and_an_aborted_one_is_not() {
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
        assert!(cut.is_aborted(), "closing does not change that");
        cut.mark_peer_gone();
        assert!(cut.is_aborted(), "nor does a lost peer");
    }

    #[test]
    fn a_queue_without_its_peer_sends_nothing_and_is_not_aborted() {
        let without_peer = queue(SlowReader::Disconnect);
        push(&without_peer, 10);
        without_peer.mark_peer_gone();
        assert!(without_peer.is_peer_gone() && !without_peer.is_aborted());
        assert_eq!(push(&without_peer, 1000).0, PushResult::Closed, "and is never full");
        assert!(!without_peer.take(&mut Batch::default()));
        without_peer.close();
        assert!(without_peer.is_peer_gone(), "closing does not change that");
        without_peer.abort();
        assert!(without_peer.is_aborted());
    }

    #[test]
    fn only_the_first_push_wakes_a_parked_writer() {
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
    fn a_batch_has_a_limit_and_advances_byte_by_byte() {
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
