//! Tests of the picture's text. `tests/it/picture.rs` reads it with an XML parser.

use super::*;
use crate::line::Kind;
use crate::test_lines::{CHILD, Lines, MAIN, story};

fn draw(lines: &[crate::Line], axis: Axis) -> String {
    render(&Timeline::of(lines), &Options { axis, ..Options::default() })
}

#[test]
fn the_order_of_events_alone_decides_the_picture_on_its_axis() {
    let lines = story();
    let mut other = lines.clone();
    for (index, line) in other.iter_mut().enumerate() {
        line.time_ns = line.time_ns * 1000 + index as u64 * 7;
        line.thread = Some(4711);
    }
    assert_eq!(draw(&lines, Axis::Order), draw(&other, Axis::Order));
    assert_ne!(draw(&lines, Axis::Time), draw(&other, Axis::Time));
}

#[test]
fn steps_too_close_for_symbols_are_counted_and_listed() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    for _ in 0..20 {
        lines.step(Kind::Given, (1, 3), MAIN, CHILD);
        lines.step(Kind::Transferred, (1, 3), CHILD, MAIN);
    }
    lines.ended(Kind::Released, (1, 3), MAIN);
    let mut late = Lines(lines.0);
    late.push(Kind::End).time_ns = 1_000_000_000;
    let picture = draw(&late.0, Axis::Time);
    assert!(picture.contains(">42</text>"), "{picture}");
    assert!(picture.contains("\nand 34 more</title>"), "{picture}");
    assert!(picture.contains("class=\"cross\""), "the close is visible: {picture}");
}

#[test]
fn a_large_recording_becomes_a_bounded_picture_that_says_what_is_missing() {
    let mut lines = Lines::new();
    for round in 0..30 {
        for number in 0..1000_u32 {
            let resource = (u64::from(round * 1000 + number), number.cast_signed());
            lines.acquired(resource, MAIN);
            lines.step(Kind::Given, resource, MAIN, CHILD);
            lines.ended(Kind::Released, resource, CHILD);
            lines.push(Kind::TaskStarted);
        }
    }
    for axis in [Axis::Time, Axis::Order] {
        let picture = draw(&lines.0, axis);
        assert!(picture.len() < 4 << 20, "{} bytes", picture.len());
        assert!(picture.contains("900 lanes not drawn"));
    }
}

#[test]
fn lanes_with_findings_are_drawn_first() {
    let mut lines = Lines::new();
    for number in 0..200_i32 {
        lines.acquired((u64::from(number.unsigned_abs()) + 1, number), MAIN);
    }
    lines.leak(&[200], MAIN);
    let picture = draw(&lines.0, Axis::Order);
    assert!(picture.contains("<title>fd 199</title>"));
    assert!(!picture.contains("<title>fd 198</title>"));
}

#[test]
fn only_the_close_of_a_leak_is_red() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    let line = lines.leak(&[1], CHILD);
    line.event = Kind::Violation;
    lines.ended(Kind::Released, (1, 3), MAIN);
    let picture = draw(&lines.0, Axis::Order);
    assert!(picture.contains("class=\"cross\"") && !picture.contains("class=\"badcross\""));
    assert!(draw(&story(), Axis::Order).contains("class=\"badcross\""));
}

#[test]
fn a_task_begins_with_the_first_step_that_names_it() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    lines.step(Kind::Given, (1, 3), MAIN, CHILD);
    let without = draw(&lines.0, Axis::Order);
    lines.acquired((2, 4), MAIN);
    let late = draw(&Lines(lines.0.clone()).0, Axis::Order);
    lines.task(Kind::TaskStarted, CHILD);
    assert_eq!(late, draw(&lines.0, Axis::Order));
    assert_ne!(late, without);
}
