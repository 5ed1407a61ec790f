//! `Timeline`: a recording as lanes of descriptor numbers, spans of owners, and marks. Pure data; the
//! pictures are drawn from it.
//!
//! A lane is one descriptor number of one descriptor table, with one resource after the other, or one
//! resource that is no descriptor. While a resource has an owner, a span says so; what changes the owner
//! or ends the resource is a mark.
//!
//! # Limits
//!
//! Lines that are missing (lost, or before the recording) leave no wrong owner: a resource whose first
//! step is missing begins with its first known step, and one whose end is missing ends, unknown how, when
//! its number is acquired again. Lines of several threads can be in another order than their steps were
//! made; a span never ends before it begins. After [`STEPS_MAX`] steps only ends are added; the rest is
//! counted.

use std::sync::Arc;

use crate::line::{Kind, Line};

mod build;
mod order;
mod select;
#[cfg(test)]
mod tests;

pub use build::Builder;
pub use order::Order;
pub use select::Selection;

/// The maximum number of steps that become marks.
pub const STEPS_MAX: usize = 1_000_000;

/// A position on both axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The how-many-th line it is; 0 is the beginning.
    pub column: u32,
    /// Nanoseconds since the beginning.
    pub time_ns: u64,
}

/// A recording to draw.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// What was recorded.
    pub program: Option<Arc<str>>,
    /// In the order of their first line.
    pub lanes: Vec<Lane>,
    /// In the order of their first line.
    pub tasks: Vec<Task>,
    /// The reports, in their order.
    pub findings: Vec<Finding>,
    /// Where events are missing, and how many.
    pub lost: Vec<(At, u64)>,
    /// Descriptors of libraries and of the parent process, which have no lane.
    pub declared: usize,
    /// Steps beyond [`STEPS_MAX`].
    pub omitted: u64,
    /// The last position.
    pub end: At,
    /// Whether the recording was read to its last line, `end`.
    pub is_complete: bool,
}

/// One descriptor number, or one resource that is no descriptor.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The process of its first line.
    pub process: u32,
    /// Whether a tracer recorded it: one recording has several processes.
    pub is_traced: bool,
    /// The descriptor number.
    pub number: Option<i32>,
    /// Those that had the number, in the order of their first lines; a half after its whole.
    pub resources: Vec<Resource>,
}

/// A resource from its first to its last step.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its id.
    pub id: u64,
    /// Its kind: `tcp stream`.
    pub kind: Arc<str>,
    /// The how-many-th resource with this number.
    pub generation: u64,
    /// For a half: the id of its whole, and `read` or `write`.
    pub half: Option<(u64, Arc<str>)>,
    /// The local address.
    pub local: Option<Arc<str>>,
    /// The peer's address.
    pub peer: Option<Arc<str>>,
    /// The path.
    pub path: Option<Arc<str>>,
    /// Who owned it when, without gaps.
    pub spans: Vec<Span>,
    /// Its steps, except those that only repeat the state before the recording.
    pub marks: Vec<Mark>,
    /// How it ended; `None`: it is open at the end of the recording.
    pub end: Option<(At, End)>,
    /// Indices of the findings about it.
    pub findings: Vec<usize>,
}

/// How a resource ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was released, dropped or finalized: closed.
    Closed,
    /// Its owner gave it up and left it open.
    Disowned,
    /// A half: the whole was rejoined.
    Rejoined,
    /// It was closed or reused outside the registry.
    Replaced,
    /// The end is not in the recording.
    Unknown,
}

/// One state of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The beginning.
    pub from: At,
    /// The end.
    pub to: At,
    /// Index of the owner; of the offerer, while it is offered.
    pub owner: Option<usize>,
    /// The state.
    pub state: State,
}

/// What a resource is during a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has an owner.
    Owned,
    /// Its owner has offered it.
    Offered,
    /// It waits in the lot of its owner.
    Parked,
    /// Its halves have the owners.
    Split,
    /// It was shut down because its owner was cancelled, and is still owned.
    Cancelled,
}

/// A step of a resource.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Where.
    pub at: At,
    /// What.
    pub kind: Kind,
    /// Index of the owner before.
    pub from: Option<usize>,
    /// Index of the owner after.
    pub to: Option<usize>,
    /// The kernel's id of the thread.
    pub thread: Option<u32>,
    /// The place in the source.
    pub site: Option<Arc<str>>,
    /// The system call or function.
    pub call: Option<Arc<str>>,
}

impl Mark {
    /// Whether it gives the resource another owner.
    #[must_use]
    pub fn is_hand_over(&self) -> bool {
        matches!(
            self.kind,
            Kind::Given
                | Kind::Transferred
                | Kind::Claimed
                | Kind::Parked
                | Kind::Unparked
                | Kind::Inherited
                | Kind::Returned
                | Kind::Received
                | Kind::HandedOver
        )
    }
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its process.
    pub process: u32,
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Index of its parent.
    pub parent: Option<usize>,
    /// The first line about it: a child is given resources before it starts.
    pub first: At,
    /// When it began to run.
    pub start: Option<At>,
    /// When it was cancelled.
    pub cancelled: Option<At>,
    /// When and how it ended.
    pub end: Option<(At, Arc<str>)>,
    /// The kernel's id of its thread.
    pub thread: Option<u32>,
    /// The name of its thread.
    pub thread_name: Option<Arc<str>>,
    /// Where it was spawned.
    pub site: Option<Arc<str>>,
}

/// A report.
#[derive(Clone, Debug)]
pub struct Finding {
    /// When it was made.
    pub at: At,
    /// `leaked` or `violation`.
    pub kind: Kind,
    /// Its code.
    pub code: Option<Arc<str>>,
    /// One line.
    pub message: Arc<str>,
    /// Index of the task that it is about.
    pub task: Option<usize>,
    /// Its place in the source.
    pub site: Option<Arc<str>>,
    /// Lane and resource, as indices, of each of its resources that the recording has.
    pub resources: Vec<(usize, usize)>,
}

impl Timeline {
    /// The timeline of the lines of a recording.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Timeline {
        let mut builder = Builder::default();
        for line in lines {
            builder.add(line);
        }
        builder.finish()
    }

    /// The number of events that are missing.
    #[must_use]
    pub fn lost_count(&self) -> u64 {
        self.lost.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The resources with their lanes.
    pub fn resources(&self) -> impl Iterator<Item = (&Lane, &Resource)> {
        self.lanes.iter().flat_map(|lane| lane.resources.iter().map(move |it| (lane, it)))
    }

    /// The tasks that own something in the timeline, or that a finding names, in their order.
    #[must_use]
    pub fn tasks_drawn(&self) -> Vec<usize> {
        let mut is_drawn = vec![false; self.tasks.len()];
        let spans = self.resources().flat_map(|(_, it)| it.spans.iter().filter_map(|it| it.owner));
        let findings = self.findings.iter().filter_map(|it| it.task);
        for task in spans.chain(findings) {
            is_drawn[task] = true;
        }
        (0..self.tasks.len()).filter(|task| is_drawn[*task]).collect()
    }
}

impl Resource {
    /// The first position.
    #[must_use]
    pub fn start(&self) -> At {
        self.spans.first().map(|it| it.from).or(self.end.map(|(at, _)| at)).unwrap_or_default()
    }

    /// The last position: its end, or that of the timeline.
    #[must_use]
    pub fn last(&self) -> At {
        self.spans.last().map_or_else(|| self.start(), |it| it.to)
    }

    /// Peer, path or local address, whichever says most.
    #[must_use]
    pub fn address(&self) -> Option<&Arc<str>> {
        self.peer.as_ref().or(self.path.as_ref()).or(self.local.as_ref())
    }
}

impl Lane {
    /// `fd 9`, with its process if a tracer recorded it, or the kind of a resource that is no descriptor.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.number, self.resources.first()) {
            (Some(number), _) if self.is_traced => format!("{} fd {number}", self.process),
            (Some(number), _) => format!("fd {number}"),
            (None, Some(resource)) => resource.kind.to_string(),
            (None, None) => String::new(),
        }
    }
}
