//! Tests of the text: what a terminal shows.

use super::*;
use crate::test_lines::{CHILD, Lines, MAIN, story};

fn text(timeline: &Timeline, columns: usize, ascii: bool) -> String {
    render(timeline, &Options { columns, ascii })
}

#[test]
fn a_terminal_shows_owners_hand_overs_closes_and_findings() {
    let timeline = Timeline::of(&story());
    let expected = "\
fd 3 pipe  ●─main───────▶─child──────────────×      ●─main──────────────────────
fd 4 pipe        ●─main────────◇╌╌╌╌╌╌▶─child──────────────×      !
● acquired   ▶ handed over   ◇ offered   × closed   ! finding
! leak: task 2 `child` ended
";
    let shown = text(&timeline, 80, false);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn a_narrow_terminal_gets_letters_for_owners_and_a_key() {
    let mut lines = Lines::new();
    let names = [(1, "accept 127.0.0.1:3000"), (2, "accept 127.0.0.1:3001")];
    lines.acquired((1, 3), names[0]);
    lines.step(Kind::Given, (1, 3), names[0], names[1]);
    lines.ended(Kind::Released, (1, 3), names[1]);
    let expected = "\
fd 3 pipe  o-A------->-B-------x
o acquired   > handed over   x closed
A = task 1 `accept 127.0.0.1:3000`
B = task 2 `accept 127.0.0.1:3001`
";
    let shown = text(&Timeline::of(&lines.0), 42, true);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn first_words_are_labels_if_they_differ() {
    let mut lines = Lines::new();
    let names = [(1, "accept 127.0.0.1:3000"), (2, "echo 127.0.0.1:50000")];
    lines.acquired((1, 3), names[0]);
    lines.step(Kind::Given, (1, 3), names[0], names[1]);
    let expected = "\
fd 3 pipe  o-accept---->-echo------------------
o acquired   > handed over
accept = task 1 `accept 127.0.0.1:3000`
echo = task 2 `echo 127.0.0.1:50000`
";
    let shown = text(&Timeline::of(&lines.0), 80, true);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn halves_have_rows_of_their_own() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    for (id, half) in [(2, "read"), (3, "write")] {
        let line = lines.acquired((id, 3), MAIN);
        (line.half_of, line.half) = (Some(1), Some(half.into()));
    }
    lines.ended(Kind::Split, (1, 3), MAIN);
    lines.step(Kind::Given, (3, 3), MAIN, CHILD).half_of = Some(1);
    lines.ended(Kind::Released, (2, 3), MAIN).half_of = Some(1);
    lines.ended(Kind::Released, (3, 3), CHILD).half_of = Some(1);
    lines.ended(Kind::Released, (1, 3), MAIN);
    let expected = "\
fd 3 pipe     ●─main──────────────────┬································×
  read half           ●─main───────────────────────────×
  write half                  ●─main───────────▶─child─────────×
● acquired   ▶ handed over   ┬ split   × closed
";
    let shown = text(&Timeline::of(&lines.0), 80, false);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn a_handle_that_is_dropped_after_its_number_was_lost_has_no_second_end() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    lines.ended(Kind::Replaced, (1, 3), MAIN);
    lines.acquired((2, 3), MAIN);
    lines.ended(Kind::Released, (2, 3), MAIN);
    lines.ended(Kind::Dropped, (1, 3), MAIN);
    let timeline = Timeline::of(&lines.0);
    let shown = text(&timeline, 80, true);
    assert_eq!(shown.lines().next().unwrap().matches('x').count(), 1, "{shown}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut lines = Lines::new();
    let wide = "名前".repeat(30);
    for number in 0..100 {
        let task = (number + 1, &*wide);
        lines.acquired((number, i32::try_from(number).unwrap()), task).kind =
            Some("kind".repeat(20).into());
        lines.leak(&[number], task).message = Some("long ".repeat(50));
    }
    for columns in [40, 60, 80, 132] {
        for ascii in [false, true] {
            let shown = text(&Timeline::of(&lines.0), columns, ascii);
            for line in shown.lines() {
                assert!(width(line) <= columns, "{}: {line}", width(line));
            }
            assert!(shown.contains("... and 60 more rows"), "{shown}");
        }
    }
}

#[test]
fn ascii_is_ascii() {
    let shown = text(&Timeline::of(&story()), 80, true);
    assert!(shown.is_ascii(), "{shown}");
}
