//! When the messages of an open loop are due.

/// Evenly, the connections in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    began: u64,
    nanos_a_message: f64,
}

impl Schedule {
    /// `rate` messages a second from `began` on, in nanoseconds of the run.
    pub(crate) fn new(rate: f64, began: u64) -> Schedule {
        Schedule { began, nanos_a_message: 1e9 / rate }
    }

    pub(crate) fn due(&self, message: u64) -> u64 {
        self.began + (message as f64 * self.nanos_a_message) as u64
    }

    /// How many messages are due before `until`.
    pub(crate) fn count(&self, until: u64) -> u64 {
        // A quotient is not rounded as a product is: about so many, and then by what `due` says.
        let mut count = (until.saturating_sub(self.began) as f64 / self.nanos_a_message) as u64;
        while count > 0 && self.due(count - 1) >= until {
            count -= 1;
        }
        while self.due(count) < until {
            count += 1;
        }
        count
    }
}

/// Messages that are asked in one go, before answers are looked for.
pub(crate) const BURST_MAX: usize = 1024;

/// Messages that one event loop may have under way at a time, at the most.
pub(crate) const UNDER_WAY_MAX: usize = 1 << 20;

/// What an event loop has to ask, one message after the other.
///
/// If the server does not keep up, what is due has to wait once too much is under way: it waits here,
/// where it takes no memory, and its latency counts all the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agenda {
    schedule: Schedule,
    until: u64,
    under_way_max: usize,
    next: u64,
}

impl Agenda {
    /// All that is due before `until`; not more than so many are to be under way.
    pub(crate) fn new(schedule: Schedule, until: u64, under_way_max: usize) -> Agenda {
        Agenda { schedule, until, under_way_max, next: 0 }
    }

    /// The next message, if it is due by now, however late that is, and not too many are under way:
    /// which it is, and when it was due.
    pub(crate) fn take(&mut self, now: u64, under_way: usize) -> Option<(u64, u64)> {
        if under_way >= self.under_way_max {
            return None;
        }
        let due = self.next_due().filter(|&due| due <= now)?;
        self.next += 1;
        Some((self.next - 1, due))
    }

    /// Whether all have been taken.
    pub(crate) fn is_done(&self) -> bool {
        self.next_due().is_none()
    }

    /// How long it is until the next can be taken, in nanoseconds; `None` if that is not for time to say.
    pub(crate) fn wait(&self, now: u64, under_way: usize) -> Option<u64> {
        let due = self.next_due().filter(|_| under_way < self.under_way_max)?;
        Some(due.saturating_sub(now))
    }

    fn next_due(&self) -> Option<u64> {
        Some(self.schedule.due(self.next)).filter(|&due| due < self.until)
    }

    /// How many have not been taken.
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
        let mut agenda = Agenda::new(Schedule::new(1e8, 100), 140, 1);
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
        let rates = [1e8, 3e7, 7.7e6, 1500.0, 900.0, 750.0, 370.0, 77.0, 1e-3];
        // In milliseconds: with some rates the last message is due at the very end, or would be.
        for (rate, until) in rates.into_iter().flat_map(|rate| {
            [1, 350, 1_100, 2_500, 4_000, 4_500, 10_500].map(|milliseconds| (rate, milliseconds))
        }) {
            let until = until * 1_000_000;
            let mut agenda = Agenda::new(Schedule::new(rate, 0), until, 1);
            let left = agenda.left();
            // Not all of them one by one: only the last few.
            agenda.next = left.saturating_sub(3);
            let taken = std::iter::from_fn(|| agenda.take(u64::MAX, 0)).count() as u64;
            assert_eq!(left.min(3), taken, "{rate} until {until}");
        }
    }

    #[test]
    fn what_is_due_waits_while_too_much_is_under_way() {
        let mut agenda = Agenda::new(Schedule::new(1e9, 0), 10, 5);
        assert_eq!((agenda.take(10, 5), agenda.wait(10, 5)), (None, None), "an answer has to come");
        assert_eq!((agenda.wait(10, 4), agenda.take(10, 4)), (Some(0), Some((0, 0))));
        assert!(!agenda.is_done());
    }
}
