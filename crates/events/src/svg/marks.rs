//! The marks of a bar: one symbol per step, or a circle with the number of steps that are too close.

use super::Canvas;

/// Marks that are closer are drawn as one.
const CLOSE: f64 = 8.0;
/// The widest group.
const WIDEST: f64 = 48.0;
/// Between the symbols of a group.
const STEP: f64 = 13.0;
/// The maximum number of steps in a tooltip.
const STEPS_MAX: usize = 8;

/// The vertical place of a bar.
#[derive(Clone, Copy)]
pub(super) struct Track {
    pub(super) top: f64,
    pub(super) height: f64,
}

impl Track {
    pub(super) fn middle(self) -> f64 {
        self.top + self.height / 2.0
    }
}

/// A symbol. The order is that of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Glyph {
    Acquired,
    Split,
    Rejoined,
    Offered,
    HandOver,
    Cancelled,
    Unknown,
    Disowned,
    Closed,
    Replaced,
    Finding,
}

/// One mark.
pub(super) struct Item {
    pub(super) x: f64,
    pub(super) glyph: Glyph,
    pub(super) title: String,
    pub(super) is_bad: bool,
}

/// Marks that are drawn together: as a symbol, if it is one, or as a circle with their number.
pub(super) struct Group {
    items: Vec<Item>,
    /// The x of the symbol or circle.
    middle: f64,
}

impl Group {
    fn first(&self) -> f64 {
        self.items[0].x
    }

    fn is_one(&self) -> bool {
        self.items.len() == 1
    }

    /// What is drawn to the right of the circle: the last close, if nothing follows it, and a finding.
    fn visible(&self) -> impl Iterator<Item = &Item> {
        let last = self.items.iter().rev().find(|it| it.glyph != Glyph::Finding);
        let close = last.filter(|it| it.glyph == Glyph::Closed);
        let finding = self.items.iter().rev().find(|it| it.glyph == Glyph::Finding);
        let visible = close.into_iter().chain(finding);
        visible.filter(|_| !self.is_one())
    }

    /// The left end.
    pub(super) fn left(&self) -> f64 {
        self.middle - if self.is_one() { 5.0 } else { 8.0 }
    }

    /// The right end.
    pub(super) fn right(&self) -> f64 {
        let radius = if self.is_one() { 5.0 } else { 8.0 };
        self.middle + radius + self.visible().count() as f64 * STEP
    }

    /// Whether a group is hidden by this one.
    fn covers(&self, next: &Group) -> bool {
        let is_near = next.first() - self.first() < WIDEST;
        let are_circles = !(self.is_one() && next.is_one());
        is_near && are_circles && next.middle - 7.0 < self.right()
    }

    fn add(&mut self, more: Vec<Item>) {
        self.items.extend(more);
        self.middle = (self.first() + self.items[self.items.len() - 1].x) / 2.0;
    }
}

/// Puts marks together that would be drawn on top of each other. They are sorted by their place.
pub(super) fn groups(items: Vec<Item>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for item in items {
        match groups.last_mut() {
            Some(group) if item.x - group.first() < CLOSE => group.add(vec![item]),
            _ => groups.push(Group { middle: item.x, items: vec![item] }),
        }
    }
    let mut merged: Vec<Group> = Vec::new();
    for group in groups {
        match merged.last_mut() {
            Some(last) if last.covers(&group) => last.add(group.items),
            _ => merged.push(group),
        }
    }
    merged
}

impl Canvas<'_> {
    /// Draws marks.
    pub(super) fn marks(&mut self, groups: &[Group], track: Track) {
        for group in groups {
            if let [only] = &group.items[..] {
                self.glyph(only.glyph, only.x, track, only.is_bad, &only.title);
            } else {
                self.group(group, track);
            }
        }
    }

    fn group(&mut self, group: &Group, track: Track) {
        self.used.has_groups = true;
        let Group { items, middle, .. } = group;
        let mut titles: Vec<_> = items.iter().take(STEPS_MAX).map(|it| it.title.as_str()).collect();
        let rest = format!("and {} more", items.len().saturating_sub(STEPS_MAX));
        if items.len() > STEPS_MAX {
            titles.push(&rest);
        }
        let is_bad = items.iter().any(|it| it.is_bad);
        let mut x = middle + 1.0;
        for item in group.visible() {
            x += STEP;
            self.glyph(item.glyph, x, track, item.is_bad, &item.title);
        }
        self.xml.element("g").open();
        self.xml.element("title").text(&titles.join("\n"));
        self.xml
            .element("circle")
            .attribute("class", if is_bad { "manybad" } else { "many" })
            .number("cx", *middle)
            .number("cy", track.middle())
            .number("r", 7.5)
            .empty();
        let count = if items.len() > 99 { "99+".to_owned() } else { items.len().to_string() };
        self.xml
            .element("text")
            .attribute("class", "n")
            .number("x", *middle)
            .number("y", track.middle() + 3.3)
            .text(&count);
        self.xml.close();
    }

    /// Draws a symbol.
    pub(super) fn glyph(&mut self, glyph: Glyph, x: f64, track: Track, is_bad: bool, title: &str) {
        self.used.glyphs.insert(glyph);
        let y = track.middle();
        let (class, path) = match glyph {
            Glyph::Acquired => ("mark", circle(x, y, 5.0)),
            Glyph::HandOver => ("mark", format!("M{:.1} {:.1}l10 6l-10 6z", x - 4.0, y - 6.0)),
            Glyph::Offered => ("hollow", format!("M{x:.1} {:.1}l6 6l-6 6l-6 -6z", y - 6.0)),
            Glyph::Split => ("hollow", format!("M{:.1} {y:.1}l8 -7v14z", x - 4.0)),
            Glyph::Rejoined => ("hollow", format!("M{:.1} {y:.1}l-8 -7v14z", x + 4.0)),
            Glyph::Cancelled => ("hollow", format!("M{:.1} {:.1}h9v9h-9z", x - 4.5, y - 4.5)),
            Glyph::Disowned => ("hollow", circle(x, y, 5.0)),
            Glyph::Closed | Glyph::Unknown if !is_bad => ("cross", cross(x, y)),
            Glyph::Closed | Glyph::Unknown => ("badcross", cross(x, y)),
            Glyph::Replaced | Glyph::Finding => ("bad", circle(x, y, 7.0)),
        };
        let letter = match glyph {
            Glyph::Replaced | Glyph::Finding => "!",
            Glyph::Unknown => "?",
            _ => "",
        };
        if letter.is_empty() {
            if class.ends_with("cross") {
                // So that it is visible on a bar.
                self.xml.element("path").attribute("class", "halo").attribute("d", &path).empty();
            }
            self.xml.element("path").attribute("class", class).attribute("d", &path).titled(title);
            return;
        }
        self.xml.element("g").open();
        self.xml.element("title").text(title);
        let text_class = if glyph == Glyph::Unknown {
            "n"
        } else {
            self.xml.element("path").attribute("class", class).attribute("d", &path).empty();
            "w"
        };
        self.xml
            .element("text")
            .attribute("class", text_class)
            .number("x", x)
            .number("y", y + 3.5)
            .text(letter);
        self.xml.close();
    }
}

fn circle(x: f64, y: f64, r: f64) -> String {
    format!("M{:.1} {y:.1}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z", x - r, d = 2.0 * r)
}

fn cross(x: f64, y: f64) -> String {
    format!("M{:.1} {:.1}l10 10m0 -10l-10 10", x - 5.0, y - 5.0)
}
