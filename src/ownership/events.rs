//! Subscriptions: what happens in a registry, for observers: a recording, the live page.
//!
//! A subscription begins with the state at that moment: the running tasks, and the custody of each open
//! resource, as the events that led to it. So an observer needs one way to show the past and the
//! present. A step that was recorded while the subscription began is in both; it is delivered once.
//!
//! The program does not wait for observers: see [`echown_events::Queue`].
//!
//! # Limits
//!
//! - Closed resources and ended tasks are not part of the state at the beginning, and of a long custody
//!   the middle is missing.
//! - An event names the thread and the time, but between threads the order in the queue may differ from
//!   the order of the times.
//! - At level `off` the state at the beginning names the current owner only.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use echown_events::{Addresses, Encoder, Event, Kind, Line, Program, Queue, ResourceName, What};
use echown_fd::escape;
use echown_fd::fd::FdAddresses;
use echown_report::{Event as Step, Report, ResourceId, TaskId};

use super::fd_table;
use super::moment::Moment;
use super::record::{Labelled, Record};
use super::registry::Registry;
use super::snapshot;
use super::task::{self, Task};

type Render = Box<dyn Fn(&Report) -> String + Send + Sync>;

/// An observer of a registry's events, as [lines](Line).
///
/// # Examples
/// ```
/// use echown::events::Kind;
/// use echown::ownership::Registry;
///
/// let registry = Registry::new();
/// let mut subscription = registry.subscribe(1024);
/// registry.run("writer", || drop(registry.own(String::from("text")))).expect("it leaves nothing");
/// let kinds: Vec<Kind> = subscription.next_lines(100).iter().map(|line| line.event).collect();
/// let expected = [Kind::Live, Kind::TaskStarted, Kind::Acquired, Kind::Dropped, Kind::TaskEnded];
/// assert_eq!(kinds, expected);
/// ```
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription {
    registry: Registry,
    queue: Arc<Queue>,
    encoder: Encoder,
    render: Render,
    /// What is left of the state at the beginning, the next event last.
    past: Vec<Event>,
    /// Whether the line that ends the past was delivered.
    is_live: bool,
    /// What the past contains, and may be in the queue as well.
    known: KnownEvents,
}

/// The events that the past contains.
#[derive(Default)]
struct KnownEvents {
    /// The time of the last step of each resource.
    steps: HashMap<ResourceId, u64>,
    tasks: HashSet<TaskId>,
    /// Times of reports.
    reports: HashSet<u64>,
}

impl Registry {
    /// Observes the registry. Of the events that have not been taken yet, at most `capacity` are kept;
    /// further ones are lost and counted ([`Kind::Lost`]).
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        let queue = Arc::new(Queue::new(capacity));
        // First the queue, then the state: what happens between the two is in both.
        self.observe(&queue, true);
        let mut known = KnownEvents::default();
        let mut past = past(self, &mut known);
        past.reverse();
        Subscription {
            registry: self.clone(),
            queue,
            encoder: Encoder::new(),
            render: Box::new(Report::to_string),
            past,
            is_live: false,
            known,
        }
    }
}

/// Publishes a message of the current task to the observers of the current registry.
pub(crate) fn publish_message(text: &dyn fmt::Display) {
    let registry = Registry::current();
    if registry.is_watched() {
        let task = task::current(&registry).shared_label();
        let text = escape::text(&text.to_string()).into_owned();
        registry.publish_now(What::Message { task, text });
    }
}

impl Subscription {
    /// Sets how reports are written; by default as in their `Display`.
    pub fn render_reports(
        mut self,
        render: impl Fn(&Report) -> String + Send + Sync + 'static,
    ) -> Subscription {
        self.render = Box::new(render);
        self
    }

    /// The first line of a recording of `program`.
    #[must_use]
    pub fn header(&self, program: &str) -> Line {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.encoder.header(Moment::now().nanos(), since_1970.as_millis() as u64, program)
    }

    /// The last line of a recording.
    #[must_use]
    pub fn end(&self, reason: &'static str) -> Line {
        let mut end = Line::new(Kind::End, Moment::now().nanos());
        end.reason = Some(reason.into());
        end
    }

    /// The next lines, at most `max` and one for lost events; none if nothing has happened since the
    /// last call. Does not wait.
    pub fn next_lines(&mut self, max: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        while lines.len() < max
            && let Some(event) = self.past.pop()
        {
            let mut line = self.encode(&event);
            line.replayed = Some(true);
            lines.push(line);
        }
        if !self.is_live && lines.len() < max {
            self.is_live = true;
            lines.push(Line::new(Kind::Live, Moment::now().nanos()));
        }
        while lines.len() < max
            && let Some(event) = self.queue.pop()
        {
            if !self.known.contains(&event) {
                lines.push(self.encode(&event));
            }
        }
        let lost = if self.is_live { self.queue.take_lost() } else { 0 };
        if lost > 0 {
            let mut line = Line::new(Kind::Lost, Moment::now().nanos());
            line.count = Some(lost);
            lines.push(line);
        }
        lines
    }

    fn encode(&mut self, event: &Event) -> Line {
        let program = Observed { registry: &self.registry, render: &self.render };
        self.encoder.encode(event, &program)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.registry.observe(&self.queue, false);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({:?})", self.registry)
    }
}

impl KnownEvents {
    /// Whether the past contains an event of the queue.
    fn contains(&mut self, event: &Event) -> bool {
        match &event.what {
            What::Step { resource, .. } => {
                let Some(last) = self.steps.get(&resource.id) else { return false };
                let is_known = event.time_ns <= *last;
                if !is_known {
                    self.steps.remove(&resource.id);
                }
                is_known
            }
            What::TaskStarted { task, .. } => self.tasks.remove(&task.id),
            What::Finding(_) => self.reports.remove(&event.time_ns),
            _ => false,
        }
    }
}

/// How often the owner of a resource is looked up to read its addresses.
const LOOKS_MAX: u32 = 3;

/// What an encoder asks the registry.
struct Observed<'a> {
    registry: &'a Registry,
    render: &'a Render,
}

impl Program for Observed<'_> {
    fn addresses(&self, resource: &ResourceName) -> Addresses {
        // The table has a half by its whole.
        let id = resource.half_of.map_or(resource.id, |(whole, _)| whole);
        let held = resource.number.and_then(|number| fd_table::find(self.registry, number, id));
        let Some(whole) = held else { return Addresses::default() };
        // A whole that is split has no owner and cannot be pinned, but its halves can.
        let look = || {
            let candidates = std::iter::once(Arc::clone(&whole)).chain(whole.record().halves());
            candidates
                .map(|held| {
                    let record = held.record();
                    snapshot::pinned_addresses_of(record, record.slot.load().owner())
                })
                .find(|found| *found != FdAddresses::default())
        };
        // It may be handed over between the look at its owner and the pin.
        let found = (0..LOOKS_MAX).find_map(|_| look());
        let found = found.unwrap_or_default();
        Addresses { local: found.local, peer: found.peer, path: found.path }
    }

    fn render(&self, report: &Report) -> String {
        (self.render)(report)
    }
}

/// The events that led to the present state, in the order of their times.
fn past(registry: &Registry, known: &mut KnownEvents) -> Vec<Event> {
    let (recorded, _) = snapshot::record_owners(registry.id());
    let mut events = Vec::new();
    let mut wholes = HashSet::new();
    for recorded in &recorded {
        let mut next = Some(Arc::clone(&recorded.task));
        // Its ancestors too, which may own nothing.
        while let Some(task) = next.filter(|task| known.tasks.insert(task.id())) {
            if let Some((_, thread)) = task.thread() {
                let time_ns = task.created_at().nanos();
                events.push(Event { time_ns, thread, what: task.started() });
            } else {
                known.tasks.remove(&task.id());
            }
            next = task.parent();
        }
        for (held, _) in &recorded.owned {
            let record = held.record();
            if let Some(whole) = &record.whole
                && wholes.insert(whole.record().id)
            {
                push_custody(whole.record(), &recorded.task, known, &mut events);
            }
            push_custody(record, &recorded.task, known, &mut events);
        }
    }
    let now = Moment::now().nanos();
    let declared = registry.declared().into_iter();
    events.extend(declared.map(|declared| Event {
        time_ns: now,
        thread: 0,
        what: What::Declared(Arc::new(declared)),
    }));
    for (at, report) in registry.timed_reports() {
        known.reports.insert(at.nanos());
        events.push(Event { time_ns: at.nanos(), thread: 0, what: What::Finding(report) });
    }
    // Stable: a resource's steps may have the same time.
    events.sort_by_key(|event| event.time_ns);
    events
}

/// Adds the steps of a resource, or for want of them its acquisition.
fn push_custody(record: &Record, owner: &Task, known: &mut KnownEvents, events: &mut Vec<Event>) {
    let name = record.event_name();
    let custody = record.custody();
    let before = events.len();
    events.extend(custody.counted_steps().map(|(step, times)| step.to_event(name, times)));
    if events.len() == before {
        let what = What::Step {
            step: Step::Acquired,
            resource: name,
            from: None,
            to: Some(owner.shared_label()),
            site: record.acquired,
            times: 1,
        };
        events.push(Event { time_ns: record.created_at.nanos(), thread: 0, what });
    }
    if let Some(last) = events.last() {
        known.steps.insert(record.id, last.time_ns);
    }
}
