//! The hub: the connected clients, and the order of frames.
//!
//! Publishing pushes a frame into every member's queue under one lock, which gives one order for all
//! members. Nothing waits under this lock, neither for a socket nor for a writer.
//!
//! A member is identified by a token, and three parties may remove it: the task that reads from it (its
//! end, its reset), the task that writes to it (a reset, a timeout), and any publisher (it reads too
//! slowly). Each acts on a past observation; the second of them finds that the member is gone, and maybe
//! that a new one uses its slot. So a token contains its slot's generation: a lookup is one index and one
//! comparison, a stale token is an ordinary result, which is counted, and no other member is removed.
//!
//! # Limits
//!
//! A slot's generation repeats after 2^31 members in that slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slotmap::{DefaultKey, SlotMap};

use super::send_queue::{PushResult, SendQueue, SlowReader};
use crate::frame::Frame;
use crate::rate_limited_log::RateLimited;

/// Identifies a member of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberToken(DefaultKey);

/// The set of connected clients.
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
    /// Whether it publishes nothing more and only receives.
    is_receive_only: bool,
}

/// Counters of a hub.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Frames that were published.
    pub(super) frames: AtomicU64,
    /// Frames that were sent in full, over all members.
    pub(super) deliveries: AtomicU64,
    /// Members that were disconnected because they read too slowly.
    pub(super) slow: AtomicU64,
    /// Frames that were dropped for members that read too slowly.
    pub(super) dropped: AtomicU64,
    /// Lookups of members that had left.
    pub(super) stale_lookups: AtomicU64,
}

/// Adds to one of the totals.
pub(super) fn count(total: &AtomicU64, more: u64) {
    // ord: Relaxed; a statistic, read for the final log line when all tasks have ended.
    total.fetch_add(more, Ordering::Relaxed);
}

impl Hub {
    pub(super) fn new(send_queue_max: usize, slow_reader: SlowReader) -> Hub {
        let (members, drops, totals) =
            (Mutex::default(), RateLimited::default(), Totals::default());
        Hub { send_queue_max, slow_reader, members, drops, totals }
    }

    /// An empty hub with the same settings, as soon as this one can be used.
    pub(super) fn new_empty(&self) -> Hub {
        drop(self.members());
        Hub::new(self.send_queue_max, self.slow_reader)
    }

    /// Adds a member. From now on every published frame goes into its queue.
    pub(super) fn join(&self, peer: &str) -> (MemberToken, Arc<SendQueue>) {
        let queue = Arc::new(SendQueue::new(peer, self.send_queue_max, self.slow_reader));
        let member = HubMember { queue: Arc::clone(&queue), is_receive_only: false };
        (MemberToken(self.members().insert(member)), queue)
    }

    /// Removes a member; its queue is still sent. Returns false if it had already left.
    pub(super) fn leave(&self, token: MemberToken) -> bool {
        let mut members = self.members();
        let member = members.remove(token.0);
        let last = take_all_if_receive_only(&mut members);
        drop(members);
        last.iter().for_each(|queue| queue.close());
        match member {
            Some(member) => {
                member.queue.close();
                true
            }
            None => {
                count(&self.totals.stale_lookups, 1);
                false
            }
        }
    }

    /// Marks a member as receive-only. When all members are, nothing more can be published, and all of
    /// them leave.
    pub(super) fn set_receive_only(&self, token: MemberToken) {
        let mut members = self.members();
        match members.get_mut(token.0) {
            Some(member) => member.is_receive_only = true,
            None => count(&self.totals.stale_lookups, 1),
        }
        let last = take_all_if_receive_only(&mut members);
        drop(members);
        last.iter().for_each(|queue| queue.close());
    }

    /// Pushes a frame into every member's queue.
    pub(super) fn publish(&self, frame: &Frame) {
        let (mut parked, mut slow_queues, mut first_thinned) = (Vec::new(), Vec::new(), None);
        let mut dropped = Vec::new();
        let mut members = self.members();
        members.retain(|_, member| {
            let (result, wake) = member.queue.push(frame, &mut dropped);
            if wake {
                parked.push(Arc::clone(&member.queue));
            }
            match result {
                PushResult::Queued { dropped: 0 } | PushResult::Closed => {}
                PushResult::Queued { .. } => {
                    first_thinned.get_or_insert_with(|| Arc::clone(&member.queue));
                }
                PushResult::Full => {
                    slow_queues.push(Arc::clone(&member.queue));
                    return false;
                }
            }
            true
        });
        let last = if slow_queues.is_empty() {
            Vec::new()
        } else {
            take_all_if_receive_only(&mut members)
        };
        drop(members);
        // Wake-ups, large deallocations and log lines happen without the lock.
        parked.iter().for_each(|queue| queue.wake());
        last.iter().for_each(|queue| queue.close());
        for queue in &slow_queues {
            let bytes = queue.abort();
            self.drops.warn(format_args!(
                "{} disconnected: slow reader, {bytes} bytes queued (--max-send-queue)",
                queue.peer()
            ));
        }
        if let Some(queue) = first_thinned {
            self.drops.warn(format_args!(
                "{} is a slow reader, its oldest frames are dropped (--max-send-queue)",
                queue.peer()
            ));
        }
        count(&self.totals.frames, 1);
        count(&self.totals.slow, slow_queues.len() as u64);
        count(&self.totals.dropped, dropped.len() as u64);
    }

    fn members(&self) -> MutexGuard<'_, SlotMap<DefaultKey, HubMember>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes all members if all of them are receive-only.
fn take_all_if_receive_only(members: &mut SlotMap<DefaultKey, HubMember>) -> Vec<Arc<SendQueue>> {
    if members.values().any(|member| !member.is_receive_only) {
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

    fn stale_lookups(hub: &Hub) -> u64 {
        hub.totals.stale_lookups.load(Ordering::Relaxed)
    }

    /// The number of queued frames.
    fn waiting(queue: &SendQueue) -> usize {
        queue.close();
        let mut batch = Batch::default();
        while queue.take(&mut batch) {}
        batch.pieces().len()
    }

    #[test]
    fn a_stale_token_is_counted_and_changes_nothing() {
        let hub = hub();
        let (token, _) = hub.join("peer");
        assert!(hub.leave(token));
        assert_eq!(stale_lookups(&hub), 0);
        assert!(!hub.leave(token));
        hub.set_receive_only(token);
        assert_eq!(stale_lookups(&hub), 2);
    }

    #[test]
    fn a_new_member_in_the_same_slot_is_not_removed_by_an_old_token() {
        let hub = hub();
        let (old, _) = hub.join("old");
        hub.leave(old);
        let (new, newcomer) = hub.join("new");
        let slot = |token: MemberToken| {
            let key = format!("{:?}", token.0);
            key.split('v').next().map(str::to_owned)
        };
        assert_eq!(slot(old), slot(new), "both use the same slot");
        assert_ne!(old, new);
        assert!(!hub.leave(old));
        hub.publish(&Frame::new(b"still here"));
        assert_eq!(waiting(&newcomer), 1);
    }

    #[test]
    fn a_slow_reader_is_removed_and_the_others_miss_nothing() {
        let hub = hub();
        let (token, slow) = hub.join("slow");
        for _ in 0..3 {
            hub.publish(&Frame::new(&[0; 25]));
        }
        let (_, quick) = hub.join("quick");
        hub.publish(&Frame::new(&[0; 25]));
        assert!(slow.is_aborted());
        assert!(!hub.leave(token), "its reader comes second");
        assert_eq!(waiting(&quick), 1);
    }

    #[test]
    fn a_receive_only_member_receives_until_all_members_are_receive_only() {
        let hub = hub();
        let (first, early) = hub.join("early");
        let (second, late) = hub.join("late");
        hub.set_receive_only(first);
        hub.publish(&Frame::new(b"last words"));
        assert_eq!(
            early.push(&Frame::new(b""), &mut Vec::new()).0,
            PushResult::Queued { dropped: 0 },
            "it is open"
        );
        hub.set_receive_only(second);
        assert_eq!(early.push(&Frame::new(b""), &mut Vec::new()).0, PushResult::Closed);
        assert_eq!(waiting(&early), 2);
        assert_eq!(waiting(&late), 1);
    }

    #[test]
    fn the_last_publisher_to_leave_releases_receive_only_members() {
        let hub = hub();
        let (first, early) = hub.join("early");
        let (second, _late) = hub.join("late");
        hub.set_receive_only(first);
        hub.leave(second);
        assert_eq!(early.push(&Frame::new(b""), &mut Vec::new()).0, PushResult::Closed);
    }
}
