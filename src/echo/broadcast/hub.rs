//! Who is connected, and the one order of frames.
//!
//! Every frame is put into every member's queue under one lock: that is the one order which all of
//! them see. Nothing waits under it, neither for a socket nor for a writer.
//!
//! A member is known by a token, and three parties may want to take it out: the task that reads from
//! it (its end, its reset), the task that writes to it (a reset, a timeout), and whoever publishes
//! (it reads too slowly). Each acts on what it has seen a moment ago; the second of them finds that
//! the member has gone, and maybe that a newcomer has its slot. So a token carries its slot's
//! generation: looking it up is one index and one comparison, a member that has gone is an ordinary
//! answer, which is counted, and nobody takes out the wrong one.
//!
//! # Limits
//!
//! A slot's generation comes round again after 2^31 members in that slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slotmap::{DefaultKey, SlotMap};

use super::send_queue::{PushResult, SendQueue, SlowReader};
use crate::frame::Frame;
use crate::rate_limited_log::RateLimited;

/// Names a member for as long as it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(DefaultKey);

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Hub {
    send_queue_max: usize,
    slow_reader: SlowReader,
    members: Mutex<SlotMap<DefaultKey, HubMember>>,
    drops: RateLimited,
    pub(super) totals: Totals,
}

#[derive(Debug)]
struct HubMember {
    queue: Arc<SendQueue>,
    /// It says nothing more itself, and listens to those who still do.
    is_resting: bool,
}

/// What a hub has done.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Frames that were published.
    pub(super) frames: AtomicU64,
    /// Frames that were sent in full, to whomever.
    pub(super) deliveries: AtomicU64,
    /// Members that were disconnected because they read too slowly.
    pub(super) slow: AtomicU64,
    /// Frames that were dropped for members who read too slowly.
    pub(super) dropped: AtomicU64,
    /// Look-ups of members that had gone.
    pub(super) gone: AtomicU64,
}

/// Adds to one of the totals.
pub(super) fn count(total: &AtomicU64, more: u64) {
    // ord: Relaxed; a statistic, read for the end's log line when all tasks have ended.
    total.fetch_add(more, Ordering::Relaxed);
}

impl Hub {
    pub(super) fn new(send_queue_max: usize, slow_reader: SlowReader) -> Hub {
        let (members, drops, totals) =
            (Mutex::default(), RateLimited::default(), Totals::default());
        Hub { send_queue_max, slow_reader, members, drops, totals }
    }

    /// Lets somebody in. From here on every frame waits for it in the queue.
    pub(super) fn join(&self, peer: &str) -> (Token, Arc<SendQueue>) {
        let queue = Arc::new(SendQueue::new(peer, self.send_queue_max, self.slow_reader));
        let member = HubMember { queue: Arc::clone(&queue), is_resting: false };
        (Token(self.members().insert(member)), queue)
    }

    /// Takes a member out; what waits for it is still sent. False when it had gone already, which is
    /// nobody's fault.
    pub(super) fn leave(&self, token: Token) -> bool {
        let mut members = self.members();
        let member = members.remove(token.0);
        let last = take_rested(&mut members);
        drop(members);
        last.iter().for_each(|queue| queue.close());
        match member {
            Some(member) => {
                member.queue.close();
                true
            }
            None => {
                count(&self.totals.gone, 1);
                false
            }
        }
    }

    /// Lets a member listen only. When all members do, nothing can come any more, and all of them
    /// have left.
    pub(super) fn rest(&self, token: Token) {
        let mut members = self.members();
        match members.get_mut(token.0) {
            Some(member) => member.is_resting = true,
            None => count(&self.totals.gone, 1),
        }
        let last = take_rested(&mut members);
        drop(members);
        last.iter().for_each(|queue| queue.close());
    }

    /// Gives a frame to every member.
    pub(super) fn publish(&self, frame: &Frame) {
        let (mut parked, mut slow, mut thinned) = (Vec::new(), Vec::new(), None);
        let mut all_dropped = Vec::new();
        let mut members = self.members();
        members.retain(|_, member| {
            let (room, wake) = member.queue.push(frame, &mut all_dropped);
            if wake {
                parked.push(Arc::clone(&member.queue));
            }
            match room {
                PushResult::Queued { dropped: 0 } | PushResult::Closed => {}
                PushResult::Queued { .. } => {
                    thinned.get_or_insert_with(|| Arc::clone(&member.queue));
                }
                PushResult::Full => {
                    slow.push(Arc::clone(&member.queue));
                    return false;
                }
            }
            true
        });
        let last = if slow.is_empty() { Vec::new() } else { take_rested(&mut members) };
        drop(members);
        // All that wakes somebody, frees much or writes a line is done without the lock.
        parked.iter().for_each(|queue| queue.wake());
        last.iter().for_each(|queue| queue.close());
        for queue in &slow {
            let bytes = queue.abort();
            self.drops.warn(format_args!(
                "{} is disconnected: it reads too slowly, {bytes} bytes waited for it (--max-outbox)",
                queue.peer()
            ));
        }
        if let Some(queue) = thinned {
            self.drops.warn(format_args!(
                "{} reads too slowly, its oldest frames are dropped (--max-outbox)",
                queue.peer()
            ));
        }
        count(&self.totals.frames, 1);
        count(&self.totals.slow, slow.len() as u64);
        count(&self.totals.dropped, all_dropped.len() as u64);
    }

    fn members(&self) -> MutexGuard<'_, SlotMap<DefaultKey, HubMember>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes everybody out if everybody rests.
fn take_rested(members: &mut SlotMap<DefaultKey, HubMember>) -> Vec<Arc<SendQueue>> {
    if members.values().any(|member| !member.is_resting) {
        return Vec::new();
    }
    members.drain().map(|(_, member)| member.queue).collect()
}

#[cfg(test)]
mod tests {
    use super::super::send_queue::{Batch, FRAME_OVERHEAD_BYTES};
    use super::*;

    fn hub() -> Hub {
        Hub::new(100 + 3 * FRAME_OVERHEAD_BYTES, SlowReader::Disconnect)
    }

    fn gone(hub: &Hub) -> u64 {
        hub.totals.gone.load(Ordering::Relaxed)
    }

    /// What waits, without waiting for it.
    fn waiting(queue: &SendQueue) -> usize {
        queue.close();
        let mut batch = Batch::default();
        while queue.take(&mut batch) {}
        batch.pieces().len()
    }

    #[test]
    fn a_member_that_has_gone_is_a_counted_non_event() {
        let hub = hub();
        let (token, _) = hub.join("peer");
        assert!(hub.leave(token));
        assert_eq!(gone(&hub), 0);
        assert!(!hub.leave(token));
        hub.rest(token);
        assert_eq!(gone(&hub), 2);
    }

    #[test]
    fn a_newcomer_in_the_same_slot_is_not_taken_for_the_one_that_has_gone() {
        let hub = hub();
        let (old, _) = hub.join("old");
        hub.leave(old);
        let (new, newcomer) = hub.join("new");
        let slot = |token: Token| {
            let key = format!("{:?}", token.0);
            key.split('v').next().map(str::to_owned)
        };
        assert_eq!(slot(old), slot(new), "or this tests nothing");
        assert_ne!(old, new);
        assert!(!hub.leave(old));
        hub.publish(&Frame::of(b"still here"));
        assert_eq!(waiting(&newcomer), 1);
    }

    #[test]
    fn who_reads_too_slowly_is_taken_out_and_the_others_miss_nothing() {
        let hub = hub();
        let (token, slow) = hub.join("slow");
        for _ in 0..3 {
            hub.publish(&Frame::of(&[0; 25]));
        }
        let (_, quick) = hub.join("quick");
        hub.publish(&Frame::of(&[0; 25]));
        assert!(slow.is_aborted());
        assert!(!hub.leave(token), "whoever reads from it comes second");
        assert_eq!(waiting(&quick), 1);
    }

    #[test]
    fn who_rests_hears_the_others_until_all_rest() {
        let hub = hub();
        let (first, early) = hub.join("early");
        let (second, late) = hub.join("late");
        hub.rest(first);
        hub.publish(&Frame::of(b"last words"));
        assert_eq!(
            early.push(&Frame::of(b""), &mut Vec::new()).0,
            PushResult::Queued { dropped: 0 },
            "it is open"
        );
        hub.rest(second);
        assert_eq!(early.push(&Frame::of(b""), &mut Vec::new()).0, PushResult::Closed);
        assert_eq!(waiting(&early), 2);
        assert_eq!(waiting(&late), 1);
    }

    #[test]
    fn the_last_one_to_leave_lets_those_go_who_rest() {
        let hub = hub();
        let (first, early) = hub.join("early");
        let (second, _late) = hub.join("late");
        hub.rest(first);
        hub.leave(second);
        assert_eq!(early.push(&Frame::of(b""), &mut Vec::new()).0, PushResult::Closed);
    }
}
