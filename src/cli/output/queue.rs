//! The queue of one output: bounded in bytes, and non-blocking for senders.
//!
//! Any thread pushes an item and continues. One writer takes the items out. A blocked output (a
//! pipe that is not read, a terminal stopped with ^S) stalls its writer and no other thread: if the
//! queue is full, further items are dropped and counted. The count is queued at the position of the
//! dropped items, so that the reader of the output sees the gap.
//!
//! # Limits
//!
//! The size of some items is an estimate. An item that is larger than the whole bound is still
//! accepted if the queue is empty.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ownership::Report;

/// The maximum number of queued bytes: many times the amount that accumulates while a busy machine
/// delays a writer, and half of the memory that the server reserves. The memory is allocated only
/// if an output is slow.
const QUEUED_MAX: usize = 4 * 1024 * 1024;

/// The queue's overhead per item in bytes.
const ITEM_BYTES: usize = 64;

/// Estimated sizes in bytes of a report, and of each resource in it.
const REPORT_BYTES: usize = 512;
const RESOURCE_BYTES: usize = 1024;

/// How long an exiting process waits for a stalled output.
pub(in crate::cli) const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an exiting process waits for a slow output.
const SLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a thread waits for a writer that does not get scheduled: a thread that ends the
/// process, and one that continues after a panic.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const PANIC_TIMEOUT: Duration = Duration::from_millis(200);

/// The reason for a flush, which decides how long it waits for a stalled output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Flush {
    /// A panic, which may become an abort. Does not wait for a stalled output, and shortly for a
    /// slow one.
    Panic,
    /// The exit of the process. Does not wait for a stalled output.
    Exit,
    /// An abort by a policy. Waits for a stalled output, but only once until the output accepts
    /// data again.
    Abort,
}

/// An item: output, or a command for the writer.
pub(in crate::cli) enum Item {
    Line(Vec<u8>),
    Report(Box<Report>),
    Reopen,
    /// This number of items was dropped here.
    Dropped(u64),
}

impl Item {
    fn weight(&self) -> usize {
        let bytes = match self {
            Item::Line(line) => line.len(),
            Item::Report(report) => match &**report {
                Report::Leak(leak) => REPORT_BYTES + leak.resources.len() * RESOURCE_BYTES,
                _ => REPORT_BYTES + RESOURCE_BYTES,
            },
            Item::Reopen | Item::Dropped(_) => 0,
        };
        bytes + ITEM_BYTES
    }
}

/// The queue of one output.
#[derive(Default)]
pub(in crate::cli) struct Queue {
    state: Mutex<OutputQueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct OutputQueueState {
    items: VecDeque<Item>,
    /// The size of the queued items, including those that the writer has taken and not yet written.
    bytes: usize,
    taken_bytes: usize,
    /// An item was dropped, and more than half of the space is still in use.
    is_full: bool,
    /// The number of accepted items, and of those that the writer has finished.
    accepted: u64,
    done: u64,
    dropped: u64,
    /// When the output last accepted data.
    moved: Option<Instant>,
    /// The writer waits for the output.
    is_stalled: bool,
    /// A flush has timed out, and the output has not accepted data since.
    is_given_up: bool,
    /// When the exit of the process began.
    closing: Option<Instant>,
    /// The writer has ended or was given up, and no other one starts.
    is_abandoned: bool,
}

impl Queue {
    /// Queues an item, or drops and counts it.
    pub(in crate::cli) fn push(&self, item: Item) {
        let mut state = self.state();
        let weight = item.weight();
        // Prefer one long gap to several short ones.
        state.is_full |= state.bytes > 0 && state.bytes + weight > QUEUED_MAX;
        match item {
            // Queued only once.
            Item::Reopen if state.items.iter().any(|item| matches!(item, Item::Reopen)) => return,
            Item::Reopen => {}
            _ if state.is_full || state.is_abandoned => return state.drop_one(),
            _ => {}
        }
        state.bytes += weight;
        state.accepted += 1;
        state.items.push_back(item);
        self.changed.notify_all();
    }

    /// Takes the next items, about `bytes` bytes of them. Blocks while the queue is empty; returns
    /// `None` when it is closed and empty.
    pub(in crate::cli) fn take(&self, bytes: usize) -> Option<Vec<Item>> {
        let mut state = self.state();
        while state.items.is_empty() {
            if state.closing.is_some() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        let mut weight = 0;
        while weight < bytes
            && let Some(item) = state.items.pop_front()
        {
            weight += item.weight();
            taken.push(item);
        }
        state.taken_bytes = weight;
        Some(taken)
    }

    /// Marks the last taken items as finished.
    pub(in crate::cli) fn done(&self, items: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(state.taken_bytes);
        state.taken_bytes = 0;
        state.is_full &= state.bytes > QUEUED_MAX / 2;
        state.done += items as u64;
        self.changed.notify_all();
    }

    /// Records that the output has accepted data.
    pub(in crate::cli) fn moved(&self) {
        let mut state = self.state();
        state.moved = Some(Instant::now());
        state.is_stalled = false;
        state.is_given_up = false;
    }

    /// Records that the output accepts no data.
    pub(in crate::cli) fn stalled(&self) {
        self.state().is_stalled = true;
        self.changed.notify_all();
    }

    /// Waits until all earlier items are written, at most for the timeout of `before`.
    pub(in crate::cli) fn flush(&self, before: Flush) {
        let begun = Instant::now();
        let most = match before {
            Flush::Panic => PANIC_TIMEOUT,
            Flush::Exit => BUSY_TIMEOUT,
            Flush::Abort => STALL_TIMEOUT,
        };
        let mut state = self.state();
        let wanted = state.accepted;
        while state.done < wanted && !state.is_given_up && !state.is_abandoned {
            let left = (begun + most).saturating_duration_since(Instant::now());
            if before != Flush::Abort && state.is_stalled {
                return;
            }
            if left.is_zero() {
                state.is_given_up = true;
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Closes the queue: the writer ends once it is empty. `since` is when the exit began.
    pub(in crate::cli) fn close(&self, since: Instant) {
        self.state().closing.get_or_insert(since);
        self.changed.notify_all();
    }

    /// Whether the output has timed out, so that the writer gives it up.
    pub(in crate::cli) fn is_overdue(&self) -> bool {
        let state = self.state();
        let Some(closing) = state.closing else { return false };
        let moved = state.moved.map_or(closing, |moved| moved.max(closing));
        Instant::now() >= (moved + STALL_TIMEOUT).min(closing + SLOW_TIMEOUT)
    }

    /// Counts items that were taken but could not be written.
    pub(in crate::cli) fn lost(&self, items: u64) {
        self.state().dropped += items;
    }

    /// Drops and counts all items, and `taken` items that the writer had taken: there is no writer
    /// any more.
    pub(in crate::cli) fn abandon(&self, taken: u64) {
        let mut state = self.state();
        state.is_abandoned = true;
        state.dropped += taken;
        let lost: u64 = state
            .items
            .drain(..)
            .map(|item| u64::from(matches!(item, Item::Line(_) | Item::Report(_))))
            .sum();
        state.dropped += lost;
        self.changed.notify_all();
    }

    pub(in crate::cli) fn is_abandoned(&self) -> bool {
        self.state().is_abandoned
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.state().items.is_empty()
    }

    /// The total number of dropped items.
    pub(in crate::cli) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, OutputQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputQueueState {
    fn drop_one(&mut self) {
        self.dropped += 1;
        if self.is_abandoned {
            return;
        }
        if let Some(Item::Dropped(items)) = self.items.back_mut() {
            *items += 1;
            return;
        }
        self.bytes += ITEM_BYTES;
        self.accepted += 1;
        self.items.push_back(Item::Dropped(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: usize) -> Item {
        Item::Line(vec![b'x'; bytes])
    }

    fn words(items: &[Item]) -> Vec<String> {
        let word = |item: &Item| match item {
            Item::Line(line) => format!("line {}", line.len()),
            Item::Report(_) => "report".into(),
            Item::Reopen => "reopen".into(),
            Item::Dropped(items) => format!("dropped {items}"),
        };
        items.iter().map(word).collect()
    }

    #[test]
    fn dropped_items_are_counted_at_their_position() {
        let queue = Queue::default();
        let half = QUEUED_MAX / 2 - ITEM_BYTES;
        queue.push(line(half));
        queue.push(line(half));
        queue.push(line(1));
        queue.push(line(2));
        queue.push(Item::Reopen);
        queue.push(Item::Reopen);
        let taken = queue.take(usize::MAX).unwrap();
        let expected = [format!("line {half}"), format!("line {half}")];
        assert_eq!(words(&taken)[..2], expected);
        assert_eq!(words(&taken)[2..], ["dropped 2", "reopen"]);
        // Taken items still occupy space until they are written.
        queue.push(line(3));
        queue.done(taken.len());
        queue.push(line(4));
        let taken = queue.take(usize::MAX).unwrap();
        assert_eq!(words(&taken), ["dropped 1", "line 4"]);
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn an_item_above_the_bound_waits_alone() {
        let queue = Queue::default();
        queue.push(line(2 * QUEUED_MAX));
        queue.push(line(1));
        let taken = queue.take(usize::MAX).unwrap();
        assert_eq!(words(&taken), [format!("line {}", 2 * QUEUED_MAX), "dropped 1".into()]);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_then_ends() {
        let queue = Queue::default();
        queue.push(line(1));
        queue.close(Instant::now());
        queue.push(line(2));
        assert_eq!(words(&queue.take(1).unwrap()), ["line 1"]);
        assert_eq!(words(&queue.take(1).unwrap()), ["line 2"]);
        assert!(queue.take(1).is_none());
    }

    #[test]
    fn a_stalled_output_is_waited_for_once_until_it_moves() {
        let queue = Queue::default();
        queue.push(line(1));
        queue.stalled();
        queue.flush(Flush::Exit);
        assert!(!queue.state().is_given_up);
        queue.flush(Flush::Abort);
        assert!(queue.state().is_given_up);
        let moved = Instant::now();
        (0..100).for_each(|_| queue.flush(Flush::Abort));
        assert!(moved.elapsed() < 100 * STALL_TIMEOUT);
        queue.moved();
        assert!(!queue.state().is_given_up);
        let taken = queue.take(1).unwrap();
        queue.done(taken.len());
        queue.flush(Flush::Abort);
    }

    #[test]
    fn abandoned_items_are_counted() {
        let queue = Queue::default();
        queue.push(line(1));
        queue.push(line(1));
        queue.abandon(0);
        queue.push(line(1));
        assert!(queue.is_empty());
        assert_eq!(queue.dropped(), 3);
    }
}
