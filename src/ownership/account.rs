//! Accounts: the list of what one task owns, in order of acquisition.
//!
//! The account is an index. The slot decides who owns a resource. Every move between two accounts
//! changes the slot and both lists under both locks, so a thread that holds a task's lock sees exactly
//! what the task owns. Locks are taken in ascending order of task ids.

use smallvec::SmallVec;

/// The phase of a task, which decides whether its account accepts entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskPhase {
    /// Waiting for a thread, or running.
    Open,
    /// Finalizing the remaining resources; the account accepts no more entries.
    Ending,
    /// The task and its children have ended.
    Ended,
}

/// Position on an account. Grows with every entry and is never reused.
pub(crate) type Position = u64;

/// Entries that need no allocation: most tasks own one resource.
const ENTRIES_INLINE: usize = 2;

/// Up to this many gaps are kept, independent of the number of entries.
const GAPS_MIN: usize = 8;

/// A list with a capacity of more than this many times its length, gaps included, is shrunk, so that a
/// task that once owned many resources does not keep the memory.
const CAPACITY_FACTOR: usize = 4;

/// Capacity up to this is kept, independent of the number of entries.
const CAPACITY_MIN: usize = 64;

/// The resources that one task owns. `E` is a reference to a resource.
#[derive(Debug)]
pub(crate) struct Account<E> {
    pub(crate) phase: TaskPhase,
    pub(crate) cancelled: bool,
    /// Whether the task was asked to finish on its own.
    pub(crate) draining: bool,
    /// By position, ascending. A removed entry leaves a gap, except at the end of the list. When more
    /// than half of the list are gaps they are removed, so that adding and removing an entry costs
    /// amortized constant time plus one search for the position.
    entries: SmallVec<[(Position, Option<E>); ENTRIES_INLINE]>,
    gaps: usize,
    next: Position,
}

impl<E> Account<E> {
    pub(crate) fn new() -> Account<E> {
        Account {
            phase: TaskPhase::Open,
            cancelled: false,
            draining: false,
            entries: SmallVec::new(),
            gaps: 0,
            next: 1,
        }
    }

    /// Whether the account accepts new entries.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == TaskPhase::Open && !self.cancelled
    }

    /// Appends an entry.
    pub(crate) fn push(&mut self, entry: E) -> Position {
        let position = self.next;
        self.next += 1;
        self.entries.push((position, Some(entry)));
        position
    }

    pub(crate) fn remove(&mut self, position: Position) -> Option<E> {
        let index = self.entries.binary_search_by_key(&position, |(position, _)| *position).ok()?;
        let entry = self.entries[index].1.take()?;
        self.gaps += 1;
        self.compact();
        Some(entry)
    }

    /// Takes the latest entry before `before` for which `wanted` returns true, and sets `before` to its
    /// position. `wanted` is called once per entry in a pass over the whole account, so that the pass is
    /// linear in the account's length however many entries stay.
    pub(crate) fn take_last(
        &mut self,
        before: &mut Position,
        mut wanted: impl FnMut(&E) -> bool,
    ) -> Option<E> {
        let end = self.entries.partition_point(|(position, _)| position < before);
        let is_wanted =
            |(_, entry): &(Position, Option<E>)| entry.as_ref().is_some_and(&mut wanted);
        let Some(index) = self.entries[..end].iter().rposition(is_wanted) else {
            *before = 0;
            return None;
        };
        *before = self.entries[index].0;
        let entry = self.entries[index].1.take();
        self.gaps += 1;
        self.compact();
        entry
    }

    /// Removes gaps and shrinks the list when there are too many.
    fn compact(&mut self) {
        while self.entries.last().is_some_and(|(_, entry)| entry.is_none()) {
            self.entries.pop();
            self.gaps -= 1;
        }
        if self.gaps > GAPS_MIN.max(self.entries.len() / 2) {
            self.entries.retain(|(_, entry)| entry.is_some());
            self.gaps = 0;
        }
        let capacity = self.entries.capacity();
        if capacity > CAPACITY_MIN && self.entries.len() < capacity / CAPACITY_FACTOR {
            self.entries.shrink_to_fit();
        }
    }

    /// Entries, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &E> {
        self.entries.iter().filter_map(|(_, entry)| entry.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Move {
        Push,
        /// Removes the entry at this index, counted from the oldest, and tries to remove it again.
        RemoveTwice(prop::sample::Index),
        TakeLast,
        /// Takes the last entry whose number is divisible by three.
        TakeLastOfSome,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            6 => Just(Move::Push),
            2 => any::<prop::sample::Index>().prop_map(Move::RemoveTwice),
            1 => Just(Move::TakeLast),
            1 => Just(Move::TakeLastOfSome),
        ];
        prop::collection::vec(one, 0..300)
    }

    proptest! {
        #[test]
        fn an_account_is_a_map_by_order_of_arrival(moves in moves()) {
            let mut account = Account::new();
            let mut map = BTreeMap::new();
            for (number, one) in moves.into_iter().enumerate() {
                match one {
                    Move::Push => {
                        let position = account.push(number);
                        prop_assert!(map.keys().all(|known| *known < position));
                        map.insert(position, number);
                    }
                    Move::RemoveTwice(which) if !map.is_empty() => {
                        let positions: Vec<Position> = map.keys().copied().collect();
                        let position = *which.get(&positions);
                        prop_assert_eq!(account.remove(position), map.remove(&position));
                        prop_assert_eq!(account.remove(position), None);
                    }
                    Move::RemoveTwice(_) => prop_assert_eq!(account.remove(1), None),
                    Move::TakeLast => {
                        let last = map.pop_last().map(|(_, number)| number);
                        let mut before = Position::MAX;
                        prop_assert_eq!(account.take_last(&mut before, |_| true), last);
                    }
                    Move::TakeLastOfSome => {
                        let of_some = |number: &usize| number.is_multiple_of(3);
                        let last = map.iter().rev().find(|(_, number)| of_some(number));
                        let last = last.map(|(position, _)| *position);
                        let mut before = Position::MAX;
                        let taken = account.take_last(&mut before, of_some);
                        prop_assert_eq!(before, last.unwrap_or(0));
                        prop_assert_eq!(taken, last.and_then(|position| map.remove(&position)));
                    }
                }
                prop_assert!(account.entries().eq(map.values()));
                prop_assert!(account.entries.len() <= 2 * map.len() + GAPS_MIN + 1);
                let capacity_max = CAPACITY_MIN.max(CAPACITY_FACTOR * (account.entries.len() + 1));
                prop_assert!(account.entries.capacity() <= capacity_max, "{}", account.entries.capacity());
            }
        }
    }

    #[test]
    fn a_pass_asks_about_each_entry_once_whatever_stays() {
        let mut account = Account::new();
        (0..1000).for_each(|number| {
            account.push(number);
        });
        let (mut before, mut asked) = (Position::MAX, 0);
        // The upper half stays, so that a taken entry is never at the end of the list.
        let taken = std::iter::from_fn(|| {
            account.take_last(&mut before, |number| {
                asked += 1;
                *number < 500
            })
        });
        assert!(taken.eq((0..500).rev()));
        assert_eq!(asked, 1000);
        assert!(account.entries().copied().eq(500..1000));
    }

    #[test]
    fn an_account_that_shrinks_releases_its_memory() {
        for left in [0, 9_999] {
            let mut account = Account::new();
            let positions: Vec<Position> = (0..10_000).map(|number| account.push(number)).collect();
            for (number, position) in positions.into_iter().enumerate() {
                if number != left {
                    account.remove(position);
                }
            }
            assert_eq!(account.entries().copied().collect::<Vec<_>>(), [left]);
            assert!(account.entries.capacity() <= CAPACITY_MIN, "{}", account.entries.capacity());
        }
    }

    #[test]
    fn a_long_lived_entry_does_not_keep_the_gaps_of_later_ones() {
        let mut account = Account::new();
        account.push(0);
        let mut before = account.push(1);
        for number in 2..10_000 {
            // The removed entry is never the last of the list.
            let next = account.push(number);
            assert_eq!(account.remove(before), Some(number - 1));
            before = next;
        }
        assert!(account.entries.len() <= 2 + GAPS_MIN + 1, "{}", account.entries.len());
        assert_eq!(account.entries().copied().collect::<Vec<_>>(), [0, 9_999]);
    }
}
