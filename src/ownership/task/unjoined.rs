//! The names of ended children whose promises were dropped, for their parent's result.
//!
//! A parent that runs long and drops promises would otherwise keep every ended child until its own end.
//! It needs only the names, and above a limit only their number.

use echown_report::TaskLabel;

/// How many names are kept; further children are only counted.
const NAMED_MAX: usize = 256;

/// Ended children that were neither joined, cancelled nor handed over, with the registries they were
/// spawned for.
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

    /// Takes the names of one registry, or all of them, and the number of children without a name.
    pub(crate) fn take(&mut self, registry_id: Option<u64>) -> (Vec<TaskLabel>, u32) {
        let wanted = |(theirs, _): &mut (u64, _)| {
            registry_id.is_none_or(|registry_id| *theirs == registry_id)
        };
        let taken = self.named.extract_if(.., wanted).map(|(_, child)| child).collect();
        (taken, std::mem::take(&mut self.omitted))
    }
}
