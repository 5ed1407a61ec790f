//! Reports with underlined source lines, wrapped to the width of a terminal.
//!
//! A label that is too long continues below its first word, or, where there is little room, on lines
//! of its own. Source lines are not wrapped.

use crate::wrap::wrapping;

/// The least room for a label to the right of its underline.
const LABEL_MIN: usize = 32;

/// The column of labels that have no room to the right.
const LABEL_INDENT: usize = 4;

/// The report at a width in columns.
pub(crate) fn wrapped(text: &str, columns: usize) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if textwrap::core::display_width(line) <= columns {
            lines.push(line.to_owned());
        } else {
            lines.extend(wrapped_line(line, columns));
        }
    }
    lines.join("\n")
}

fn wrapped_line(line: &str, columns: usize) -> Vec<String> {
    let blank = |text: &str| " ".repeat(textwrap::core::display_width(text));
    let trimmed = line.trim_start();
    let indent = &line[..line.len() - trimmed.len()];
    if let Some((word, text)) = trimmed.split_once(": ").filter(|_| trimmed.starts_with("= ")) {
        let label = format!("{indent}{word}: ");
        return fill(text, &label, &blank(&label), columns);
    }
    let Some((gutter, rest)) = line.split_once('|').filter(|(gutter, _)| gutter.trim().is_empty())
    else {
        return fill(trimmed, indent, &format!("{indent}  "), columns);
    };
    // What stands before the label: connectors and the underline.
    let start = rest.find(|sign: char| !" |^-_".contains(sign)).unwrap_or(rest.len());
    let (marks, label) = rest.split_at(start);
    let before = format!("{gutter}|{marks}");
    let room = columns.saturating_sub(textwrap::core::display_width(&before));
    if room >= LABEL_MIN {
        let below = format!("{gutter}|{}", blank(marks));
        return fill(label, &before, &below, columns);
    }
    let below = format!("{gutter}|{}", " ".repeat(LABEL_INDENT));
    let mut lines = vec![before.trim_end().to_owned()];
    lines.extend(fill(label, &below, &format!("{below}  "), columns));
    lines
}

fn fill(text: &str, first: &str, rest: &str, columns: usize) -> Vec<String> {
    let options = wrapping(columns).initial_indent(first).subsequent_indent(rest);
    let lines = textwrap::wrap(text, options);
    lines.into_iter().map(|line| line.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_continue_below_their_first_word() {
        let line = "   | ^^^^^^^^^^ 1. acquired here by task 2 `main` (thread 1)";
        let text = wrapped(line, 50);
        let expected =
            "   | ^^^^^^^^^^ 1. acquired here by task 2 `main`\n   |            (thread 1)";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_label_far_to_the_right_gets_lines_of_its_own() {
        let line = format!("   | {}^^^ acquired here by task 2", " ".repeat(30));
        let expected = format!("   | {}^^^\n   |    acquired here by task 2", " ".repeat(30));
        assert_eq!(wrapped(&line, 50), expected);
    }

    #[test]
    fn notes_are_indented_and_other_lines_hang() {
        assert_eq!(wrapped("   = note: one two three", 20), "   = note: one two\n           three");
        assert_eq!(wrapped("  one two three", 10), "  one two\n    three");
    }
}
