//! Annotated reports in the style of rustc: the places underlined in the source and labelled, then
//! the facts, then the advice.
//!
//! The places of a resource are numbered in order of time, because lines are shown in the order of
//! the file. If a source is not available, its places are lines of text.

use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use echown_fd::escape;

use super::sources::Sources;
use super::text::{Age, Headline, Passing, Standing, Times, Traffic, backtraces};
use crate::graph::{Cycle, EdgeData};
use crate::{Code, CustodyStep, Event, LeakReport, Report, ResourceData, Site, ViolationReport};

/// Source lines are not truncated because of long labels: readers scroll or wrap.
pub(super) const WIDTH: usize = 240;

/// Whether a report is written with the escape sequences of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Plain text.
    Never,
    /// ANSI colours.
    Always,
}

impl Report {
    /// Renders the report with the source lines of all its places, as far as `sources` has them.
    /// There is no line break at the end.
    ///
    /// # Examples
    /// ```
    /// use echown::ownership::Registry;
    /// use echown::report::{Colours, Sources};
    ///
    /// let registry = Registry::new();
    /// let _ = registry.run("forgetful", || std::mem::forget(registry.own("kept")));
    /// let text = registry.reports()[0].render(&Sources::none(), Colours::Never);
    /// assert!(text.starts_with("error[leak]: task "));
    /// ```
    #[must_use]
    pub fn render(&self, sources: &Sources, colours: Colours) -> String {
        let renderer = match colours {
            Colours::Never => Renderer::plain(),
            Colours::Always => Renderer::styled(),
        };
        let parts = match self {
            Report::Leak(report) => of_leak(report),
            Report::Violation(report) | Report::FdReplaced(report) | Report::Finalizer(report) => {
                of_violation(report)
            }
        };
        let code = self.code();
        let count = parts.len();
        let groups: Vec<Group<'_>> = parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                let title = if index == 0 {
                    Level::ERROR.primary_title(part.title).id(code.as_str())
                } else {
                    Level::NOTE.secondary_title(part.title)
                };
                let mut group =
                    title.elements(places(&part.places, sources)).elements(notes(part.notes));
                if index + 1 == count {
                    let help = code.explanation().help;
                    let details = format!("for details, run `echown explain {code}`");
                    group = group
                        .element(Level::HELP.message(help))
                        .element(Level::HELP.message(details));
                }
                group
            })
            .collect();
        renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH).render(&groups)
    }
}

/// A title, the places under it, and further notes.
struct Part {
    title: String,
    places: Vec<AnnotatedPlace>,
    notes: Vec<String>,
}

struct AnnotatedPlace {
    site: Site,
    is_primary: bool,
    label: String,
}

fn of_leak(report: &LeakReport) -> Vec<Part> {
    let mut parts: Vec<Part> = report
        .resources
        .iter()
        .flat_map(|resource| {
            let cycle = resource.kept_alive_by.as_ref().map(of_cycle);
            std::iter::once(of_resource(resource)).chain(cycle)
        })
        .collect();
    let mut about_task = format!(
        "{} ran on thread `{}` (kernel id {})",
        report.task, report.thread, report.thread_id
    );
    if let Some(spawned) = report.spawned {
        about_task += &format!(", spawned at {spawned}");
    }
    let several = report.resources.len() > 1;
    for part in &mut parts {
        // Without a primary place, the snippet points at the acquisition.
        if !part.places.iter().any(|place| place.is_primary) {
            part.places.iter_mut().take(1).for_each(|first| first.is_primary = true);
        }
    }
    if several {
        // The headline covers all parts; each part has its own title.
        let overview = Part { title: String::new(), places: Vec::new(), notes: Vec::new() };
        parts.insert(0, overview);
    }
    if let Some(first) = parts.first_mut() {
        first.title = report.headline();
        first.notes.insert(0, about_task);
        if report.resources_omitted > 0 {
            first.notes.push(format!("{} more omitted", report.resources_omitted));
        }
    }
    parts
}

fn of_violation(report: &ViolationReport) -> Vec<Part> {
    let label = match report.code {
        // A drop and the end of a task have no place of their own.
        Code::DroppedByNonOwner
        | Code::Unclaimed
        | Code::FinalizerFailed
        | Code::FinalizerPanicked => {
            format!("in {}, which was spawned here", report.actor)
        }
        Code::FdReplaced => format!("noticed here, by {}", report.actor),
        _ => format!("here, by {}", report.actor),
    };
    let here = AnnotatedPlace { site: report.site, is_primary: true, label };
    let mut notes = Vec::new();
    match &report.owner {
        Some(owner) if *owner == report.actor => notes.push(format!("done by {owner}, the owner")),
        Some(owner) => notes.push(format!("done by {}, the owner is {owner}", report.actor)),
        None => {}
    }
    let mut part = Part { title: report.headline(), places: vec![here], notes };
    if let Some(resource) = &report.resource {
        let about = of_resource(resource);
        part.places.extend(about.places);
        part.notes.splice(0..0, about.notes);
    }
    vec![part]
}

fn of_resource(resource: &ResourceData) -> Part {
    let numbered = resource.custody.len() > 1;
    let mut places: Vec<AnnotatedPlace> = resource
        .custody
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let number = if numbered { format!("{}. ", index + 1) } else { String::new() };
            AnnotatedPlace {
                site: step.site,
                is_primary: false,
                label: format!("{number}{}", Label(step)),
            }
        })
        .collect();
    if !resource.custody.iter().any(|step| step.site == resource.acquired) {
        // At level `off` no custody is recorded.
        let label = format!("acquired, {} ago", Age(resource.age_ms));
        places.insert(0, AnnotatedPlace { site: resource.acquired, is_primary: false, label });
    }
    let mut notes = vec![
        Headline(resource).to_string(),
        format!("{}, {} old{}", Standing(resource), Age(resource.age_ms), Traffic(resource)),
    ];
    if resource.custody_omitted > 0 {
        notes.push(format!("{} custody steps omitted", resource.custody_omitted));
    }
    notes.extend(
        backtraces(resource)
            .map(|(number, text)| format!("backtrace of step {number}:\n{}", text.trim_end())),
    );
    Part { title: Headline(resource).to_string(), places, notes }
}

/// The references that kept a resource alive. The primary place is the reference to cut.
fn of_cycle(cycle: &Cycle) -> Part {
    let place = |edge: &EdgeData, what: &str| {
        let is_primary = edge.site == cycle.cut.site
            && (&edge.from, &edge.to) == (&cycle.cut.from, &cycle.cut.to);
        let advice = if is_primary { ": cut this one" } else { "" };
        AnnotatedPlace { site: edge.site, is_primary, label: format!("{edge}, {what}{advice}") }
    };
    let round = cycle.edges.iter().map(|edge| place(edge, "part of the cycle"));
    let path = cycle.path.iter().map(|edge| place(edge, "from the cycle to the resource"));
    Part {
        title: "kept alive by a cycle of references".to_owned(),
        places: round.chain(path).collect(),
        notes: vec![format!("cut the reference {}, made at {}", cycle.cut, cycle.cut.site)],
    }
}

fn notes<'a>(notes: Vec<String>) -> impl Iterator<Item = Element<'a>> {
    notes.into_iter().map(|note| Level::NOTE.message(note).into())
}

/// Snippets for places whose source is available, lines of text for the rest.
fn places<'a>(places: &[AnnotatedPlace], sources: &Sources) -> Vec<Element<'a>> {
    let mut shown: Vec<(&'static str, Snippet<'a, _>)> = Vec::new();
    let mut lines: Vec<Element<'a>> = Vec::new();
    // The file of the primary place comes first.
    let order = places.iter().filter(|place| place.is_primary);
    let order = order.chain(places.iter().filter(|place| !place.is_primary));
    let mut first_unavailable = None;
    for place in order {
        let Some((text, bytes)) = sources.find(place.site) else {
            first_unavailable.get_or_insert(place.site);
            continue;
        };
        let kind = if place.is_primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(bytes).label(place.label.clone());
        let file = place.site.file();
        match shown.iter_mut().find(|(known, _)| *known == file) {
            Some((_, snippet)) => {
                let before = std::mem::replace(snippet, Snippet::source(""));
                *snippet = before.annotation(annotation);
            }
            None => {
                let snippet = Snippet::source(text.to_string())
                    .path(escape::text(file))
                    .annotation(annotation);
                shown.push((file, snippet));
            }
        }
    }
    if let Some(site) = first_unavailable.filter(|_| shown.is_empty()) {
        let origin = Origin::path(escape::text(site.file()))
            .line(site.line() as usize)
            .char_column(site.column() as usize);
        lines.push(origin.into());
    }
    // In chronological order.
    for place in places.iter().filter(|place| sources.find(place.site).is_none()) {
        lines.push(Level::NOTE.message(format!("{}, at {}", place.label, place.site)).into());
    }
    shown.into_iter().map(|(_, snippet)| snippet.into()).chain(lines).collect()
}

/// A step of custody, as the label of its source line.
struct Label<'a>(&'a CustodyStep);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.0;
        match step.event {
            Event::Finalized => f.write_str("finalized at the end of a task")?,
            Event::Dropped => f.write_str("handle dropped")?,
            Event::Replaced => f.write_str("found replaced")?,
            event => write!(f, "{event} here{}", Times(step.times))?,
        }
        match (&step.from, &step.to) {
            _ if step.event.has_process() => write!(f, "{}", Passing(step))?,
            (Some(from), Some(to)) if from.id != to.id => write!(f, " by {from} to {to}")?,
            (Some(by), _) | (None, Some(by)) => write!(f, " by {by}")?,
            (None, None) => {}
        }
        write!(f, ", {} ago (thread {})", Age(step.ago_ms), step.thread_id)
    }
}
