//! The subset of Markdown that lessons use, as plain text for a terminal.
//!
//! Paragraphs and list items are one line each and are wrapped. Fenced code stays as it is, indented.
//! Code spans keep their backticks, because a terminal without colours has no other mark for them.
//! Emphasis loses its asterisks, and a link becomes its text with the address in parentheses.

use crate::wrap::wrapping;

/// The text at a width in columns.
pub(crate) fn to_plain(text: &str, columns: usize) -> String {
    let mut plain = String::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if is_code {
            plain += &format!("    {line}\n");
            continue;
        }
        plain += &wrapped(&inline(line), columns);
        plain.push('\n');
    }
    plain
}

/// One paragraph or list item.
fn wrapped(line: &str, columns: usize) -> String {
    let indent = if line.starts_with("- ") { "  " } else { "" };
    let options = wrapping(columns).subsequent_indent(indent);
    textwrap::fill(line, options)
}

/// A line without the marks of emphasis and links.
pub(crate) fn inline(line: &str) -> String {
    let mut plain = String::new();
    // Every second part is code.
    for (index, part) in line.split('`').enumerate() {
        if index % 2 == 1 {
            plain += &format!("`{part}`");
        } else {
            plain += &without_links(&part.replace('*', ""));
        }
    }
    plain
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((title, (url, after))) =
            link.split_once("](").and_then(|(title, rest)| Some((title, rest.split_once(')')?)))
        else {
            break;
        };
        plain += &format!("{before}{title} ({url})");
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_items_are_wrapped_and_code_is_not() {
        let text = "One two *three* four.\n\n- an item of words\n\n```rust\nlet a = b; // long line\n```\n";
        let plain =
            "One two\nthree four.\n\n- an item\n  of words\n\n    let a = b; // long line\n";
        assert_eq!(to_plain(text, 11), plain);
    }

    #[test]
    fn a_link_shows_its_address_and_code_keeps_its_marks() {
        assert_eq!(
            inline("see [it](https://x.y/z), `a[0](*b)`"),
            "see it (https://x.y/z), `a[0](*b)`"
        );
    }
}
