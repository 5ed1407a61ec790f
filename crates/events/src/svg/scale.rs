//! The horizontal axis: from positions to pixels.

use super::xml::Xml;
use super::{Axis, MARGIN, Options, TOP};
use crate::timeline::{At, Order, Timeline};

/// The widest column of an axis of events.
const COLUMN_MAX: f64 = 72.0;
/// The narrowest picture: room for its legend.
const WIDTH_MIN: f64 = 640.0;
/// The least space between two labels.
const TICK: f64 = 84.0;

/// The axis.
pub(super) struct Scale {
    pub(super) axis: Axis,
    /// The width of the picture.
    pub(super) width: f64,
    order: Order,
    column: f64,
    end_ns: u64,
}

impl Scale {
    pub(super) fn new(timeline: &Timeline, options: &Options) -> Scale {
        let order = timeline.order();
        let columns = order.room() as f64;
        let room = f64::from(options.width).max(WIDTH_MIN) - 2.0 * MARGIN;
        let column = (room / columns).min(COLUMN_MAX);
        let width = match options.axis {
            Axis::Time => room + 2.0 * MARGIN,
            Axis::Order => (column * columns + 2.0 * MARGIN).max(WIDTH_MIN),
        };
        Scale { axis: options.axis, width, order, column, end_ns: timeline.end.time_ns.max(1) }
    }

    /// The left end of the axis.
    pub(super) fn left(&self) -> f64 {
        match self.axis {
            Axis::Time => MARGIN + 8.0,
            Axis::Order => MARGIN,
        }
    }

    /// The right end of the axis.
    pub(super) fn right(&self) -> f64 {
        match self.axis {
            Axis::Time => self.width - MARGIN - 24.0,
            Axis::Order => MARGIN + self.column * self.order.room() as f64,
        }
    }

    pub(super) fn x(&self, at: At) -> f64 {
        match self.axis {
            Axis::Time => {
                let part = at.time_ns as f64 / self.end_ns as f64;
                self.left() + part.min(1.0) * (self.right() - self.left())
            }
            Axis::Order => self.left() + (self.order.column(at) as f64 + 0.5) * self.column,
        }
    }

    /// The axis with its labels, and the lines below them.
    pub(super) fn draw(&self, xml: &mut Xml, timeline: &Timeline, bottom: f64) {
        let head = match self.axis {
            Axis::Time => "time since the beginning",
            Axis::Order => "events in their order",
        };
        xml.element("text")
            .attribute("class", "m")
            .number("x", MARGIN)
            .number("y", MARGIN + 28.0)
            .text(head);
        let ticks = match self.axis {
            Axis::Time => self.times(timeline),
            Axis::Order => self.numbers(),
        };
        for (x, label) in ticks {
            xml.element("line")
                .attribute("class", "grid")
                .number("x1", x)
                .number("x2", x)
                .number("y1", TOP)
                .number("y2", bottom)
                .empty();
            if !label.is_empty() {
                xml.element("text")
                    .attribute("class", "m mid")
                    .number("x", x)
                    .number("y", TOP - 4.0)
                    .text(&label);
            }
        }
    }

    fn times(&self, timeline: &Timeline) -> Vec<(f64, String)> {
        let most = ((self.right() - self.left()) / TICK).max(1.0);
        let step = round_up(self.end_ns as f64 / most);
        let mut ticks = Vec::new();
        let mut time_ns = 0;
        while time_ns <= timeline.end.time_ns && ticks.len() < 100 {
            ticks.push((self.x(At { column: 0, time_ns }), duration(time_ns)));
            time_ns += step;
        }
        ticks
    }

    /// Each column, with a number as often as there is room.
    fn numbers(&self) -> Vec<(f64, String)> {
        let every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]
            .into_iter()
            .find(|every| *every as f64 * self.column >= 18.0)
            .unwrap_or(100_000);
        let lines = if self.column >= 6.0 { 1 } else { every };
        let columns = (0..self.order.count()).filter(|it| (it + 1) % lines == 0);
        columns
            .map(|column| {
                let x = self.left() + (column as f64 + 0.5) * self.column;
                let is_labelled = (column + 1) % every == 0;
                (x, if is_labelled { (column + 1).to_string() } else { String::new() })
            })
            .collect()
    }
}

/// The next larger 1, 2 or 5 with zeros.
fn round_up(value: f64) -> u64 {
    let mut step = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            if (step * factor) as f64 >= value {
                return step * factor;
            }
        }
        if step > u64::MAX / 100 {
            return step;
        }
        step *= 10;
    }
}

/// A duration with three digits at least: `1.25 ms`.
pub(super) fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0 => return "0".to_owned(),
        1..1_000 => (ns as f64, "ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = format!("{value:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_no_useless_zeros() {
        let shown = [0, 7, 1_500, 2_000_000, 1_234_567, 90_000_000_000].map(duration);
        assert_eq!(shown, ["0", "7 ns", "1.5 µs", "2 ms", "1.235 ms", "90 s"]);
    }

    #[test]
    fn steps_of_the_axis_are_round() {
        let steps = [0.2, 1.0, 3.0, 51.0, 1_999.0].map(round_up);
        assert_eq!(steps, [1, 1, 5, 100, 2_000]);
        assert!(round_up(f64::MAX) > 1);
    }
}
