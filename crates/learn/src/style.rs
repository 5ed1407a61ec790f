//! Colours of a terminal. The writer removes them where they are not wanted.

use std::fmt::Write;

/// Bold.
pub(crate) const STRONG: &str = "\u{1b}[1m";
/// Bold red.
const ERROR: &str = "\u{1b}[1;31m";
/// Green.
const ADDED: &str = "\u{1b}[32m";
/// Red.
const REMOVED: &str = "\u{1b}[31m";
/// Cyan.
const PLACE: &str = "\u{1b}[36m";
/// No style.
const END: &str = "\u{1b}[0m";

/// The text in a style.
pub(crate) fn styled(style: &str, text: &str) -> String {
    format!("{style}{text}{END}")
}

/// A listing, with new and removed lines in green and red.
pub(crate) fn listing(text: &str) -> String {
    by_line(text, |line| match line.as_bytes().get(3) {
        Some(b'+') => Some(ADDED),
        Some(b'-') => Some(REMOVED),
        _ => None,
    })
}

/// A report: its headlines, underlines and places in colours.
pub(crate) fn report(text: &str) -> String {
    by_line(text, |line| {
        let after_gutter = line.trim_start().strip_prefix('|').unwrap_or_default().trim_start();
        if line.starts_with("error") || after_gutter.starts_with('^') {
            Some(ERROR)
        } else if after_gutter.starts_with('-') || line.trim_start().starts_with("-->") {
            Some(PLACE)
        } else {
            None
        }
    })
}

fn by_line(text: &str, style: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut coloured = String::new();
    for line in text.lines() {
        let _ = match style(line) {
            Some(style) => writeln!(coloured, "{}", styled(style, line)),
            None => writeln!(coloured, "{line}"),
        };
    }
    coloured
}
