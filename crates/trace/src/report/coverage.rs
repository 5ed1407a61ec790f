//! Coverage: how much of the program the model saw.

use echown_report::{Coverage, CoverageGap, GapKind};

use crate::event::Gap;
use crate::model::Model;

/// How much of the program the model saw.
pub(super) fn coverage(model: &Model) -> Coverage {
    let seen = model.coverage();
    let gap = |(gap, count): (&Gap, &u64)| {
        let kind = match gap {
            Gap::IoUring => GapKind::IoUring,
            Gap::Calls32 => GapKind::Calls32,
            Gap::NestedTracer => GapKind::NestedTracer,
            Gap::SeccompNotify => GapKind::SeccompNotify,
            Gap::Stacks => GapKind::Stacks,
            Gap::Missed => GapKind::Missed,
        };
        CoverageGap { kind, process: None, count: *count }
    };
    let mut gaps: Vec<CoverageGap> = seen.gaps.iter().map(gap).collect();
    if seen.mismatches > 0 {
        gaps.push(CoverageGap { kind: GapKind::Mismatch, process: None, count: seen.mismatches });
    }
    Coverage {
        processes: model.process_total(),
        descriptors: model.opened_total(),
        checks: seen.checks,
        mismatches: seen.mismatches,
        dropped: seen.dropped,
        gaps,
    }
}
