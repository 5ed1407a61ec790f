//! GitHub annotations: findings as workflow commands, one per line.
//!
//! `::error file=F,line=L,col=C,title=T::MESSAGE`, or `::warning`, `::notice`. The runner reads them in the output of a step.
//! Its limits: it shows ten error annotations per step, and truncates a message.

use super::entry::Entry;
use crate::Severity;

/// The maximum length of a message in bytes. The runner truncates longer messages, even in the
/// middle of an escape.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A finding as one workflow command, without a line break.
#[must_use]
pub fn annotation(entry: &Entry) -> String {
    let mut properties = Vec::new();
    // The runner shows no annotation for a path outside the repository.
    if entry.location.is_inside {
        properties.push(format!("file={}", of_property(&entry.location.file)));
        let numbers = [("line", entry.location.line), ("col", entry.location.column)];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            properties.push(format!("{name}={number}"));
        }
    }
    let title = match (&entry.test, &entry.program) {
        (Some(test), _) => format!("{}: {}", entry.code, test.name),
        (None, Some(program)) => format!("{}: {program}", entry.code),
        (None, None) => entry.code.to_string(),
    };
    let command = match entry.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    properties.push(format!("title={}", of_property(&title)));
    format!("::{command} {}::{}", properties.join(","), of_message(&entry.body("")))
}

/// A warning that is about no place, as one workflow command without a line break. The title is a word.
#[must_use]
pub fn warning(title: &str, text: &str) -> String {
    format!("::warning title={}::{}", of_property(title), of_message(text))
}

/// Escapes the characters that end a command or its line.
fn of_message(text: &str) -> String {
    let end = (0..=text.len().min(MESSAGE_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    let text = &text[..end.unwrap_or_default()];
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the same characters, and those that end a property.
fn of_property(text: &str) -> String {
    of_message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_commands_and_properties_are_escaped_after_the_percent() {
        assert_eq!(of_message("50%\r\nof a, b: c%0A"), "50%25%0D%0Aof a, b: c%250A");
        assert_eq!(of_property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }

    #[test]
    fn a_long_message_is_cut_between_letters_and_escapes() {
        let cut = of_message(&"ä%".repeat(MESSAGE_BYTES_MAX));
        assert!(cut.ends_with("ä") || cut.ends_with("%25"), "{}", &cut[cut.len() - 5..]);
    }
}
