//! `Order`: an axis with one column for each event that is drawn.

use super::{At, Timeline};

/// The lines that are drawn, in their order.
#[derive(Clone, Debug)]
pub struct Order {
    columns: Vec<u32>,
    has_open: bool,
}

impl Timeline {
    /// The steps and findings of the lanes, in the order of their lines.
    #[must_use]
    pub fn order(&self) -> Order {
        let marks = self.resources().flat_map(|(_, it)| it.marks.iter().map(|it| it.at));
        let ends = self.resources().filter_map(|(_, it)| it.end.map(|(at, _)| at));
        let findings = self.findings.iter().map(|it| it.at);
        let mut columns: Vec<_> =
            marks.chain(ends).chain(findings).map(|it| it.column).filter(|it| *it > 0).collect();
        columns.sort_unstable();
        columns.dedup();
        let has_open = self.resources().any(|(_, it)| it.end.is_none());
        Order { columns, has_open }
    }
}

impl Order {
    /// The number of columns, 1 at least.
    #[must_use]
    pub fn count(&self) -> usize {
        self.columns.len().max(1)
    }

    /// The columns to leave room for: one more, if something is open at the end.
    #[must_use]
    pub fn room(&self) -> usize {
        self.count() + usize::from(self.has_open)
    }

    /// The column of a position: that of the last event drawn not after it, the first one otherwise.
    #[must_use]
    pub fn column(&self, at: At) -> usize {
        self.columns.partition_point(|it| *it <= at.column).saturating_sub(1)
    }
}
