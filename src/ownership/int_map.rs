//! Hash maps with integer keys that the kernel or this crate assigns: descriptors, tasks, children.
//!
//! No outside input chooses the keys, so the hash function needs no protection against collisions.
//! A map that has shrunk a lot releases its memory: a server that once had ten thousand connections
//! should not keep it, nor iterate over empty buckets for every snapshot.

use std::hash::Hash;

use rustc_hash::FxHashMap;

pub(crate) type IntMap<K, V> = FxHashMap<K, V>;

/// Capacity up to this is kept, independent of the number of entries.
const CAPACITY_MIN: usize = 256;

/// A map with a capacity of more than this many times its length is shrunk.
const CAPACITY_FACTOR: usize = 8;

/// Removes an entry, and shrinks the map if it has become much too large.
pub(crate) fn remove<K: Eq + Hash, V>(map: &mut IntMap<K, V>, key: &K) -> Option<V> {
    let removed = map.remove(key)?;
    if map.capacity() > CAPACITY_MIN && map.len() < map.capacity() / CAPACITY_FACTOR {
        map.shrink_to(2 * map.len());
    }
    Some(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_shrinks_releases_its_memory() {
        let mut map: IntMap<u64, u64> = (0..10_000).map(|number| (number, number)).collect();
        assert!(map.capacity() >= 10_000);
        for number in 1..10_000 {
            assert_eq!(remove(&mut map, &number), Some(number));
        }
        assert_eq!(remove(&mut map, &1), None);
        assert_eq!(map.get(&0), Some(&0));
        assert!(map.capacity() <= CAPACITY_MIN, "{}", map.capacity());
    }
}
