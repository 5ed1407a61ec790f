//! The quarantine: closed numbers that stay occupied, so that a second close or a late use hits no
//! other file. Also the calls that wait for input on a number.

use std::os::fd::RawFd;

use super::history::NUMBERS_MAX;
use super::stacks::Call;

/// The number of numbers that are held; the oldest one is closed when another one comes.
const HELD_MAX: usize = 64;

/// The maximum number of recorded threads that wait at the same time.
const WAITING_MAX: usize = 32;

/// The number of words for one bit per recorded number.
const WORDS: usize = NUMBERS_MAX / 64;

#[derive(Clone, Copy)]
struct Waiting {
    /// The kernel's id of the thread; 0 if this place is free.
    thread: u32,
    number: RawFd,
    call: Call,
}

/// The quarantine. Valid if all bytes are zero.
pub(super) struct Quarantine {
    /// The descriptor that occupies the numbers; 0 if the quarantine is off.
    poison: RawFd,
    /// A bit per number.
    held: [u64; WORDS],
    /// The held numbers, in a ring; 0 where there is none.
    numbers: [RawFd; HELD_MAX],
    next: usize,
    waiting: [Waiting; WAITING_MAX],
}

impl Quarantine {
    pub(super) fn start(&mut self, poison: RawFd) {
        self.poison = poison;
    }

    /// The descriptor that occupies the numbers, unless the quarantine is off.
    pub(super) fn poison(&self) -> Option<RawFd> {
        (self.poison > 0).then_some(self.poison)
    }

    pub(super) fn holds(&self, number: RawFd) -> bool {
        bit(number).is_some_and(|(word, bit)| self.held[word] & bit != 0)
    }

    /// Adds a number. Returns the one that has to be closed for it.
    pub(super) fn add(&mut self, number: RawFd) -> Option<RawFd> {
        let (word, bit) = bit(number)?;
        self.held[word] |= bit;
        let oldest = std::mem::replace(&mut self.numbers[self.next], number);
        self.next = (self.next + 1) % HELD_MAX;
        self.remove(oldest).then_some(oldest)
    }

    /// Removes a number, which was opened again. Returns false if it was not held.
    pub(super) fn remove(&mut self, number: RawFd) -> bool {
        let was_held = self.holds(number);
        if let Some((word, bit)) = bit(number) {
            self.held[word] &= !bit;
        }
        was_held
    }

    /// Ends the quarantine. Returns the numbers that have to be closed, and zeros.
    pub(super) fn end(&mut self) -> [RawFd; HELD_MAX + 1] {
        let mut numbers = [0; HELD_MAX + 1];
        for (index, place) in numbers.iter_mut().enumerate() {
            let number = *self.numbers.get(index).unwrap_or(&self.poison);
            let is_ours = index == HELD_MAX || self.remove(number);
            *place = if is_ours { number } else { 0 };
        }
        self.poison = 0;
        numbers
    }

    /// Records that a thread is about to wait for input.
    pub(super) fn waits(&mut self, thread: u32, number: RawFd, call: Call) {
        if let Some(place) = self.waiting.iter_mut().find(|waiting| waiting.thread == 0) {
            *place = Waiting { thread, number, call };
        }
    }

    pub(super) fn waits_no_more(&mut self, thread: u32) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.thread == thread) {
            waiting.thread = 0;
        }
    }

    /// The call in which a thread waits for input on a number.
    pub(super) fn waiting_on(&self, number: RawFd) -> Option<Call> {
        let mut all = self.waiting.iter();
        all.find(|it| it.thread != 0 && it.number == number).map(|it| it.call)
    }
}

/// The place of a number's bit.
fn bit(number: RawFd) -> Option<(usize, u64)> {
    let number = usize::try_from(number).ok().filter(|number| number / 64 < WORDS)?;
    Some((number / 64, 1 << (number % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantine() -> Quarantine {
        Quarantine {
            poison: 900,
            held: [0; WORDS],
            numbers: [0; HELD_MAX],
            next: 0,
            waiting: [Waiting { thread: 0, number: 0, call: Call::NONE }; WAITING_MAX],
        }
    }

    #[test]
    fn the_oldest_number_makes_room() {
        let mut it = quarantine();
        let held = HELD_MAX as RawFd;
        assert!((100..100 + held).all(|number| it.add(number).is_none()));
        assert_eq!(it.add(99), Some(100));
        assert!(!it.holds(100) && it.holds(101) && it.holds(99));
        assert!(it.remove(101), "it was opened again");
        assert_eq!(it.add(98), None);
    }

    #[test]
    fn the_end_names_everything_that_is_held_once() {
        let mut it = quarantine();
        (3..6).for_each(|number| assert_eq!(it.add(number), None));
        assert!(it.remove(4));
        let mut ended: Vec<RawFd> = it.end().into_iter().filter(|number| *number > 0).collect();
        ended.sort_unstable();
        assert_eq!(ended, [3, 5, 900]);
        assert_eq!(it.poison(), None);
    }

    #[test]
    fn a_thread_waits_until_its_call_returns() {
        let mut it = quarantine();
        it.waits(7, 3, Call::NONE);
        assert!(it.waiting_on(3).is_some() && it.waiting_on(4).is_none());
        it.waits_no_more(7);
        assert!(it.waiting_on(3).is_none());
    }
}
