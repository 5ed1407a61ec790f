//! `Event`: what happened, as the program publishes it: without an allocation, and without a system call.

use std::sync::Arc;

use echown_report::{Declared, Event as Step, Report, ResourceId, Site, TaskLabel};

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Nanoseconds on the program's monotonic clock.
    pub time_ns: u64,
    /// The kernel's id of the thread.
    pub thread: u32,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// A step of a resource.
    Step {
        /// What happened to the resource.
        step: Step,
        /// The resource.
        resource: ResourceName,
        /// The owner before the step.
        from: Option<Arc<TaskLabel>>,
        /// The owner after the step.
        to: Option<Arc<TaskLabel>>,
        /// Where the step was made.
        site: Site,
        /// How many steps of its kind it stands for; 1 unless it repeats the past.
        times: u64,
    },
    /// A resource was shut down, because its owner was cancelled.
    Cancelled {
        /// The resource.
        resource: ResourceName,
        /// The owner.
        owner: Arc<TaskLabel>,
    },
    /// A task began to run.
    TaskStarted {
        /// The task.
        task: Arc<TaskLabel>,
        /// Its parent.
        parent: Option<Arc<TaskLabel>>,
        /// The name of its thread.
        thread_name: Arc<str>,
        /// Where it was spawned.
        site: Option<Site>,
    },
    /// A task was cancelled.
    TaskCancelled {
        /// The task.
        task: Arc<TaskLabel>,
    },
    /// A task ended.
    TaskEnded {
        /// The task.
        task: Arc<TaskLabel>,
        /// How it ended.
        outcome: Outcome,
    },
    /// A message of the program, such as one between state machines.
    Message {
        /// The task.
        task: Arc<TaskLabel>,
        /// One line.
        text: String,
    },
    /// A report was made.
    Finding(Arc<Report>),
    /// A descriptor of a library was declared.
    Declared(Arc<Declared>),
}

impl Event {
    /// Whether the event ends a resource or a task, or is a report: an observer that misses it shows
    /// something wrong from then on.
    #[must_use]
    pub fn is_important(&self) -> bool {
        match &self.what {
            What::Step { step, .. } => matches!(
                step,
                Step::Released | Step::Dropped | Step::Finalized | Step::Disowned | Step::Rejoined
            ),
            What::TaskEnded { .. } | What::Finding(_) | What::Declared(_) => true,
            What::Cancelled { .. }
            | What::TaskStarted { .. }
            | What::TaskCancelled { .. }
            | What::Message { .. } => false,
        }
    }
}

/// What identifies and names a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceName {
    /// Never reused.
    pub id: ResourceId,
    /// Its kind.
    pub kind: &'static str,
    /// Its descriptor number.
    pub number: Option<i32>,
    /// For a half: the whole, and `read` or `write`.
    pub half_of: Option<(ResourceId, &'static str)>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its closure returned.
    Returned,
    /// Its closure panicked.
    Panicked,
    /// It was cancelled.
    Cancelled,
}

impl Outcome {
    /// The word in a recording.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Returned => "returned",
            Outcome::Panicked => "panicked",
            Outcome::Cancelled => "cancelled",
        }
    }
}
