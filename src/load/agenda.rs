//! When the messages of an open loop are due.

/// Evenly, the connections in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    began: u64,
    nanos_a_message: f64,
}

impl Schedule {
    /// `rate` messages a second from `began` on, in nanoseconds of the run.
    pub(super) fn new(rate: f64, began: u64) -> Schedule {
        Schedule { began, nanos_a_message: 1e9 / rate }
    }

    pub(super) fn due(&self, message: u64) -> u64 {
        self.began + (message as f64 * self.nanos_a_message) as u64
    }

    /// How many messages are due before `until`.
    pub(super) fn count(&self, until: u64) -> u64 {
        (until.saturating_sub(self.began) as f64 / self.nanos_a_message).ceil() as u64
    }
}

/// Messages that are asked in one go, before answers are looked for.
pub(super) const BURST_MAX: usize = 1024;

/// Messages that may be under way at a time, at the most.
const UNDER_WAY_MAX: usize = 1 << 20;

/// Bytes that may be under way at a time, at the most; but each connection may have a message.
const UNDER_WAY_BYTES_MAX: usize = 64 << 20;

/// What an event loop has to ask, one message after the other.
///
/// If the server does not keep up, what is due has to wait once too much is under way: it waits here,
/// where it takes no memory, and its latency counts all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agenda {
    schedule: Schedule,
    until: u64,
    under_way_max: usize,
    next: u64,
}

impl Agenda {
    /// All that is due before `until`, messages of so many bytes on so many connections.
    pub(super) fn new(
        schedule: Schedule,
        until: u64,
        message_bytes: usize,
        connections: usize,
    ) -> Agenda {
        let by_bytes = UNDER_WAY_BYTES_MAX / message_bytes.max(1);
        let under_way_max = by_bytes.clamp(connections.min(UNDER_WAY_MAX), UNDER_WAY_MAX);
        Agenda { schedule, until, under_way_max, next: 0 }
    }

    /// The next message, if it is due by now, however late that is, and not too many are under way:
    /// which it is, and when it was due.
    pub(super) fn take(&mut self, now: u64, under_way: usize) -> Option<(u64, u64)> {
        if under_way >= self.under_way_max {
            return None;
        }
        let due = self.next_due().filter(|&due| due <= now)?;
        self.next += 1;
        Some((self.next - 1, due))
    }

    /// Whether all have been taken.
    pub(super) fn is_done(&self) -> bool {
        self.next_due().is_none()
    }

    /// How long it is until the next can be taken, in nanoseconds; `None` if that is not for time to say.
    pub(super) fn wait(&self, now: u64, under_way: usize) -> Option<u64> {
        let due = self.next_due().filter(|_| under_way < self.under_way_max)?;
        Some(due.saturating_sub(now))
    }

    fn next_due(&self) -> Option<u64> {
        Some(self.schedule.due(self.next)).filter(|&due| due < self.until)
    }

    /// How many have not been taken.
    pub(super) fn left(&self) -> u64 {
        self.schedule.count(self.until).saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_taken_once_when_it_is_due_and_also_when_it_is_late() {
        // One each 10 ns, from 100 on.
        let mut agenda = Agenda::new(Schedule::new(1e8, 100), 140, 64, 1);
        assert_eq!(agenda.left(), 4);
        assert_eq!((agenda.take(99, 0), agenda.wait(99, 0)), (None, Some(1)));
        assert_eq!(agenda.take(100, 0), Some((0, 100)));
        assert_eq!(agenda.take(100, 0), None);
        assert_eq!((agenda.wait(100, 0), agenda.left()), (Some(10), 3));
        let late: Vec<_> = std::iter::from_fn(|| agenda.take(1000, 0)).collect();
        assert_eq!(late, [(1, 110), (2, 120), (3, 130)]);
        assert_eq!((agenda.wait(1000, 0), agenda.is_done(), agenda.left()), (None, true, 0));
    }

    #[test]
    fn what_is_left_is_what_could_still_be_taken() {
        for (rate, until) in [(1e8, 139), (1e8, 141), (3e7, 1000), (7.7e6, 54_321), (1e-3, 10)] {
            let mut agenda = Agenda::new(Schedule::new(rate, 0), until, 64, 1);
            let left = agenda.left();
            let taken = std::iter::from_fn(|| agenda.take(u64::MAX, 0)).count() as u64;
            assert_eq!(left, taken, "{rate} until {until}");
        }
    }

    #[test]
    fn what_is_due_waits_while_too_much_is_under_way() {
        let most = |message_bytes, connections| {
            let agenda = Agenda::new(Schedule::new(1e9, 0), 10, message_bytes, connections);
            // A copy is asked each time: whoever takes one is not given it again.
            let is_held_back = |&under_way: &usize| { agenda }.take(10, under_way).is_none();
            (0..1 << 22).find(is_held_back).unwrap()
        };
        assert_eq!(most(64, 10), 1 << 20);
        assert_eq!(most(1 << 20, 10), 64);
        assert_eq!(most(1 << 20, 1000), 1000, "each connection may have one");
        let agenda = Agenda::new(Schedule::new(1e9, 0), 10, 64, 1);
        assert_eq!(agenda.wait(10, 1 << 20), None, "an answer has to come first");
        assert!(!agenda.is_done());
    }
}
