//! Latencies as a picture: how long the slowest one in so many took.

use std::io;

use plotters::prelude::*;

use crate::outcome::Outcome;

/// In pixels.
const SIZE: (u32, u32) = (900, 480);

/// The rarest that is drawn: one in so many.
const ONE_IN_MAX: f64 = 1e6;

/// Draws the latencies of several runs, named, as SVG: to the right ever rarer ones.
///
/// # Errors
/// There is nothing to draw.
pub fn plot(outcomes: &[(String, &Outcome)]) -> io::Result<String> {
    let curves: Vec<(&str, Vec<(f64, f64)>)> =
        outcomes.iter().map(|(name, outcome)| (name.as_str(), curve(outcome))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points.iter());
    if points().next().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no message came back"));
    }
    let lowest = points().map(|point| point.1).fold(f64::MAX, f64::min);
    let highest = points().map(|point| point.1).fold(0.0, f64::max);
    let rarest = points().map(|point| point.0).fold(10.0, f64::max);
    let mut svg = String::new();
    draw(&mut svg, &curves, rarest, lowest * 0.8..highest * 1.25)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(svg)
}

/// Points (one in so many, microseconds).
fn curve(outcome: &Outcome) -> Vec<(f64, f64)> {
    let histogram = &outcome.histogram;
    let mut points = Vec::new();
    let rarest = (histogram.len() as f64).min(ONE_IN_MAX);
    let mut one_in = 1.0;
    while one_in <= rarest {
        let nanos = histogram.value_at_quantile(1.0 - 1.0 / one_in);
        points.push((one_in, nanos as f64 / 1000.0));
        one_in *= 1.1;
    }
    points
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(
    svg: &mut String,
    curves: &[(&str, Vec<(f64, f64)>)],
    rarest: f64,
    micros: std::ops::Range<f64>,
) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(18)
        .x_label_area_size(48)
        .y_label_area_size(76)
        .build_cartesian_2d((1.0..rarest).log_scale(), micros.log_scale())?;
    let style = ("sans-serif", 15).into_font();
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(style.clone())
        .axis_desc_style(style.clone())
        .x_desc("messages: the slowest of so many")
        .y_desc("latency")
        .x_label_formatter(&|one_in| format!("{one_in:.0}"))
        .y_label_formatter(&|micros| crate::show::time(*micros))
        .draw()?;
    const COLOURS: [RGBColor; 6] = [
        RGBColor(0, 90, 181),
        RGBColor(220, 50, 32),
        RGBColor(64, 130, 64),
        RGBColor(150, 80, 160),
        RGBColor(190, 120, 0),
        RGBColor(80, 80, 80),
    ];
    for (index, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
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
