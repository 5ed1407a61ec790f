//! Tables by small numbers that the kernel or this crate counts: descriptors, tasks, children.
//!
//! Nobody outside chooses the keys, so that the hash need not guard against chosen ones. What has held
//! very much gives its room back: a server that once had ten thousand connections is not to keep the
//! memory, nor to walk over it whenever somebody looks at all tasks.

use std::hash::Hash;

use rustc_hash::FxHashMap;

pub(crate) type IntMap<K, V> = FxHashMap<K, V>;

/// Room that is kept however little is left.
const ROOM_MIN: usize = 256;

/// Room for more than this many times what is left is given back.
const ROOM_FACTOR: usize = 8;

/// Takes something out of a table.
pub(crate) fn remove<K: Eq + Hash, V>(table: &mut IntMap<K, V>, key: &K) -> Option<V> {
    let removed = table.remove(key)?;
    if table.capacity() > ROOM_MIN && table.len() < table.capacity() / ROOM_FACTOR {
        table.shrink_to(2 * table.len());
    }
    Some(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_held_much_gives_the_room_back() {
        let mut table: IntMap<u64, u64> = (0..10_000).map(|number| (number, number)).collect();
        assert!(table.capacity() >= 10_000);
        for number in 1..10_000 {
            assert_eq!(remove(&mut table, &number), Some(number));
        }
        assert_eq!(remove(&mut table, &1), None);
        assert_eq!(table.get(&0), Some(&0));
        assert!(table.capacity() <= ROOM_MIN, "{}", table.capacity());
    }
}
