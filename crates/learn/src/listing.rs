//! Programs with line numbers, and which of their lines differ.

use similar::{ChangeTag, TextDiff};

/// A line of a listing.
pub(crate) struct Line<'a> {
    /// Its number, from 1.
    pub(crate) number: usize,
    /// Whether the other program does not have it.
    pub(crate) is_changed: bool,
    /// Its text, without the line break.
    pub(crate) text: &'a str,
}

/// The lines of a program.
pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    let numbered = text.lines().zip(1..);
    numbered.map(|(text, number)| Line { number, is_changed: false, text }).collect()
}

/// The lines of `text`, those marked that `before` does not have.
pub(crate) fn changed_lines<'a>(before: &'a str, text: &'a str) -> Vec<Line<'a>> {
    let diff = TextDiff::from_lines(before, text);
    let mut lines = Vec::new();
    for change in diff.iter_all_changes() {
        let Some(index) = change.new_index() else { continue };
        lines.push(Line {
            number: index + 1,
            is_changed: change.tag() == ChangeTag::Insert,
            text: change.value().trim_end_matches('\n'),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_differ_are_marked() {
        let marked: Vec<(usize, &str, bool)> = changed_lines("a\nb\nc\n", "a\nx\ny\nc\n")
            .iter()
            .map(|line| (line.number, line.text, line.is_changed))
            .collect();
        assert_eq!(marked, [(1, "a", false), (2, "x", true), (3, "y", true), (4, "c", false)]);
    }
}
