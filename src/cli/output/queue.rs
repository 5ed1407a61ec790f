//! What waits for one output: bounded in bytes, and never waited for.
//!
//! A thread that has something to write pushes it and goes on. One writer takes it out. An output that
//! takes nothing (a pipe without a reader at work, a terminal held with ^S) stalls its writer and
//! no other thread: when the queue is full, what comes next is dropped and counted, and the count stands in
//! the queue at the place of what is missing, so that the reader of the output sees the gap.
//!
//! # Limits
//!
//! Items of unknown size are weighed by an estimate. One item that is larger than the bound waits
//! alone.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ownership::Report;

/// Bytes that wait for one output: many times what comes while a busy machine lets a writer wait, and half
/// of the memory that the server keeps back. Taken only while an output does not keep up.
const QUEUED_MAX: usize = 4 * 1024 * 1024;

/// What the queue needs for an item besides its bytes.
const ITEM_BYTES: usize = 64;

/// Estimates for a report, and for each resource that it lists.
const REPORT_BYTES: usize = 512;
const RESOURCE_BYTES: usize = 1024;

/// How long a stalled output is waited for where the process is about to end.
pub(in crate::cli) const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an output that moves, but does not come to an end, is waited for there.
const SLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a thread waits for a writer that has had no processor yet: one that ends the process, and one
/// that panics and goes on.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const PANIC_TIMEOUT: Duration = Duration::from_millis(200);

/// What comes after a flush, and whether an output that takes nothing at the moment is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Flush {
    /// A panic, which may become an abort. It is not waited for, and a slow one for a moment.
    Panic,
    /// The end of the process, at once. It is not waited for.
    Exit,
    /// An abort, by a policy. It is waited for, once until it moves again.
    Abort,
}

/// One thing to be written, or to be done by the writer.
pub(in crate::cli) enum Item {
    Line(Vec<u8>),
    Report(Box<Report>),
    Reopen,
    /// So many items are missing here.
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
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Of what waits and of what the writer has taken and not yet written.
    bytes: usize,
    taken_bytes: usize,
    /// Something was dropped, and half of the room is not free yet.
    is_full: bool,
    /// Items that were accepted, and those of them that the writer is done with.
    accepted: u64,
    done: u64,
    dropped: u64,
    /// When the output took something last.
    moved: Option<Instant>,
    /// The writer waits for the output.
    is_stalled: bool,
    /// A thread has waited for the writer until its timeout, and the output has not moved since.
    is_given_up: bool,
    /// The process is on its way out since then.
    closing: Option<Instant>,
    /// There is no writer, and there will be none.
    is_abandoned: bool,
}

impl Queue {
    /// Hands an item in, or drops and counts it.
    pub(in crate::cli) fn push(&self, item: Item) {
        let mut state = self.state();
        let weight = item.weight();
        // One long gap, rather than a short line here and there.
        state.is_full |= state.bytes > 0 && state.bytes + weight > QUEUED_MAX;
        match item {
            // Done once, however often it is ordered.
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

    /// What is to be written next, in order, about so many bytes of it. Waits; `None` when the queue
    /// is closed and empty.
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

    /// The writer is done with so many items that it has taken last.
    pub(in crate::cli) fn done(&self, items: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(state.taken_bytes);
        state.taken_bytes = 0;
        state.is_full &= state.bytes > QUEUED_MAX / 2;
        state.done += items as u64;
        self.changed.notify_all();
    }

    /// The output has taken something.
    pub(in crate::cli) fn moved(&self) {
        let mut state = self.state();
        state.moved = Some(Instant::now());
        state.is_stalled = false;
        state.is_given_up = false;
    }

    /// The output takes nothing.
    pub(in crate::cli) fn stalled(&self) {
        self.state().is_stalled = true;
        self.changed.notify_all();
    }

    /// Waits until all that was handed in before is written, at most for [`STALL_TIMEOUT`].
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

    /// The process is on its way out since then: the writer ends when it has written what is there.
    pub(in crate::cli) fn close(&self, since: Instant) {
        self.state().closing.get_or_insert(since);
        self.changed.notify_all();
    }

    /// Whether the output has timed out: then the writer gives it up.
    pub(in crate::cli) fn is_overdue(&self) -> bool {
        let state = self.state();
        let Some(closing) = state.closing else { return false };
        let moved = state.moved.map_or(closing, |moved| moved.max(closing));
        Instant::now() >= (moved + STALL_TIMEOUT).min(closing + SLOW_TIMEOUT)
    }

    /// Counts items that were taken and could not be written.
    pub(in crate::cli) fn lost(&self, items: u64) {
        self.state().dropped += items;
    }

    /// Drops what waits, and counts it with this many items that were taken: there is no writer for them.
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

    /// How many items were dropped in all.
    pub(in crate::cli) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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
    fn what_does_not_fit_is_counted_at_its_place() {
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
        // Taken is not written: there is no room yet.
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
    fn what_is_abandoned_is_counted() {
        let queue = Queue::default();
        queue.push(line(1));
        queue.push(line(1));
        queue.abandon(0);
        queue.push(line(1));
        assert!(queue.is_empty());
        assert_eq!(queue.dropped(), 3);
    }
}
