//! Builds a timeline from lines, one after the other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use echown_fd::escape;

use super::{At, End, Finding, Lane, Mark, Resource, STEPS_MAX, Span, State, Task, Timeline};
use crate::line::{Kind, Line, TaskName};

/// Lane and resource, as indices.
type Place = (usize, usize);

/// What a lane is found by.
#[derive(Debug, PartialEq, Eq, Hash)]
enum LaneKey {
    /// The table (that of the process, if the line has none) and the number.
    Number(u32, i32),
    /// Process and resource.
    Resource(u32, u64),
}

/// A timeline that is being built. Lines are added as they are read.
#[derive(Debug, Default)]
pub struct Builder {
    timeline: Timeline,
    /// The time of the first line.
    start_ns: Option<u64>,
    columns: u32,
    steps: usize,
    lanes: HashMap<LaneKey, usize>,
    resources: HashMap<(u32, u64), Place>,
    /// Per lane the resource that has it now, and how many have had it; halves are not counted.
    current: HashMap<usize, (usize, u64)>,
    /// Per process and whole its halves.
    halves: HashMap<(u32, u64), Vec<Place>>,
    tasks: HashMap<(u32, u64), usize>,
    /// Whether ids are unique in the recording and not only in their process: those of a tracer.
    has_unique_ids: bool,
    /// Sites and names: a large recording has few of them, and many times each.
    texts: HashSet<Arc<str>>,
}

impl Builder {
    /// Adds the next line.
    pub fn add(&mut self, line: &Line) {
        let start_ns = *self.start_ns.get_or_insert(line.time_ns);
        match line.event {
            Kind::Recording => {
                self.timeline.program = line.program.as_deref().map(|it| self.text(it));
                self.has_unique_ids = line.source.as_deref() == Some("tracer");
                return;
            }
            Kind::Live | Kind::Unknown => return,
            Kind::End => {
                self.timeline.is_complete = true;
                let time_ns = line.time_ns.saturating_sub(start_ns);
                self.timeline.end.time_ns = self.timeline.end.time_ns.max(time_ns);
                return;
            }
            Kind::Declared => {
                self.timeline.declared += 1;
                return;
            }
            _ => {}
        }
        let at = if line.replayed == Some(true) {
            At::default()
        } else {
            // `u32::MAX` lines are more than a terabyte.
            self.columns = self.columns.saturating_add(1);
            At { column: self.columns, time_ns: line.time_ns.saturating_sub(start_ns) }
        };
        let end = &mut self.timeline.end;
        *end = At { column: end.column.max(at.column), time_ns: end.time_ns.max(at.time_ns) };
        match line.event {
            Kind::TaskStarted | Kind::TaskCancelled | Kind::TaskEnded => self.task_line(line, at),
            Kind::Leaked | Kind::Violation => self.finding(line, at),
            Kind::Lost => self.timeline.lost.push((at, line.count.unwrap_or(1))),
            event if event.is_step() => self.step(line, at),
            _ => {}
        }
    }

    /// The timeline. What is open ends with it.
    #[must_use]
    pub fn finish(mut self) -> Timeline {
        let end = self.timeline.end;
        for lane in &mut self.timeline.lanes {
            for resource in &mut lane.resources {
                if resource.end.is_none()
                    && let Some(span) = resource.spans.last_mut()
                {
                    span.to = end;
                }
            }
        }
        self.timeline
    }

    /// A text of a line, escaped: a recording can come from elsewhere, and its texts end in terminals.
    fn text(&mut self, text: &str) -> Arc<str> {
        let text = &*escape::text(text);
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// The process in which the ids of a line are unique.
    fn scope(&self, line: &Line) -> u32 {
        if self.has_unique_ids { 0 } else { line.process.unwrap_or_default() }
    }

    fn task(&mut self, line: &Line, name: &TaskName, at: At) -> usize {
        let process = line.process.unwrap_or_default();
        let scope = self.scope(line);
        let tasks = &mut self.timeline.tasks;
        *self.tasks.entry((scope, name.id)).or_insert_with(|| {
            tasks.push(Task {
                process,
                id: name.id,
                name: escape::name(Arc::clone(&name.name)),
                parent: None,
                first: at,
                start: None,
                cancelled: None,
                end: None,
                thread: None,
                thread_name: None,
                site: None,
            });
            tasks.len() - 1
        })
    }

    fn task_line(&mut self, line: &Line, at: At) {
        let Some(name) = &line.task else { return };
        let index = self.task(line, name, at);
        let parent =
            line.parent.as_ref().map(|it| self.task(line, it, at)).filter(|it| *it != index);
        let site = line.site.as_deref().map(|it| self.text(it));
        let outcome = self.text(line.outcome.as_deref().unwrap_or("ended"));
        let task = &mut self.timeline.tasks[index];
        match line.event {
            Kind::TaskStarted => {
                task.start = Some(at);
                task.parent = parent;
                task.thread = line.thread;
                task.thread_name = line.thread_name.clone().map(escape::name);
                task.site = site;
            }
            Kind::TaskCancelled => task.cancelled = Some(at),
            _ => task.end = Some((at, outcome)),
        }
    }

    fn finding(&mut self, line: &Line, at: At) {
        let process = self.scope(line);
        let ids = line.resources.iter().flatten();
        let resources: Vec<_> =
            ids.filter_map(|id| self.resources.get(&(process, *id)).copied()).collect();
        let index = self.timeline.findings.len();
        for (lane, resource) in &resources {
            self.timeline.lanes[*lane].resources[*resource].findings.push(index);
        }
        let task = line.task.as_ref().map(|it| self.task(line, it, at));
        let code = line.code.as_deref().map(|it| self.text(it));
        let site = line.site.as_deref().map(|it| self.text(it));
        let message = escape::text(line.message.as_deref().unwrap_or(line.event.as_str())).into();
        let kind = line.event;
        self.timeline.findings.push(Finding { at, kind, code, message, task, site, resources });
    }

    fn step(&mut self, line: &Line, at: At) {
        let Some(id) = line.resource else { return };
        let is_end = line.event.is_final() || line.event == Kind::Replaced;
        if self.steps >= STEPS_MAX && !is_end {
            self.timeline.omitted += 1;
            return;
        }
        self.steps += 1;
        let from = line.from.as_ref().map(|it| self.task(line, it, at));
        let to = line.to.as_ref().map(|it| self.task(line, it, at));
        let mark = Mark {
            at,
            kind: line.event,
            from,
            to,
            thread: line.thread,
            site: line.site.as_deref().map(|it| self.text(it)),
            call: line.call.as_deref().map(|it| self.text(it)),
        };
        let place = self.place(line, id, at);
        if line.event == Kind::Rejoined && line.half_of.is_none() {
            self.end_halves(self.scope(line), id, at, End::Rejoined);
        }
        let resource = &mut self.timeline.lanes[place.0].resources[place.1];
        apply(resource, mark, line.half_of.is_some(), line.replayed == Some(true));
    }

    /// The resource of a line; a new one, if the line is the first about it.
    fn place(&mut self, line: &Line, id: u64, at: At) -> Place {
        let process = self.scope(line);
        if let Some(place) = self.resources.get(&(process, id)) {
            return *place;
        }
        let lane = self.lane(line, process, id);
        let half = line.half_of.map(|of| (of, self.text(line.half.as_deref().unwrap_or("half"))));
        let next = self.timeline.lanes[lane].resources.len();
        let before = self.current.get(&lane).copied();
        let mut count = before.map_or(0, |(_, count)| count);
        if let Some((whole, _)) = half {
            self.halves.entry((process, whole)).or_default().push((lane, next));
        } else {
            count += 1;
            self.current.insert(lane, (next, count));
            if let Some((before, _)) = before {
                let whole = self.timeline.lanes[lane].resources[before].id;
                self.end_halves(process, whole, at, End::Unknown);
                let before = &mut self.timeline.lanes[lane].resources[before];
                if before.end.is_none() {
                    end(before, at, End::Unknown);
                }
            }
        }
        let optional =
            |this: &mut Builder, text: &Option<String>| text.as_deref().map(|it| this.text(it));
        let local = optional(self, &line.local);
        let peer = optional(self, &line.peer);
        let path = optional(self, &line.path);
        let kind = self.text(line.kind.as_deref().unwrap_or("resource"));
        let resources = &mut self.timeline.lanes[lane].resources;
        let generation = line.generation.unwrap_or(count);
        resources.push(Resource {
            id,
            kind,
            generation,
            half,
            local,
            peer,
            path,
            spans: Vec::new(),
            marks: Vec::new(),
            end: None,
            findings: Vec::new(),
        });
        let place = (lane, resources.len() - 1);
        self.resources.insert((process, id), place);
        place
    }

    fn lane(&mut self, line: &Line, process: u32, id: u64) -> usize {
        // A half is in the lane of its whole, whether it has the number or not.
        if let Some(whole) = line.half_of
            && let Some((lane, _)) = self.resources.get(&(process, whole))
        {
            return *lane;
        }
        let key = match line.number {
            Some(number) => LaneKey::Number(line.table.unwrap_or(process), number),
            None => LaneKey::Resource(process, id),
        };
        let process = line.process.unwrap_or_default();
        let is_traced = self.has_unique_ids;
        let lanes = &mut self.timeline.lanes;
        *self.lanes.entry(key).or_insert_with(|| {
            lanes.push(Lane { process, is_traced, number: line.number, resources: Vec::new() });
            lanes.len() - 1
        })
    }

    /// Ends the halves of a whole whose own steps are missing.
    fn end_halves(&mut self, process: u32, whole: u64, at: At, how: End) {
        for (lane, half) in self.halves.remove(&(process, whole)).into_iter().flatten() {
            let half = &mut self.timeline.lanes[lane].resources[half];
            if half.end.is_none() {
                end(half, at, how);
            }
        }
    }
}

/// Applies a step to its resource.
fn apply(resource: &mut Resource, mark: Mark, is_half: bool, is_replayed: bool) {
    let (at, from, to) = (mark.at, mark.from, mark.to);
    let owner = resource.spans.last().and_then(|it| it.owner);
    if resource.spans.is_empty() && mark.kind != Kind::Acquired && resource.end.is_none() {
        // What happened before is missing.
        resource.spans.push(Span { from: at, to: at, owner: from, state: State::Owned });
    }
    match mark.kind {
        Kind::Split => next_span(resource, at, None, State::Split),
        Kind::Offered => next_span(resource, at, from.or(owner), State::Offered),
        Kind::Parked => next_span(resource, at, to, State::Parked),
        // The offer passed to the parent's account, and no task has claimed it.
        Kind::Inherited => next_span(resource, at, to, State::Offered),
        // The owner keeps it until the other process has taken over.
        Kind::Shared => {}
        Kind::Cancelled => next_span(resource, at, from.or(owner), State::Cancelled),
        Kind::Rejoined if is_half => end(resource, at, End::Rejoined),
        Kind::Replaced => end(resource, at, End::Replaced),
        Kind::Disowned => end(resource, at, End::Disowned),
        kind if kind.is_final() => end(resource, at, End::Closed),
        _ => next_span(resource, at, to, State::Owned),
    }
    if !is_replayed {
        resource.marks.push(mark);
    }
}

fn next_span(resource: &mut Resource, at: At, owner: Option<usize>, state: State) {
    // A step after the end comes from another order of lines than of steps.
    if resource.end.is_some() {
        return;
    }
    close_span(resource, at);
    let from = resource.spans.last().map_or(at, |it| it.to);
    if resource.spans.last().is_some_and(|it| it.from == it.to) {
        resource.spans.pop();
    }
    resource.spans.push(Span { from, to: from, owner, state });
}

fn end(resource: &mut Resource, at: At, end: End) {
    match &mut resource.end {
        None => {
            close_span(resource, at);
            let at = resource.spans.last().map_or(at, |it| it.to);
            resource.end = Some((at, end));
        }
        // The line comes late: the number was already reused.
        Some((_, known)) if *known == End::Unknown => *known = end,
        Some(_) => {}
    }
}

/// Ends the last span, not before its beginning.
fn close_span(resource: &mut Resource, at: At) {
    if let Some(span) = resource.spans.last_mut() {
        span.to = At {
            column: at.column.max(span.from.column),
            time_ns: at.time_ns.max(span.from.time_ns),
        };
    }
}
