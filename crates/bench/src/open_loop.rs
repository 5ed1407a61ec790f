//! The queue of an open loop: the scheduled send times of messages.
//!
//! In an open loop messages are sent at a fixed rate, whether or not replies arrive.

/// Send times at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: u64,
    nanos_per_message: f64,
}

impl Schedule {
    /// `rate` messages per second from `start` on, in nanoseconds of the run.
    pub(crate) fn new(rate: f64, start: u64) -> Schedule {
        Schedule { start, nanos_per_message: 1e9 / rate }
    }

    /// When a message is due.
    pub(crate) fn due(&self, message: u64) -> u64 {
        self.start + (message as f64 * self.nanos_per_message) as u64
    }

    /// The number of messages that are due before `until`.
    pub(crate) fn count(&self, until: u64) -> u64 {
        // A quotient is not rounded like a product, so this is an estimate, corrected by `due`.
        let mut count = (until.saturating_sub(self.start) as f64 / self.nanos_per_message) as u64;
        while count > 0 && self.due(count - 1) >= until {
            count -= 1;
        }
        while self.due(count) < until {
            count += 1;
        }
        count
    }
}

/// The maximum number of messages that are sent before replies are read.
pub(crate) const BURST_MAX: usize = 1024;

/// The maximum number of messages in flight of one event loop.
pub(crate) const IN_FLIGHT_MAX: usize = 1 << 20;

/// The messages that an event loop has to send, in order.
///
/// If the server does not keep up, messages that are due stay here once too many are in flight.
/// They take no memory, and their latency still runs from the scheduled time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenLoopQueue {
    schedule: Schedule,
    until: u64,
    in_flight_max: usize,
    next: u64,
}

impl OpenLoopQueue {
    /// All messages that are due before `until`, with at most `in_flight_max` in flight.
    pub(crate) fn new(schedule: Schedule, until: u64, in_flight_max: usize) -> OpenLoopQueue {
        OpenLoopQueue { schedule, until, in_flight_max, next: 0 }
    }

    /// Takes the next message if it is due, however late, and not too many are in flight. Returns its
    /// number and when it was due.
    pub(crate) fn take(&mut self, now: u64, in_flight: usize) -> Option<(u64, u64)> {
        if in_flight >= self.in_flight_max {
            return None;
        }
        let due = self.next_due().filter(|&due| due <= now)?;
        self.next += 1;
        Some((self.next - 1, due))
    }

    /// Whether all messages have been taken.
    pub(crate) fn is_done(&self) -> bool {
        self.next_due().is_none()
    }

    /// Nanoseconds until the next message is due; `None` if it waits for a reply, or if there is none.
    pub(crate) fn wait(&self, now: u64, in_flight: usize) -> Option<u64> {
        let due = self.next_due().filter(|_| in_flight < self.in_flight_max)?;
        Some(due.saturating_sub(now))
    }

    fn next_due(&self) -> Option<u64> {
        Some(self.schedule.due(self.next)).filter(|&due| due < self.until)
    }

    /// The number of messages that have not been taken.
    pub(crate) fn left(&self) -> u64 {
        self.schedule.count(self.until).saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_taken_once_when_it_is_due_and_also_when_it_is_late() {
        // One each 10 ns, from 100 on.
        let mut queue = OpenLoopQueue::new(Schedule::new(1e8, 100), 140, 1);
        assert_eq!(queue.left(), 4);
        assert_eq!((queue.take(99, 0), queue.wait(99, 0)), (None, Some(1)));
        assert_eq!(queue.take(100, 0), Some((0, 100)));
        assert_eq!(queue.take(100, 0), None);
        assert_eq!((queue.wait(100, 0), queue.left()), (Some(10), 3));
        let late: Vec<_> = std::iter::from_fn(|| queue.take(1000, 0)).collect();
        assert_eq!(late, [(1, 110), (2, 120), (3, 130)]);
        assert_eq!((queue.wait(1000, 0), queue.is_done(), queue.left()), (None, true, 0));
    }

    #[test]
    fn left_counts_the_messages_that_can_still_be_taken() {
        let rates = [1e8, 3e7, 7.7e6, 1500.0, 900.0, 750.0, 370.0, 77.0, 1e-3];
        // In milliseconds. With some rates the last message is due exactly at the end.
        for (rate, until) in rates.into_iter().flat_map(|rate| {
            [1, 350, 1_100, 2_500, 4_000, 4_500, 10_500].map(|milliseconds| (rate, milliseconds))
        }) {
            let until = until * 1_000_000;
            let mut queue = OpenLoopQueue::new(Schedule::new(rate, 0), until, 1);
            let left = queue.left();
            // Not all of them one by one: only the last few.
            queue.next = left.saturating_sub(3);
            let taken = std::iter::from_fn(|| queue.take(u64::MAX, 0)).count() as u64;
            assert_eq!(left.min(3), taken, "{rate} until {until}");
        }
    }

    #[test]
    fn due_messages_wait_while_too_many_are_in_flight() {
        let mut queue = OpenLoopQueue::new(Schedule::new(1e9, 0), 10, 5);
        assert_eq!((queue.take(10, 5), queue.wait(10, 5)), (None, None), "a reply has to arrive");
        assert_eq!((queue.wait(10, 4), queue.take(10, 4)), (Some(0), Some((0, 0))));
        assert!(!queue.is_done());
    }
}
