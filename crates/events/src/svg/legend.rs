//! Below the lanes: the symbols that were used, the findings, and what is missing.

use std::collections::BTreeSet;

use echown_report::Plural;

use super::marks::{Glyph, Track};
use super::{Canvas, LETTER, MARGIN, finding_title};
use crate::columns::{cut, width};
use crate::timeline::State;

/// The maximum number of findings that are listed.
const FINDINGS_MAX: usize = 12;
const LINE: f64 = 18.0;

/// The symbols in the picture.
#[derive(Default)]
pub(super) struct Used {
    pub(super) glyphs: BTreeSet<Glyph>,
    /// `State`s, as numbers.
    pub(super) states: BTreeSet<u8>,
    pub(super) has_groups: bool,
}

impl Canvas<'_> {
    pub(super) fn legend(&mut self) {
        let used = std::mem::take(&mut self.used);
        self.y += 6.0;
        let mut x = MARGIN;
        let states = [
            (State::Owned, "o5", "owned, in the owner's colour"),
            (State::Offered, "o5 offered", "offered, not yet claimed"),
            (State::Parked, "o5 parked", "parked in the owner's lot"),
            (State::Split, "split", "split: its halves have owners"),
            (State::Cancelled, "o5 cancelled", "shut down by a cancel"),
        ];
        for (state, class, words) in states.iter().filter(|it| used.states.contains(&(it.0 as u8)))
        {
            let at = self.place(&mut x, 24.0, words);
            // As the bars are drawn.
            let inset = if *state == State::Parked { 3.0 } else { 0.0 };
            self.xml
                .element("rect")
                .attribute("class", class)
                .number("x", at)
                .number("y", self.y + 2.0 + inset)
                .number("width", 22.0)
                .number("height", 10.0 - 2.0 * inset)
                .empty();
            self.words(at + 28.0, words);
        }
        for glyph in &used.glyphs {
            let words = words(*glyph);
            let at = self.place(&mut x, 14.0, words);
            let track = Track { top: self.y, height: 14.0 };
            self.glyph(*glyph, at + 7.0, track, false, words);
            self.words(at + 18.0, words);
        }
        if used.has_groups {
            let words = "steps too close to draw";
            let at = self.place(&mut x, 14.0, words);
            self.xml
                .element("circle")
                .attribute("class", "many")
                .number("cx", at + 7.0)
                .number("cy", self.y + 7.0)
                .number("r", 7.0)
                .empty();
            self.xml
                .element("text")
                .attribute("class", "n")
                .number("x", at + 7.0)
                .number("y", self.y + 10.3)
                .text("n");
            self.words(at + 18.0, words);
        }
        self.y += LINE;
    }

    /// A place for a symbol and its words; on the next line, if there is no room.
    fn place(&mut self, x: &mut f64, symbol: f64, words: &str) -> f64 {
        let needed = symbol + 18.0 + width(words) as f64 * LETTER;
        if *x > MARGIN && *x + needed > self.scale.width - MARGIN {
            *x = MARGIN;
            self.y += LINE;
        }
        let at = *x;
        *x += needed;
        at
    }

    fn words(&mut self, x: f64, words: &str) {
        self.xml
            .element("text")
            .attribute("class", "m")
            .number("x", x)
            .number("y", self.y + 11.0)
            .text(words);
    }

    /// The findings in words.
    pub(super) fn findings(&mut self) {
        let findings = &self.timeline.findings;
        for finding in findings.iter().take(FINDINGS_MAX) {
            self.note("red", &finding_title(finding));
        }
        if findings.len() > FINDINGS_MAX {
            let rest = findings.len() - FINDINGS_MAX;
            self.note("red", &format!("and {}", Plural(rest as u64, "more finding")));
        }
    }

    /// What the picture does not show.
    pub(super) fn missing(&mut self, lanes: usize) {
        if lanes > 0 {
            let lanes = Plural(lanes as u64, "lane");
            self.note("m", &format!("{lanes} not drawn: select some by task, resource or time"));
        }
        let lost = self.timeline.lost_count();
        if lost > 0 {
            self.note("m", &format!("{} lost by the recorder", Plural(lost, "event")));
        }
        let omitted = self.timeline.omitted;
        if omitted > 0 {
            self.note("m", &format!("{} not drawn: too many", Plural(omitted, "step")));
        }
    }

    fn note(&mut self, class: &str, text: &str) {
        let room = ((self.scale.width - 2.0 * MARGIN) / LETTER) as usize;
        self.xml
            .element("text")
            .attribute("class", class)
            .number("x", MARGIN)
            .number("y", self.y + 12.0)
            .text(&cut(text, room));
        self.y += LINE;
    }
}

fn words(glyph: Glyph) -> &'static str {
    match glyph {
        Glyph::Acquired => "acquired",
        Glyph::Split => "split",
        Glyph::Rejoined => "rejoined",
        Glyph::Offered => "offered",
        Glyph::HandOver => "handed over",
        Glyph::Cancelled => "cancelled",
        Glyph::Unknown => "end not recorded",
        Glyph::Disowned => "disowned",
        Glyph::Closed => "closed",
        Glyph::Replaced => "closed or reused outside the registry",
        Glyph::Finding => "finding",
    }
}
