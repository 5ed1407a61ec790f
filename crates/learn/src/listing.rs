//! Programs with line numbers, and which of their lines differ.

use similar::{ChangeTag, TextDiff};

/// A line of a listing.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    /// Its number, from 1; a removed line has none.
    pub(crate) number: Option<usize>,
    /// `|`, or for lines that differ `+` and `-`.
    pub(crate) mark: char,
    /// Its text, without the line break.
    pub(crate) text: &'a str,
}

/// The lines of a program.
pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    let numbered = text.lines().zip(1..);
    numbered.map(|(text, number)| Line { number: Some(number), mark: '|', text }).collect()
}

/// The lines of `text`, with those that it has instead of lines of `before`.
pub(crate) fn changed_lines<'a>(before: &'a str, text: &'a str) -> Vec<Line<'a>> {
    let diff = TextDiff::from_lines(before, text);
    let changes = diff.iter_all_changes().map(|change| Line {
        number: change.new_index().map(|index| index + 1),
        mark: match change.tag() {
            ChangeTag::Equal => '|',
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        },
        text: change.value().trim_end_matches('\n'),
    });
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_differ_are_marked() {
        let line = |number, mark, text| Line { number, mark, text };
        let expected = [
            line(Some(1), '|', "a"),
            line(None, '-', "b"),
            line(Some(2), '+', "x"),
            line(Some(3), '+', "y"),
            line(Some(4), '|', "c"),
        ];
        assert_eq!(changed_lines("a\nb\nc\n", "a\nx\ny\nc\n"), expected);
    }
}
