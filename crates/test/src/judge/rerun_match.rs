//! The matcher of two runs: finds the descriptor of the second run that corresponds to one of the first.

use super::super::message::Left;
use super::ChildReport;
use echown_report::Descriptor;

/// The descriptors that the second run left open. Each is matched with at most one of the first
/// run.
pub(super) struct RerunMatch<'a> {
    left: Vec<(&'a Left, Option<bool>)>,
    /// The kind of each descriptor, and whether it recurs.
    kinds: Vec<(&'a str, Option<bool>)>,
}

impl<'a> RerunMatch<'a> {
    pub(super) fn new(second: Option<&'a ChildReport>) -> RerunMatch<'a> {
        let Some((run, ended)) = second.and_then(|run| Some((run, run.ended.as_ref()?))) else {
            return RerunMatch { left: Vec::new(), kinds: Vec::new() };
        };
        let recurs = |index| run.recurs.as_ref().and_then(|all| all.get(index)).copied();
        let left = ended.left.iter().enumerate().map(|(index, left)| (left, recurs(index)));
        let left: Vec<_> = left.collect();
        let kinds = left.iter().map(|(left, recurs)| (&*left.descriptor.kind, *recurs)).collect();
        RerunMatch { left, kinds }
    }

    /// Whether the second run left some descriptors of this kind, but fewer than the first, and
    /// none recurs. For example, each thread of a pool has one, and the number of active threads
    /// varies.
    pub(super) fn is_once_per_process(&self, kind: &str) -> bool {
        let mut alike = self.kinds.iter().filter(|(known, _)| *known == kind).peekable();
        alike.peek().is_some() && alike.all(|(_, recurs)| *recurs == Some(false))
    }

    /// Takes the most similar descriptor of the same kind: by number and path, by number, by path,
    /// or by kind alone.
    pub(super) fn take_like(&mut self, left: &Left) -> Option<(&'a Left, Option<bool>)> {
        let wanted = &left.descriptor;
        let likeness = |other: &Descriptor| {
            let same_path = wanted.path.is_some() && other.path == wanted.path;
            u8::from(other.number == wanted.number) * 2 + u8::from(same_path)
        };
        let candidates = self.left.iter().enumerate();
        let of_kind = candidates.filter(|(_, (it, _))| it.descriptor.kind == wanted.kind);
        // Of equally similar descriptors, the first: both lists are ordered by number.
        let best = of_kind.rev().max_by_key(|(_, (it, _))| likeness(&it.descriptor))?.0;
        Some(self.left.remove(best))
    }
}
