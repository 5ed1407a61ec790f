//! Statistics of the places that create descriptors, for each table.

use rustc_hash::FxHashMap;

use crate::finding::Opening;
use crate::stack::StackId;

/// A place that creates descriptors: its call and its stack.
pub(super) type SiteKey = (&'static str, StackId);

/// The place of a creation.
pub(super) fn site_of(opening: &Opening) -> SiteKey {
    (opening.call, opening.stack)
}

/// What became of the descriptors that one place created.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site {
    /// The number of those that were closed.
    pub(super) closed: u64,
    /// The longest time that one of them was open.
    pub(super) longest_ns: u64,
}

/// The places of one table.
pub(super) type Sites = FxHashMap<SiteKey, Site>;
