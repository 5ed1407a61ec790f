//! `Selection`: the part of a timeline to draw.

use super::{At, Resource, Timeline};

/// What to keep. The default keeps all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Resources that a task with one of these texts in its name owned; empty: all.
    pub tasks: Vec<String>,
    /// These resources and their halves, by id; empty: all.
    pub resources: Vec<u64>,
    /// From here, in nanoseconds since the beginning.
    pub from_ns: Option<u64>,
    /// Up to here.
    pub to_ns: Option<u64>,
}

impl Timeline {
    /// The selected part. Lanes without a selected resource are removed.
    #[must_use]
    pub fn select(mut self, selection: &Selection) -> Timeline {
        let from_ns = selection.from_ns.unwrap_or(0);
        let to_ns = selection.to_ns.unwrap_or(u64::MAX);
        let is_selected: Vec<bool> = self
            .tasks
            .iter()
            .map(|task| selection.tasks.iter().any(|it| task.name.contains(it.as_str())))
            .collect();
        let is_wanted = |resource: &Resource| {
            let by_id = selection.resources.is_empty()
                || selection.resources.contains(&resource.id)
                || resource.half.as_ref().is_some_and(|(of, _)| selection.resources.contains(of));
            let by_task = selection.tasks.is_empty()
                || resource.spans.iter().filter_map(|it| it.owner).any(|it| is_selected[it]);
            by_id
                && by_task
                && resource.start().time_ns <= to_ns
                && resource.last().time_ns >= from_ns
        };
        let mut places = Vec::new();
        let mut lanes = Vec::new();
        for mut lane in std::mem::take(&mut self.lanes) {
            let mut kept = 0;
            let mut new_places = Vec::new();
            lane.resources.retain(|resource| {
                let is_kept = is_wanted(resource);
                new_places.push(is_kept.then_some((lanes.len(), kept)));
                kept += usize::from(is_kept);
                is_kept
            });
            if kept > 0 {
                lanes.push(lane);
            }
            places.push(new_places);
        }
        self.lanes = lanes;
        self.select_findings(&places, selection, from_ns..=to_ns);
        if selection.from_ns.is_some() || selection.to_ns.is_some() {
            self.clip(from_ns, to_ns);
        }
        self
    }

    fn select_findings(
        &mut self,
        places: &[Vec<Option<(usize, usize)>>],
        selection: &Selection,
        times: std::ops::RangeInclusive<u64>,
    ) {
        let is_narrow = !selection.tasks.is_empty() || !selection.resources.is_empty();
        let mut indices = Vec::new();
        let mut kept = Vec::new();
        for mut finding in std::mem::take(&mut self.findings) {
            let all = finding.resources.iter();
            finding.resources = all.filter_map(|(lane, it)| places[*lane][*it]).collect();
            let is_kept =
                times.contains(&finding.at.time_ns) && !(is_narrow && finding.resources.is_empty());
            indices.push(is_kept.then_some(kept.len()));
            if is_kept {
                kept.push(finding);
            }
        }
        self.findings = kept;
        for resource in self.lanes.iter_mut().flat_map(|it| &mut it.resources) {
            resource.findings = resource.findings.iter().filter_map(|it| indices[*it]).collect();
        }
    }

    /// Cuts spans, removes marks outside, and moves the beginning to `from_ns`.
    fn clip(&mut self, from_ns: u64, to_ns: u64) {
        let to_ns = to_ns.min(self.end.time_ns).max(from_ns);
        let moved = |at: At| At { time_ns: at.time_ns.clamp(from_ns, to_ns) - from_ns, ..at };
        let is_inside = |at: At| (from_ns..=to_ns).contains(&at.time_ns);
        for resource in self.lanes.iter_mut().flat_map(|it| &mut it.resources) {
            resource.spans.retain(|it| it.to.time_ns >= from_ns && it.from.time_ns <= to_ns);
            for span in &mut resource.spans {
                (span.from, span.to) = (moved(span.from), moved(span.to));
            }
            resource.marks.retain(|it| is_inside(it.at));
            for mark in &mut resource.marks {
                mark.at = moved(mark.at);
            }
            resource.end = resource.end.filter(|(at, _)| is_inside(*at));
            if let Some((at, _)) = &mut resource.end {
                *at = moved(*at);
            }
        }
        for task in &mut self.tasks {
            task.first = moved(task.first);
            task.start = task.start.map(moved);
            task.cancelled = task.cancelled.filter(|at| is_inside(*at)).map(moved);
            task.end = task.end.take().filter(|(at, _)| at.time_ns <= to_ns);
            if let Some((at, _)) = &mut task.end {
                *at = moved(*at);
            }
        }
        for finding in &mut self.findings {
            finding.at = moved(finding.at);
        }
        self.lost.retain(|(at, _)| is_inside(*at));
        for (at, _) in &mut self.lost {
            *at = moved(*at);
        }
        self.end = moved(self.end);
    }
}
