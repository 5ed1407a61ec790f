//! The tasks: a bar each, from start to end, in the owner's colour, with the name.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::{Axis, Canvas, LETTER, MARGIN, task_name};
use crate::columns::{cut, width};
use crate::timeline::Timeline;

/// The maximum number of tasks.
const TASKS_MAX: usize = 24;
const ROW: f64 = 21.0;
const BAR: f64 = 17.0;

impl Canvas<'_> {
    pub(super) fn tasks(&mut self) {
        let tasks = tree(self.timeline);
        let longest = self.longest(&tasks);
        for task in tasks.iter().filter(|task| longest.contains(task)) {
            self.task(*task);
        }
        if let Some(rest @ 1..) = tasks.len().checked_sub(longest.len()) {
            self.y += 14.0;
            self.xml
                .element("text")
                .attribute("class", "m")
                .number("x", MARGIN)
                .number("y", self.y)
                .text(&format!("{rest} shorter tasks not drawn"));
            self.y += 6.0;
        }
        self.y += 8.0;
    }

    /// The tasks to draw: those of findings, and those with the longest bars.
    fn longest(&self, tasks: &[usize]) -> HashSet<usize> {
        let mut tasks = tasks.to_vec();
        if tasks.len() > TASKS_MAX {
            let found: HashSet<_> =
                self.timeline.findings.iter().filter_map(|it| it.task).collect();
            tasks.sort_by_cached_key(|task| {
                let (left, right) = self.ends(*task);
                (!found.contains(task), Reverse((right - left) as u64))
            });
            tasks.truncate(TASKS_MAX);
        }
        tasks.into_iter().collect()
    }

    /// The ends of a task's bar.
    fn ends(&self, task: usize) -> (f64, f64) {
        let (task, scale) = (&self.timeline.tasks[task], &self.scale);
        let left = scale.x(task.first);
        let right = task.end.as_ref().map_or(scale.right(), |(at, _)| scale.x(*at));
        (left, right.max(left + 4.0))
    }

    fn task(&mut self, index: usize) {
        let timeline = self.timeline;
        let task = &timeline.tasks[index];
        let scale = &self.scale;
        let (left, right) = self.ends(index);
        let colour = self.colours[index].unwrap_or_default();
        let mut label = task_name(task);
        match &task.end {
            Some((_, outcome)) if &**outcome != "returned" => label += &format!(", {outcome}"),
            None if task.cancelled.is_some() => label += ", cancelled",
            _ => {}
        }
        let mut title = label.clone();
        if let Some(parent) = task.parent {
            title += &format!(", child of {}", self.name(Some(parent)));
        }
        if let Some(name) = &task.thread_name {
            title += &format!(", thread `{name}`");
            if scale.axis == Axis::Time {
                title += &task.thread.map(|id| format!(" ({id})")).unwrap_or_default();
                label += &format!(", thread `{name}`");
            }
        }
        if let Some(site) = &task.site {
            title += &format!(", spawned at {site}");
        }
        self.xml.element("g").open();
        self.xml.element("title").text(&title);
        for (class, from, to) in [("tint", left, right), ("", left, left + 4.0)] {
            self.xml
                .element("rect")
                .attribute("class", format!("o{colour} {class}").trim_end())
                .number("x", from)
                .number("y", self.y)
                .number("width", to - from)
                .number("height", BAR)
                .empty();
        }
        // To the right of the start, or to the left of it if there is no room.
        let room = self.scale.width - 2.0 * MARGIN;
        let label = cut(&label, (room / LETTER) as usize);
        let length = width(&label) as f64 * LETTER;
        let is_left = left + 8.0 + length > self.scale.width - MARGIN && left > room / 2.0;
        let x = if is_left { left - 5.0 } else { left + 8.0 };
        let bad = task.end.as_ref().is_some_and(|(_, outcome)| &**outcome == "panicked");
        self.xml
            .element("text")
            .attribute("class", if bad { "red" } else { "" })
            .attribute("text-anchor", if is_left { "end" } else { "start" })
            .number("x", x)
            .number("y", self.y + 12.5)
            .text(&label);
        self.xml.close();
        self.y += ROW;
    }
}

/// The tasks that are drawn, children after their parents.
fn tree(timeline: &Timeline) -> Vec<usize> {
    let drawn = timeline.tasks_drawn();
    let mut is_drawn = vec![false; timeline.tasks.len()];
    drawn.iter().for_each(|task| is_drawn[*task] = true);
    // The nearest ancestor that is drawn. A recording from elsewhere can have a cycle.
    let ancestor = |task: usize| {
        let parents =
            std::iter::successors(timeline.tasks[task].parent, |it| timeline.tasks[*it].parent);
        parents.take(timeline.tasks.len()).find(|it| is_drawn[*it])
    };
    let mut children = vec![Vec::new(); timeline.tasks.len()];
    let mut waiting = Vec::new();
    for task in drawn.iter().rev() {
        match ancestor(*task) {
            Some(parent) => children[parent].push(*task),
            None => waiting.push(*task),
        }
    }
    let mut sorted = Vec::new();
    while let Some(task) = waiting.pop() {
        sorted.push(task);
        waiting.append(&mut children[task]);
    }
    // What is in a cycle.
    sorted.iter().for_each(|task| is_drawn[*task] = false);
    sorted.extend(drawn.into_iter().filter(|task| is_drawn[*task]));
    sorted
}
