//! Coverage: how much of the program the model saw.

use echown_report::{Coverage, CoverageGap, GapKind};

use crate::event::Gap;
use crate::model::{Model, Occurrences};

/// How much of the program the model saw.
pub(super) fn coverage(model: &Model) -> Coverage {
    let seen = model.coverage();
    let found = |kind, Occurrences { count, processes }: &Occurrences| CoverageGap {
        kind,
        processes: processes.iter().map(|it| super::process(it)).collect(),
        count: *count,
    };
    let gap = |(gap, occurrences): (&Gap, &Occurrences)| {
        let kind = match gap {
            Gap::IoUring => GapKind::IoUring,
            Gap::Calls32 => GapKind::Calls32,
            Gap::NestedTracer => GapKind::NestedTracer,
            Gap::SeccompNotify => GapKind::SeccompNotify,
            Gap::Hidden => GapKind::Hidden,
            Gap::Missed => GapKind::Missed,
        };
        found(kind, occurrences)
    };
    let mut gaps: Vec<CoverageGap> = seen.gaps.iter().map(gap).collect();
    if seen.mismatches.count > 0 {
        gaps.push(found(GapKind::Mismatch, &seen.mismatches));
    }
    Coverage {
        processes: model.process_total(),
        descriptors: model.opened_total(),
        checks: seen.checks,
        mismatches: seen.mismatches.count,
        dropped: seen.dropped,
        gaps,
    }
}
