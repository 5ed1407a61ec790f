//! A timeline as text for a terminal: one row per descriptor, one column per event.
//!
//! ```text
//! fd 3 unix stream  ●─main──▶─child─×  !
//! ```
//!
//! It needs no colours, and with [`Options::ascii`] no Unicode.
//!
//! # Limits
//!
//! Of a timeline with more events than columns, several events share a column, and the most important one
//! is shown. At most [`ROWS_MAX`] rows are written; a last line counts the rest.

use crate::columns::{cut, width};
use crate::line::Kind;
use crate::timeline::{At, End, Lane, Mark, Order, Resource, State, Timeline};

mod cells;
mod labels;
#[cfg(test)]
mod tests;

use cells::{Row, Symbols};
use labels::Labels;

/// The maximum number of rows.
pub const ROWS_MAX: usize = 40;
/// The maximum number of findings and owners that are listed.
const LISTED_MAX: usize = 20;
/// The widest name of a row.
const NAME_MAX: usize = 26;
/// The widest column: a wider picture says no more.
const COLUMN_MAX: usize = 12;

/// How to write it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The width of the terminal; 40 at least.
    pub columns: usize,
    /// ASCII only.
    pub ascii: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { columns: 80, ascii: false }
    }
}

/// The timeline, with a key of its symbols and owners, and its findings.
#[must_use]
pub fn render(timeline: &Timeline, options: &Options) -> String {
    let columns = options.columns.max(40);
    let symbols = if options.ascii { &cells::ASCII } else { &cells::UNICODE };
    let rows: Vec<_> = timeline.lanes.iter().flat_map(rows_of).collect();
    let shown = &rows[..rows.len().min(ROWS_MAX)];
    let names: Vec<_> = shown.iter().map(|row| cut(&row.name, NAME_MAX)).collect();
    let name_width = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let plot = Plot::new(timeline, columns - name_width - 2);
    let labels = Labels::choose(timeline, shown, &plot);
    let mut used = Vec::new();
    let mut text = String::new();
    for (row, name) in shown.iter().zip(&names) {
        let mut cells = Row::new(plot.width);
        for resource in &row.resources {
            draw(&mut cells, resource, timeline, &plot, &labels, symbols);
        }
        used.extend(cells.used());
        let padding = " ".repeat(name_width - width(name) + 2);
        text += format!("{name}{padding}{}", cells.text()).trim_end();
        text.push('\n');
    }
    if rows.len() > shown.len() {
        text += &format!("... and {} more rows\n", rows.len() - shown.len());
    }
    text + &notes(timeline, &labels, &symbols.key(&used), columns)
}

/// One line of the output.
struct RowOf<'a> {
    name: String,
    resources: Vec<&'a Resource>,
}

/// A lane: a row for its resources, and one each for read halves and write halves.
fn rows_of(lane: &Lane) -> Vec<RowOf<'_>> {
    let wholes: Vec<_> = lane.resources.iter().filter(|it| it.half.is_none()).collect();
    let kinds = if wholes.is_empty() { lane.resources.iter().collect() } else { wholes.clone() };
    let mut names: Vec<&str> = kinds.iter().map(|it| &*it.kind).collect();
    names.dedup();
    let name = match lane.number {
        Some(_) => format!("{} {}", lane.name(), names.join(", ")),
        None => lane.name(),
    };
    let mut rows = vec![RowOf { name, resources: wholes }];
    for word in ["read", "write"] {
        let is_it = |it: &&Resource| it.half.as_ref().is_some_and(|(_, half)| &**half == word);
        let resources: Vec<_> = lane.resources.iter().filter(is_it).collect();
        if !resources.is_empty() {
            rows.push(RowOf { name: format!("  {word} half"), resources });
        }
    }
    rows
}

/// Where columns of events are in a row.
struct Plot {
    order: Order,
    width: usize,
}

impl Plot {
    fn new(timeline: &Timeline, room: usize) -> Plot {
        let order = timeline.order();
        Plot { width: room.min(order.room() * COLUMN_MAX), order }
    }

    fn cell(&self, at: At) -> usize {
        self.order.column(at) * self.width / self.order.room()
    }

    /// The cells between the symbols at both ends of a span.
    fn between(&self, from: At, to: At, is_open: bool) -> std::ops::Range<usize> {
        let end = if is_open { self.width } else { self.cell(to) };
        (self.cell(from) + 1).min(end)..end
    }
}

fn draw(
    cells: &mut Row,
    resource: &Resource,
    timeline: &Timeline,
    plot: &Plot,
    labels: &Labels,
    symbols: &Symbols,
) {
    for (index, span) in resource.spans.iter().enumerate() {
        let is_open = resource.end.is_none() && index + 1 == resource.spans.len();
        let range = plot.between(span.from, span.to, is_open);
        let line = match span.state {
            State::Owned => symbols.owned,
            State::Offered => symbols.offered,
            State::Parked => symbols.parked,
            State::Split => symbols.split,
            State::Cancelled => symbols.cancelled,
        };
        if index == 0 {
            cells.set(plot.cell(span.from), line, 1);
        }
        cells.fill(range.clone(), line);
        if let Some(owner) = span.owner
            && span.state == State::Owned
        {
            cells.label(range, labels.of(owner));
        }
    }
    // A handle is dropped after its number was lost, too: by then the number may be another resource's.
    let is_before_end = |mark: &&Mark| resource.end.is_none_or(|(end, _)| mark.at <= end);
    for mark in resource.marks.iter().filter(is_before_end) {
        let (symbol, rank) = symbol_of(mark, symbols);
        cells.set(plot.cell(mark.at), symbol, rank);
    }
    if let Some((at, end)) = resource.end {
        let symbol = match end {
            End::Closed => symbols.closed,
            End::Disowned => symbols.disowned,
            End::Rejoined => symbols.rejoined,
            End::Replaced => symbols.finding,
            End::Unknown => symbols.unknown,
        };
        // The next resource with the number begins in the cell where an unknown end is.
        cells.set(plot.cell(at), symbol, if end == End::Unknown { 2 } else { 5 });
    }
    for finding in &resource.findings {
        cells.set(plot.cell(timeline.findings[*finding].at), symbols.finding, 6);
    }
}

/// The symbol of a step, and its rank among others in the same cell.
fn symbol_of(mark: &Mark, symbols: &Symbols) -> (cells::Symbol, u8) {
    match mark.kind {
        Kind::Acquired => (symbols.acquired, 4),
        Kind::Offered => (symbols.offer, 3),
        Kind::Split => (symbols.parted, 3),
        Kind::Rejoined => (symbols.rejoined, 3),
        Kind::Cancelled => (symbols.cancel, 3),
        _ if mark.is_hand_over() => (symbols.given, 3),
        _ => (symbols.closed, 3),
    }
}

/// What follows the rows.
fn notes(timeline: &Timeline, labels: &Labels, key: &[String], columns: usize) -> String {
    let mut text = wrapped(key, columns);
    let mut lines = labels.key(timeline);
    if lines.len() > LISTED_MAX {
        let rest = lines.len() - LISTED_MAX;
        lines.truncate(LISTED_MAX);
        lines.push(format!("... and {rest} more tasks"));
    }
    let findings = timeline.findings.iter().take(LISTED_MAX);
    lines.extend(findings.map(|it| match &it.code {
        Some(code) => format!("! {code}: {}", it.message),
        None => format!("! {}", it.message),
    }));
    if timeline.findings.len() > LISTED_MAX {
        lines.push(format!("... and {} more findings", timeline.findings.len() - LISTED_MAX));
    }
    if timeline.lost_count() > 0 {
        lines.push(format!("{} events are missing: they were lost", timeline.lost_count()));
    }
    for line in lines {
        text += &cut(&line, columns);
        text.push('\n');
    }
    text
}

/// Words on lines of at most `columns` columns.
fn wrapped(words: &[String], columns: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for word in words {
        let separator = match used {
            0 => "",
            _ if used + 3 + width(word) <= columns => "   ",
            _ => {
                used = 0;
                "\n"
            }
        };
        used += width(word) + if separator == "   " { 3 } else { 0 };
        text += separator;
        text += word;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}
