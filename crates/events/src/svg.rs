//! A timeline as a self-contained SVG: tasks above, one lane per descriptor below.
//!
//! Owners have colours and names, hand-overs have arrows, closes have crosses, and findings are red.
//! Everything drawn has its details as a `<title>`, which viewers show as a tooltip and screen readers
//! read. Colours follow the viewer's light or dark scheme.
//!
//! # Limits
//!
//! Steps that would be drawn on top of each other are drawn as one circle with their number. At most
//! [`Options::lanes`] lanes are drawn, those with findings first and then those with the most steps;
//! the picture says how many are missing. On [`Axis::Order`] the picture of a deterministic program is
//! the same every time: it contains neither times nor ids of threads.

use std::fmt::Write as _;

use echown_report::Plural;

use crate::columns::cut;
use crate::timeline::{Finding, Mark, Task, Timeline};

mod lanes;
mod legend;
mod marks;
mod scale;
mod tasks;
#[cfg(test)]
mod tests;
mod xml;

use scale::Scale;
use xml::Xml;

/// What the horizontal axis shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Axis {
    /// Time since the beginning.
    #[default]
    Time,
    /// The order of events: one column each.
    Order,
}

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The horizontal axis.
    pub axis: Axis,
    /// The maximum width in pixels.
    pub width: u32,
    /// The maximum number of lanes.
    pub lanes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { axis: Axis::Time, width: 960, lanes: 100 }
    }
}

/// The space around the picture.
const MARGIN: f64 = 16.0;
/// Where the axis begins.
const TOP: f64 = 62.0;
/// The width of a character of the smaller font, as a generous estimate.
const LETTER: f64 = 6.7;

/// The picture and what its parts need.
struct Canvas<'a> {
    timeline: &'a Timeline,
    scale: Scale,
    xml: Xml,
    /// Per task: the number of its colour, if it owns something.
    colours: Vec<Option<usize>>,
    /// The next free line.
    y: f64,
    used: legend::Used,
}

/// The number of colours for owners in `style.css`.
const COLOURS: usize = 9;

/// The timeline as an SVG document.
#[must_use]
pub fn render(timeline: &Timeline, options: &Options) -> String {
    let mut colours = vec![None; timeline.tasks.len()];
    for (index, task) in timeline.tasks_drawn().into_iter().enumerate() {
        colours[task] = Some(index % COLOURS);
    }
    let mut canvas = Canvas {
        timeline,
        scale: Scale::new(timeline, options),
        xml: Xml::default(),
        colours,
        y: TOP + 14.0,
        used: legend::Used::default(),
    };
    canvas.tasks();
    let omitted = canvas.lanes(options.lanes);
    let grid_end = canvas.y;
    canvas.legend();
    canvas.findings();
    canvas.missing(omitted);
    canvas.document(grid_end)
}

impl Canvas<'_> {
    /// Puts what was drawn into a document with head and axis.
    fn document(self, grid_end: f64) -> String {
        let Canvas { timeline, scale, xml: drawn, y, .. } = self;
        let (width, height) = (scale.width, y + MARGIN);
        let mut xml = Xml::default();
        xml.element("svg")
            .attribute("xmlns", "http://www.w3.org/2000/svg")
            .attribute("class", "echown-timeline")
            .attribute("role", "img")
            .number("width", width)
            .number("height", height)
            .attribute("viewBox", &format!("0 0 {width:.0} {height:.0}"))
            .open();
        xml.element("title").text(&title(timeline));
        xml.element("desc").text(&description(timeline));
        xml.element("style").text(include_str!("svg/style.css"));
        xml.element("rect")
            .attribute("class", "bg")
            .number("width", width)
            .number("height", height)
            .empty();
        let room = ((width - 2.0 * MARGIN) / 8.2) as usize;
        xml.element("text")
            .attribute("class", "h")
            .number("x", MARGIN)
            .number("y", MARGIN + 10.0)
            .text(&cut(&title(timeline), room));
        scale.draw(&mut xml, timeline, grid_end);
        xml.append(drawn);
        xml.close();
        xml.finish()
    }

    /// ``task 2 `reader` ``, or nothing.
    fn name(&self, task: Option<usize>) -> String {
        task.map_or_else(|| "no task".to_owned(), |it| task_name(&self.timeline.tasks[it]))
    }

    /// What a step's tooltip says.
    fn mark_title(&self, mark: &Mark) -> String {
        let mut title = mark.kind.as_str().replace('_', " ");
        let _ = match (mark.from, mark.to) {
            (Some(from), Some(to)) => {
                write!(title, ": {} → {}", self.name(Some(from)), self.name(Some(to)))
            }
            (from, to) => write!(title, " by {}", self.name(from.or(to))),
        };
        if let Some(call) = &mark.call {
            let _ = write!(title, ", {call}");
        }
        if let Some(site) = &mark.site {
            let _ = write!(title, ", at {site}");
        }
        if self.scale.axis == Axis::Time {
            let _ = write!(title, ", after {}", scale::duration(mark.at.time_ns));
            if let Some(thread) = mark.thread {
                let _ = write!(title, ", thread {thread}");
            }
        }
        title
    }
}

fn task_name(task: &Task) -> String {
    format!("task {} `{}`", task.id, task.name)
}

fn finding_title(finding: &Finding) -> String {
    let code = finding.code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
    let site = finding.site.as_ref().map(|site| format!(", at {site}")).unwrap_or_default();
    format!("{code}{}{site}", finding.message)
}

fn title(timeline: &Timeline) -> String {
    let program = timeline.program.as_deref().unwrap_or("a recording");
    format!("Who owned which descriptor: {program}")
}

/// What the picture shows, in words.
fn description(timeline: &Timeline) -> String {
    let steps: usize = timeline.resources().map(|(_, it)| it.marks.len()).sum();
    let open = timeline.resources().filter(|(_, it)| it.end.is_none()).count();
    format!(
        "{} with {} of {}; {} open at the end; {}.",
        Plural(timeline.lanes.len() as u64, "lane"),
        Plural(steps as u64, "step"),
        Plural(timeline.tasks_drawn().len() as u64, "task"),
        open,
        Plural(timeline.findings.len() as u64, "finding"),
    )
}
