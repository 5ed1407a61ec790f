//! The latency plot: latency by percentile, as SVG.
//!
//! The percentile axis is spaced like that of HdrHistogram's plots, by `log10(1 / (1 - q))`: 90 %, 99 %,
//! 99.9 % and so on are equally far apart, so that the high percentiles can be read.

use std::io;
use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

use crate::result::LoadResult;
use crate::units::time;

/// In pixels.
const SIZE: (u32, u32) = (900, 480);

/// The highest percentile that is drawn, as a position on the axis: 99.9999 %.
const POSITION_MAX: f64 = 6.0;

/// The distance between two points of a curve on the axis.
const STEP: f64 = 0.04;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(64, 130, 64),
    RGBColor(150, 80, 160),
    RGBColor(190, 120, 0),
    RGBColor(80, 80, 80),
];

/// Draws the latencies of several named results as SVG.
///
/// # Errors
/// None of the results has latencies.
pub fn plot(results: &[(String, &LoadResult)]) -> io::Result<String> {
    let curves: Vec<Curve<'_>> =
        results.iter().map(|(name, result)| Curve::of(name, result)).collect();
    let micros = || curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
    let (Some(lowest), Some(highest)) = (micros().reduce(f64::min), micros().reduce(f64::max))
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there are no latencies"));
    };
    let end = curves.iter().map(|curve| curve.end).fold(1.0, f64::max);
    let mut svg = String::new();
    draw(&mut svg, &curves, end, lowest * 0.8..highest * 1.25)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(svg)
}

/// Where a quantile is on the percentile axis.
fn position(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// The quantile at a position of the percentile axis.
fn quantile(position: f64) -> f64 {
    1.0 - 10_f64.powf(-position)
}

/// Positions with a tick and its label: 0 %, 50 %, 90 %, 99 %, 99.9 %, ...
fn ticks(end: f64) -> Vec<f64> {
    let nines = (1..=POSITION_MAX as u32).map(f64::from);
    [0.0, position(0.5)].into_iter().chain(nines).filter(|tick| *tick <= end).collect()
}

/// `99.9%`: the label of a tick, without digits that are only rounding.
fn label(tick: f64) -> String {
    let decimals = (tick.round() as usize).saturating_sub(2);
    format!("{:.decimals$}%", quantile(tick) * 100.0)
}

/// The percentile axis, from 0 % to the position `end`.
struct PercentileAxis {
    end: f64,
}

impl Ranged for PercentileAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (left, right): (i32, i32)) -> i32 {
        left + (f64::from(right - left) * position / self.end).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        ticks(self.end)
    }

    fn range(&self) -> Range<f64> {
        0.0..self.end
    }
}

impl ValueFormatter<f64> for PercentileAxis {
    fn format(position: &f64) -> String {
        label(*position)
    }
}

/// The latencies of one result, in microseconds, by position on the percentile axis.
struct Curve<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
    /// The points at ticks.
    marks: Vec<(f64, f64)>,
    /// The position of the highest percentile that this many latencies can show.
    end: f64,
}

impl<'a> Curve<'a> {
    fn of(name: &'a str, result: &LoadResult) -> Curve<'a> {
        let histogram = &result.histogram;
        if histogram.is_empty() {
            return Curve { name, points: Vec::new(), marks: Vec::new(), end: 0.0 };
        }
        let end = (histogram.len() as f64).log10().min(POSITION_MAX);
        let point = |position: f64| {
            (position, histogram.value_at_quantile(quantile(position)) as f64 / 1000.0)
        };
        let steps = (end / STEP) as u32;
        let points = (0..=steps).map(|step| f64::from(step) * STEP).chain([end]).map(point);
        let marks = ticks(end).into_iter().skip(1).map(point);
        Curve { name, points: points.collect(), marks: marks.collect(), end }
    }
}

fn draw(
    svg: &mut String,
    curves: &[Curve<'_>],
    end: f64,
    micros: Range<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(18)
        .x_label_area_size(48)
        .y_label_area_size(76)
        .build_cartesian_2d(PercentileAxis { end }, micros.log_scale())?;
    let style = ("sans-serif", 15).into_font();
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(style.clone())
        .axis_desc_style(style.clone())
        .x_desc("percentile")
        .y_desc("latency")
        .y_label_formatter(&|micros| time(*micros))
        .draw()?;
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?
            .label(curve.name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
        let marks = curve.marks.iter();
        chart.draw_series(marks.map(|mark| Circle::new(*mark, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(style)
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_labelled_with_their_percentiles() {
        let labels: Vec<String> = ticks(POSITION_MAX).into_iter().map(label).collect();
        let expected = ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
        assert_eq!(labels, expected);
        assert_eq!(ticks(2.5).len(), 4, "none beyond the end");
    }

    #[test]
    fn nines_are_equally_far_apart() {
        let distance = |from, to| position(to) - position(from);
        assert!((distance(0.9, 0.99) - distance(0.99, 0.999)).abs() < 1e-9);
        assert!((quantile(position(0.75)) - 0.75).abs() < 1e-9);
    }
}
