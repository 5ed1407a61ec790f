//! A set of descriptor numbers as a bit map, which finds the lowest free number in amortised constant
//! time.

/// Numbers from here on are not in the bit map, so that one high number costs little memory: the set
/// treats them as free. The kernel's default limit (`fs.nr_open`) is a quarter of it.
const NUMBERS_MAX: usize = 1 << 22;

/// The lowest number that no descriptor can have. A table has at most `fs.nr_open` numbers, and the kernel
/// allows no more than this for it on 64-bit machines: INT_MAX, rounded down to a multiple of 64
/// (`sysctl_nr_open_max`). The limits of a process are lower, but the model does not know them, and root
/// can raise them during a trace.
const IMPOSSIBLE: i32 = i32::MAX & -64;

/// Whether a descriptor can have the number. Programs use others, -1 and INT_MAX, for "no descriptor".
pub(super) fn is_possible(number: i32) -> bool {
    (0..IMPOSSIBLE).contains(&number)
}

/// A set of numbers from 0 to [`NUMBERS_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    words: Vec<u64>,
    /// All numbers below this one are in the set.
    full_below: usize,
}

impl Numbers {
    pub(super) fn insert(&mut self, number: i32) {
        let Some(number) = index(number) else { return };
        let word = number / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    pub(super) fn remove(&mut self, number: i32) {
        let Some(number) = index(number) else { return };
        if let Some(word) = self.words.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
            self.full_below = self.full_below.min(number);
        }
    }

    /// The lowest number from `from` on that is not in the set.
    pub(super) fn lowest_free(&mut self, from: i32) -> i32 {
        let from = usize::try_from(from).unwrap_or(0);
        let starts_in_full = from <= self.full_below;
        let mut number = from.max(self.full_below);
        while let Some(word) = self.words.get(number / 64) {
            let free = !(word >> (number % 64));
            let skipped = free.trailing_zeros() as usize;
            let left = 64 - number % 64;
            if skipped < left {
                number += skipped;
                break;
            }
            number += left;
        }
        if starts_in_full {
            self.full_below = number;
        }
        i32::try_from(number).unwrap_or(i32::MAX)
    }
}

fn index(number: i32) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number < NUMBERS_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lowest_free_number_is_that_of_a_plain_set(
            steps in prop::collection::vec((0..3u8, 0..200i32), 1..300),
        ) {
            let mut numbers = Numbers::default();
            let mut plain = BTreeSet::new();
            for (step, number) in steps {
                match step {
                    0 => { numbers.insert(number); plain.insert(number); }
                    1 => { numbers.remove(number); plain.remove(&number); }
                    _ => {
                        let expected = (number..).find(|n| !plain.contains(n)).unwrap();
                        prop_assert_eq!(numbers.lowest_free(number), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn negative_and_huge_numbers_cost_nothing() {
        let mut numbers = Numbers::default();
        numbers.insert(-1);
        numbers.insert(i32::MAX);
        assert!(numbers.words.is_empty());
        assert_eq!(numbers.lowest_free(-5), 0);
    }
}
