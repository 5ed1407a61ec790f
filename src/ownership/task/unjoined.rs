//! Ended children whose promises were dropped: what their parent's outcome says of them.
//!
//! A parent that lives long and drops promises would keep every ended child until its own end. What
//! it needs of one is the name, and of many not even that.

use echown_report::TaskLabel;

/// How many are named; others are counted.
const NAMED_MAX: usize = 256;

/// Ended children that were neither joined, cancelled nor handed over, by the registry that they
/// were at registry_id in.
#[derive(Default)]
pub(crate) struct UnjoinedNames {
    named: Vec<(u64, TaskLabel)>,
    omitted: u32,
}

impl UnjoinedNames {
    pub(super) fn push(&mut self, registry_id: u64, child: TaskLabel) {
        if self.named.len() < NAMED_MAX {
            self.named.push((registry_id, child));
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    /// Takes those of one registry, or all of them; and how many are not named.
    pub(crate) fn take(&mut self, registry_id: Option<u64>) -> (Vec<TaskLabel>, u32) {
        let wanted = |(theirs, _): &mut (u64, _)| {
            registry_id.is_none_or(|registry_id| *theirs == registry_id)
        };
        let taken = self.named.extract_if(.., wanted).map(|(_, child)| child).collect();
        (taken, std::mem::take(&mut self.omitted))
    }
}
