//! The queues between a program and its observers.
//!
//! The failure this prevents: a program that waits for its observer. An observer is a browser, a
//! terminal or a disk, and each of them stops at times. So every observer has a bounded queue of its
//! own. A push neither waits nor allocates. What does not fit is dropped and counted, and the observer
//! gets the count.
//!
//! The last eighth of a queue is reserved for events that end something, and for reports: an observer
//! that missed the end of a resource would show it as open from then on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;

use crate::event::Event;

/// The queue of one observer.
#[derive(Debug)]
pub struct Queue {
    events: ArrayQueue<Event>,
    /// How many events have to be in the queue before only important ones are accepted.
    full_at: usize,
    lost: AtomicU64,
}

impl Queue {
    /// A queue of at most `capacity` events, at least eight.
    #[must_use]
    pub fn new(capacity: usize) -> Queue {
        let capacity = capacity.max(8);
        Queue {
            events: ArrayQueue::new(capacity),
            full_at: capacity - capacity / 8,
            lost: AtomicU64::new(0),
        }
    }

    fn push(&self, event: Event) {
        let has_room = self.events.len() < self.full_at || event.is_important();
        if !has_room || self.events.push(event).is_err() {
            // ord: Relaxed; a count.
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the oldest event.
    #[must_use]
    pub fn pop(&self) -> Option<Event> {
        self.events.pop()
    }

    /// How many events were lost since the last call.
    #[must_use]
    pub fn take_lost(&self) -> u64 {
        // ord: Relaxed; a count.
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// The observers of a program. Publishing an event without an observer costs one load.
#[derive(Debug, Default)]
pub struct Subscribers {
    is_watched: AtomicBool,
    queues: ArcSwap<Vec<Arc<Queue>>>,
    /// Held while the list changes.
    changes: Mutex<()>,
}

impl Subscribers {
    /// Whether there is an observer.
    #[inline]
    #[must_use]
    pub fn is_watched(&self) -> bool {
        // ord: Relaxed; an event that races with a subscription may be seen or not.
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Pushes an event to the queue of each observer.
    pub fn publish(&self, event: Event) {
        let queues = self.queues.load();
        let Some((last, others)) = queues.split_last() else { return };
        for queue in others {
            queue.push(event.clone());
        }
        last.push(event);
    }

    /// Adds an observer's queue.
    pub fn add(&self, queue: &Arc<Queue>) {
        self.change(|queues| queues.push(Arc::clone(queue)));
    }

    /// Removes an observer's queue.
    pub fn remove(&self, queue: &Arc<Queue>) {
        self.change(|queues| queues.retain(|known| !Arc::ptr_eq(known, queue)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Queue>>)) {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queues = Vec::clone(&self.queues.load());
        change(&mut queues);
        let is_watched = !queues.is_empty();
        self.queues.store(Arc::new(queues));
        // ord: Relaxed; see `is_watched`.
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use echown_report::{Event as Step, ResourceId, Site};

    use super::*;
    use crate::event::{ResourceName, What};

    fn event(step: Step) -> Event {
        let resource = ResourceName {
            id: ResourceId::new(NonZeroU64::MIN),
            kind: "file",
            number: Some(3),
            half_of: None,
        };
        let what =
            What::Step { step, resource, from: None, to: None, site: Site::here(), times: 1 };
        Event { time_ns: 0, thread: 0, what }
    }

    #[test]
    fn a_full_queue_counts_what_it_drops_and_keeps_room_for_ends() {
        let queue = Queue::new(16);
        (0..20).for_each(|_| queue.push(event(Step::Given)));
        assert_eq!(queue.take_lost(), 6, "14 of 16 places are for all events");
        (0..3).for_each(|_| queue.push(event(Step::Released)));
        assert_eq!(queue.take_lost(), 1, "two places are for ends");
        let taken = std::iter::from_fn(|| queue.pop()).count();
        assert_eq!((taken, queue.take_lost()), (16, 0));
    }

    #[test]
    fn every_observer_gets_every_event_until_it_leaves() {
        let subscribers = Subscribers::default();
        assert!(!subscribers.is_watched());
        subscribers.publish(event(Step::Acquired));
        let queues = [Arc::new(Queue::new(8)), Arc::new(Queue::new(8))];
        queues.iter().for_each(|queue| subscribers.add(queue));
        subscribers.publish(event(Step::Given));
        subscribers.remove(&queues[0]);
        subscribers.publish(event(Step::Released));
        let counts = queues.each_ref().map(|queue| std::iter::from_fn(|| queue.pop()).count());
        assert_eq!((counts, subscribers.is_watched()), ([1, 2], true));
        subscribers.remove(&queues[1]);
        assert!(!subscribers.is_watched());
    }

    #[test]
    fn pushes_from_many_threads_are_all_taken_or_counted() {
        let queue = Queue::new(64);
        let mut taken = 0;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..5_000).for_each(|_| queue.push(event(Step::Given)))))
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                taken += std::iter::from_fn(|| queue.pop()).count() as u64;
            }
        });
        taken += std::iter::from_fn(|| queue.pop()).count() as u64;
        assert_eq!(taken + queue.take_lost(), 20_000);
    }
}
