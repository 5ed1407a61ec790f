//! The marks of a bar: one symbol per step, or a circle with the number of steps that are too close.

use super::Canvas;

/// Marks that are closer are drawn as one.
const CLOSE: f64 = 8.0;
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

impl Canvas<'_> {
    /// Draws marks, which are sorted by their place.
    pub(super) fn marks(&mut self, mut items: &[Item], track: Track) {
        while let Some(first) = items.first() {
            let count = items.iter().take_while(|it| it.x - first.x < CLOSE).count();
            let (group, rest) = items.split_at(count);
            items = rest;
            if let [only] = group {
                self.glyph(only.glyph, only.x, track, only.is_bad, &only.title);
            } else {
                self.group(group, track);
            }
        }
    }

    fn group(&mut self, group: &[Item], track: Track) {
        self.used.has_groups = true;
        let mut titles: Vec<_> = group.iter().take(STEPS_MAX).map(|it| it.title.as_str()).collect();
        let rest = format!("and {} more", group.len().saturating_sub(STEPS_MAX));
        if group.len() > STEPS_MAX {
            titles.push(&rest);
        }
        let is_bad = group.iter().any(|it| it.is_bad);
        let middle = (group[0].x + group[group.len() - 1].x) / 2.0;
        // A close, or a finding, is visible on its own.
        let mut x = middle + 14.0;
        for wanted in [Glyph::Closed, Glyph::Finding] {
            if let Some(item) = group.iter().rev().find(|it| it.glyph == wanted) {
                self.glyph(wanted, x, track, item.is_bad, &item.title);
                x += 13.0;
            }
        }
        self.xml.element("g").open();
        self.xml.element("title").text(&titles.join("\n"));
        self.xml
            .element("circle")
            .attribute("class", if is_bad { "manybad" } else { "many" })
            .number("cx", middle)
            .number("cy", track.middle())
            .number("r", 7.5)
            .empty();
        let count = if group.len() > 99 { "99+".to_owned() } else { group.len().to_string() };
        self.xml
            .element("text")
            .attribute("class", "n")
            .number("x", middle)
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
