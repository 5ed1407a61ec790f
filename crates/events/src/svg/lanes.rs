//! The lanes: a bar per resource in the colours of its owners, with its marks.

use super::marks::{Glyph, Group, Item, Track, groups};
use super::{Axis, Canvas, LETTER, MARGIN, finding_title, scale};
use crate::columns::{cut, width};
use crate::line::Kind;
use crate::timeline::{End, Lane, Mark, Resource, Span, State, Timeline};

/// The height of a bar.
const BAR: f64 = 18.0;
/// Between the bars of two halves.
const BETWEEN: f64 = 3.0;
/// From the top of a lane to its bar: its name.
const NAME: f64 = 17.0;
/// Between lanes.
const GAP: f64 = 9.0;
/// A narrower span has no bar of its own.
const NARROW: f64 = 2.0;
/// The space that a mark takes at the beginning of a bar.
const MARK: f64 = 9.0;

impl Canvas<'_> {
    /// Draws at most `max` lanes. Returns how many are missing.
    pub(super) fn lanes(&mut self, max: usize) -> usize {
        let timeline = self.timeline;
        let drawn = chosen(timeline, max);
        for lane in &drawn {
            self.lane(&timeline.lanes[*lane]);
        }
        timeline.lanes.len() - drawn.len()
    }

    fn lane(&mut self, lane: &Lane) {
        let halves = lane.resources.iter().any(|it| it.half.is_some());
        let whole =
            Track { top: self.y + NAME, height: if halves { 2.0 * BAR + BETWEEN } else { BAR } };
        let read = Track { top: whole.top, height: BAR };
        let write = Track { top: whole.top + BAR + BETWEEN, height: BAR };
        self.xml.element("g").open();
        self.xml.element("title").text(&lane.name());
        self.names(lane);
        for word in [None, Some("read"), Some("write")] {
            let track = match word {
                None => whole,
                Some("read") => read,
                Some(_) => write,
            };
            // A half with another word is drawn below.
            let is_it = |it: &&Resource| match (&it.half, word) {
                (None, None) => true,
                (Some((_, half)), Some(word)) => (&**half == "read") == (word == "read"),
                _ => false,
            };
            let resources: Vec<_> = lane.resources.iter().filter(is_it).collect();
            let mut items: Vec<_> = resources.iter().flat_map(|it| self.items(it)).collect();
            items.sort_by(|one, other| one.x.total_cmp(&other.x));
            let groups = groups(items);
            let mut drawn_to = f64::NEG_INFINITY;
            for resource in &resources {
                drawn_to = self.spans(resource, track, &groups, drawn_to);
            }
            self.marks(&groups, track);
        }
        self.xml.close();
        self.y = whole.top + whole.height + GAP;
    }

    /// The name of the lane, and of each resource where there is room.
    fn names(&mut self, lane: &Lane) {
        let name = lane.name();
        let y = self.y + 12.0;
        self.xml
            .element("text")
            .attribute("class", "b")
            .number("x", MARGIN)
            .number("y", y)
            .text(&name);
        let wholes: Vec<_> = lane.resources.iter().filter(|it| it.half.is_none()).collect();
        let mut free_from = MARGIN + width(&name) as f64 * LETTER + 10.0;
        for (index, resource) in wholes.iter().enumerate() {
            let start = if index == 0 { free_from } else { self.scale.x(resource.start()) - 4.0 };
            let next = wholes.get(index + 1).map(|it| self.scale.x(it.start()) - 12.0);
            let begin = start.max(free_from);
            let room = next.unwrap_or(self.scale.width - MARGIN).max(begin) - begin;
            let label = label(resource, lane.number.is_some());
            let room = (room / LETTER) as usize;
            // Of many, only those that fit.
            if label.is_empty() || room < 8 || index > 0 && width(&label) > room {
                continue;
            }
            let label = cut(&label, room);
            free_from = begin + width(&label) as f64 * LETTER + 10.0;
            self.xml
                .element("text")
                .attribute("class", "m")
                .number("x", begin)
                .number("y", y)
                .text(&label);
        }
    }

    /// Draws the spans of a resource from `drawn_to` on. Returns up to where.
    fn spans(
        &mut self,
        resource: &Resource,
        track: Track,
        groups: &[Group],
        mut drawn_to: f64,
    ) -> f64 {
        let leaked = self.is_leaked(resource);
        let last = resource.spans.len().saturating_sub(1);
        for (index, span) in resource.spans.iter().enumerate() {
            let is_last = index == last;
            let from = self.scale.x(span.from);
            let to = match resource.end {
                None if is_last => self.scale.right(),
                _ => self.scale.x(span.to),
            };
            let mut begin = from.max(drawn_to);
            if to - begin < NARROW && !is_last {
                continue;
            }
            // What was too narrow to draw belongs to the next bar.
            if index > 0 && begin > drawn_to && drawn_to > 0.0 && begin - drawn_to < NARROW {
                begin = drawn_to;
            }
            let ends = (begin, to.max(begin + 1.0));
            self.span(resource, span, ends, track, leaked && is_last);
            // Not under the marks at the beginning.
            let before = groups.partition_point(|group| group.right() <= begin);
            let covered = groups[before..].iter().take_while(|it| it.left() <= begin + MARK);
            let free_from = covered.last().map_or(begin, Group::right);
            self.owner_name(resource, span, (free_from + 4.0, ends.1 - 6.0), track);
            drawn_to = to.max(drawn_to);
        }
        drawn_to
    }

    fn span(
        &mut self,
        resource: &Resource,
        span: &Span,
        (from, to): (f64, f64),
        track: Track,
        is_leak: bool,
    ) {
        self.used.states.insert(span.state as u8);
        let colour = match span.owner {
            Some(owner) => format!("o{}", self.colours[owner].unwrap_or_default()),
            None => "none".to_owned(),
        };
        let (class, verb) = match span.state {
            State::Owned => (colour, "owned by"),
            State::Offered => (format!("{colour} offered"), "offered by"),
            State::Parked => (format!("{colour} parked"), "parked in the lot of"),
            State::Split => ("split".to_owned(), "split; its halves have owners;"),
            State::Cancelled => (format!("{colour} cancelled"), "shut down by a cancel, owned by"),
        };
        let what = label(resource, true);
        let mut title = match span.state {
            State::Split => format!("{what}: split, its halves have owners"),
            _ => format!("{what}: {verb} {}", self.name(span.owner)),
        };
        if is_leak {
            title += ", leaked";
        }
        if self.scale.axis == Axis::Time {
            let length = span.to.time_ns.saturating_sub(span.from.time_ns);
            title += &format!(" for {} (resource {})", scale::duration(length), resource.id);
        }
        let (inset, inset_above) = match span.state {
            // The outlines of two bars do not overlap.
            State::Offered => (1.0, 1.0),
            State::Parked => (0.0, track.height / 3.0),
            _ => (0.0, 0.0),
        };
        self.xml
            .element("rect")
            .attribute("class", &if is_leak { format!("{class} leak") } else { class })
            .number("x", from + inset)
            .number("y", track.top + inset_above)
            .number("width", (to - from - 2.0 * inset).max(0.5))
            .number("height", track.height - 2.0 * inset_above)
            .titled(&title);
    }

    /// Whether the end of its task closed it.
    fn is_leaked(&self, resource: &Resource) -> bool {
        let mut findings = resource.findings.iter().map(|it| &self.timeline.findings[*it]);
        findings.any(|it| it.kind == Kind::Leaked)
    }

    /// Writes the owner's name into a bar.
    fn owner_name(
        &mut self,
        resource: &Resource,
        span: &Span,
        (from, to): (f64, f64),
        track: Track,
    ) {
        let (text_class, words) = match (span.state, span.owner) {
            (State::Owned | State::Cancelled, Some(owner)) => {
                ("in", self.timeline.tasks[owner].name.to_string())
            }
            (State::Offered, Some(_)) => ("m", "offered".to_owned()),
            _ => return,
        };
        let room = ((to - from) / (LETTER - 0.4)).max(0.0) as usize;
        // A name, its first word, or the beginning of that; "offered" only as a whole.
        let first = words.split(' ').next().unwrap_or_default().to_owned();
        let with_half = resource.half.as_ref().map(|(_, half)| format!("{half}: {words}"));
        let candidates = [with_half, Some(words), Some(first.clone())];
        let fitting = candidates.into_iter().flatten().find(|it| width(it) <= room);
        let words = match fitting {
            Some(words) => words,
            None if room > 5 && span.state != State::Offered => cut(&first, room),
            None => return,
        };
        self.xml
            .element("text")
            .attribute("class", text_class)
            .number("x", from)
            .number("y", track.middle() + 4.0)
            .text(&words);
    }

    /// The marks of a resource, to be put together with those of its lane.
    fn items(&self, resource: &Resource) -> Vec<Item> {
        let is_bad = self.is_leaked(resource);
        let mut items = Vec::new();
        let mut has_end = false;
        for mark in &resource.marks {
            let mut x = self.scale.x(mark.at);
            if mark.kind.is_final() {
                match resource.end {
                    // A line that came late: the end is where the next resource begins.
                    Some((at, End::Closed | End::Disowned)) => x = self.scale.x(at),
                    // It had ended otherwise.
                    _ => continue,
                }
                has_end = true;
            }
            let glyph = glyph(mark);
            let is_bad = glyph == Glyph::Replaced || is_bad && mark.kind.is_final();
            items.push(Item { x, glyph, title: self.mark_title(mark), is_bad });
        }
        if let Some((at, End::Unknown)) = resource.end
            && !has_end
        {
            let title = "its end is not in the recording".to_owned();
            items.push(Item { x: self.scale.x(at), glyph: Glyph::Unknown, title, is_bad });
        }
        for finding in &resource.findings {
            let finding = &self.timeline.findings[*finding];
            let x = self.scale.x(finding.at);
            let title = finding_title(finding);
            items.push(Item { x, glyph: Glyph::Finding, title, is_bad: true });
        }
        items
    }
}

fn glyph(mark: &Mark) -> Glyph {
    match mark.kind {
        Kind::Acquired => Glyph::Acquired,
        Kind::Offered => Glyph::Offered,
        Kind::Split => Glyph::Split,
        Kind::Rejoined => Glyph::Rejoined,
        Kind::Cancelled => Glyph::Cancelled,
        Kind::Disowned => Glyph::Disowned,
        Kind::Replaced => Glyph::Replaced,
        _ if mark.is_hand_over() => Glyph::HandOver,
        _ => Glyph::Closed,
    }
}

/// `tcp stream 127.0.0.1:51234`; without the kind, if it is the name of the lane.
fn label(resource: &Resource, with_kind: bool) -> String {
    let kind = if with_kind { &*resource.kind } else { "" };
    let half = resource.half.as_ref().map(|(_, half)| format!(", {half} half")).unwrap_or_default();
    let address = resource.address().map(|it| format!(" {it}")).unwrap_or_default();
    format!("{kind}{half}{address}").trim_start().to_owned()
}

/// The lanes to draw, in their order: those with findings, and then those with the most marks.
fn chosen(timeline: &Timeline, max: usize) -> Vec<usize> {
    let mut lanes: Vec<_> = (0..timeline.lanes.len()).collect();
    if lanes.len() > max {
        lanes.sort_by_cached_key(|lane| {
            let resources = &timeline.lanes[*lane].resources;
            let findings: usize = resources.iter().map(|it| it.findings.len()).sum();
            let marks: usize = resources.iter().map(|it| it.marks.len()).sum();
            (findings == 0, usize::MAX - marks, *lane)
        });
        lanes.truncate(max);
        lanes.sort_unstable();
    }
    lanes
}
