//! What the model keeps, in numbers: tests check its limits with it.

use super::Model;

/// How much the model keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) tasks: usize,
    pub(super) processes: usize,
    pub(super) tables: usize,
    /// Numbers that are or were open, of all tables.
    pub(super) slots: usize,
    /// Steps of their histories. Copies of a table share them.
    pub(super) steps: usize,
    /// Places that create descriptors, of all tables.
    pub(super) sites: usize,
    pub(super) passings: usize,
    /// Failures of runs that have not ended.
    pub(super) pending: usize,
    pub(super) findings: usize,
}

impl Model {
    pub(super) fn size(&self) -> Size {
        let runs = self.tasks.values().flat_map(|task| [&task.close_run, &task.use_run]);
        let mut size = Size {
            tasks: self.tasks.len(),
            processes: self.processes.len(),
            passings: self.passings.len(),
            pending: runs.flatten().map(|run| run.failures().len()).sum(),
            findings: self.record.findings().len(),
            ..Size::default()
        };
        for table in self.tables.values() {
            size.tables += 1;
            size.slots += table.slots().count();
            size.steps += table.slots().map(|slot| slot.past.steps.len()).sum::<usize>();
            size.sites += table.sites.len();
        }
        size
    }
}
