//! Turns events into lines, in the observer's thread.
//!
//! What costs time is done here and not where the event happens: texts are formatted, addresses are
//! read from the kernel, source files are read for reports.

use std::collections::HashMap;
use std::sync::Arc;

use echown_report::{Event as Step, Report, ResourceId, Site, TaskLabel};

use crate::event::{Event, ResourceName, What};
use crate::line::{Kind, Line, SCHEMA_VERSION, TaskName};

/// Local address, peer's address and path of a descriptor that is still open.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// The local address.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The path.
    pub path: Option<String>,
}

/// What an encoder asks the program.
pub trait Program {
    /// The addresses of a resource, if it is still open.
    fn addresses(&self, resource: &ResourceName) -> Addresses;

    /// A report as the terminal shows it, without colours.
    fn render(&self, report: &Report) -> String;
}

/// Converts the events of one observer. Numbers the generations of each descriptor number.
#[derive(Debug, Default)]
pub struct Encoder {
    process: u32,
    /// By descriptor number.
    generations: HashMap<i32, Generation>,
}

/// The latest resource with a descriptor number.
#[derive(Debug)]
struct Generation {
    holder: ResourceId,
    before: Option<ResourceId>,
    /// Counted from 1.
    number: u64,
}

impl Encoder {
    /// For the events of this process.
    #[must_use]
    pub fn new() -> Encoder {
        Encoder { process: std::process::id(), generations: HashMap::new() }
    }

    /// The first line of a recording.
    #[must_use]
    pub fn header(&self, time_ns: u64, time_unix_ms: u64, program: &str) -> Line {
        Line {
            process: Some(self.process),
            schema_version: Some(SCHEMA_VERSION),
            time_unix_ms: Some(time_unix_ms),
            program: Some(program.to_owned()),
            source: Some("registry".into()),
            ..Line::new(Kind::Recording, time_ns)
        }
    }

    /// The line of an event.
    pub fn encode(&mut self, event: &Event, program: &dyn Program) -> Line {
        let mut line = match &event.what {
            What::Step { step, resource, from, to, site, times } => {
                let mut line = self.step(kind_of(*step), resource);
                line.from = from.as_deref().map(task_name);
                line.to = to.as_deref().map(task_name);
                line.site = Some(site.to_string());
                line.times = Some(*times).filter(|times| *times > 1);
                if *step == Step::Acquired {
                    let Addresses { local, peer, path } = program.addresses(resource);
                    (line.local, line.peer, line.path) = (local, peer, path);
                }
                line
            }
            What::Cancelled { resource, owner } => {
                let mut line = self.step(Kind::Cancelled, resource);
                line.from = Some(task_name(owner));
                line
            }
            What::TaskStarted { task, parent, thread_name, site } => Line {
                task: Some(task_name(task)),
                parent: parent.as_deref().map(task_name),
                thread_name: Some(Arc::clone(thread_name)),
                site: site.as_ref().map(Site::to_string),
                ..Line::new(Kind::TaskStarted, 0)
            },
            What::TaskCancelled { task } => {
                Line { task: Some(task_name(task)), ..Line::new(Kind::TaskCancelled, 0) }
            }
            What::TaskEnded { task, outcome } => Line {
                task: Some(task_name(task)),
                outcome: Some(outcome.as_str().into()),
                ..Line::new(Kind::TaskEnded, 0)
            },
            What::Message { task, text } => Line {
                task: Some(task_name(task)),
                text: Some(text.clone()),
                ..Line::new(Kind::Message, 0)
            },
            What::Finding(report) => finding(report, program.render(report)),
            What::Declared(declared) => Line {
                number: Some(declared.number),
                table: Some(self.process),
                name: Some(declared.name.clone()),
                reason: Some(declared.reason.clone().into()),
                site: Some(declared.site.to_string()),
                ..Line::new(Kind::Declared, 0)
            },
        };
        line.time_ns = event.time_ns;
        line.process = Some(self.process);
        line.thread = Some(event.thread).filter(|thread| *thread != 0);
        line
    }

    fn step(&mut self, kind: Kind, resource: &ResourceName) -> Line {
        // A half has the number and the generation of its whole.
        let holder = resource.half_of.map_or(resource.id, |(whole, _)| whole);
        let generation = resource.number.map(|number| {
            let known = self.generations.entry(number).or_insert(Generation {
                holder,
                before: None,
                number: 1,
            });
            if known.holder == holder {
                return known.number;
            }
            // The end of a resource whose number was taken from it.
            if known.before == Some(holder) {
                return known.number - 1;
            }
            // Its acquisition, or a later step if that was lost.
            *known = Generation { holder, before: Some(known.holder), number: known.number + 1 };
            known.number
        });
        Line {
            resource: Some(resource.id.get()),
            kind: Some(resource.kind.into()),
            number: resource.number,
            table: resource.number.map(|_| self.process),
            generation,
            half_of: resource.half_of.map(|(whole, _)| whole.get()),
            half: resource.half_of.map(|(_, half)| half.into()),
            call: call(kind, resource).map(Into::into),
            ..Line::new(kind, 0)
        }
    }
}

/// The system call of a step, where the step alone says it.
fn call(kind: Kind, resource: &ResourceName) -> Option<&'static str> {
    let is_whole_descriptor = resource.number.is_some() && resource.half_of.is_none();
    match kind {
        Kind::Released | Kind::Dropped | Kind::Finalized if is_whole_descriptor => Some("close"),
        Kind::Cancelled if resource.number.is_some() => Some("shutdown"),
        _ => None,
    }
}

fn finding(report: &Report, text: String) -> Line {
    let (kind, verdict) = match report {
        Report::Leak(_) => (Kind::Leaked, "leak"),
        Report::Violation(_) => (Kind::Violation, "violation"),
        Report::FdReplaced(_) => (Kind::Violation, "fd-replaced"),
        Report::Finalizer(_) => (Kind::Violation, "finalizer"),
    };
    let mut line = Line::new(kind, 0);
    line.code = Some(report.code().as_str().into());
    line.text = Some(text);
    match report {
        Report::Leak(leak) => {
            let count = leak.resources.len() as u64 + leak.resources_omitted;
            let plural = if count == 1 { "" } else { "s" };
            line.message = Some(format!("{} ended with {count} resource{plural}", leak.task));
            line.task = Some(task_name(&leak.task));
            line.site = leak.spawned.as_ref().map(Site::to_string);
            line.resources = Some(leak.resources.iter().map(|it| it.id.get()).collect());
        }
        Report::Violation(found) | Report::FdReplaced(found) | Report::Finalizer(found) => {
            line.verdict = Some(verdict.into());
            line.message = Some(found.message.clone());
            line.task = Some(task_name(&found.actor));
            line.owner = found.owner.as_ref().map(task_name);
            line.site = Some(found.site.to_string());
            line.resources = found.resource.as_ref().map(|it| vec![it.id.get()]);
        }
    }
    line
}

fn task_name(label: &TaskLabel) -> TaskName {
    TaskName { id: label.id.get(), name: Arc::clone(&label.name) }
}

fn kind_of(step: Step) -> Kind {
    match step {
        Step::Acquired => Kind::Acquired,
        Step::Given => Kind::Given,
        Step::Transferred => Kind::Transferred,
        Step::Offered => Kind::Offered,
        Step::Claimed => Kind::Claimed,
        Step::Parked => Kind::Parked,
        Step::Unparked => Kind::Unparked,
        Step::Inherited => Kind::Inherited,
        Step::Split => Kind::Split,
        Step::Rejoined => Kind::Rejoined,
        Step::Received => Kind::Received,
        Step::Shared => Kind::Shared,
        Step::HandedOver => Kind::HandedOver,
        Step::Returned => Kind::Returned,
        Step::Disowned => Kind::Disowned,
        Step::Released => Kind::Released,
        Step::Dropped => Kind::Dropped,
        Step::Finalized => Kind::Finalized,
        Step::Replaced => Kind::Replaced,
    }
}
