//! `Line`: a message for standard error, before it becomes text or JSON.

use std::fmt;

use serde::Serialize;
use tracing::Level;

use super::form::{Common, is_json, marked};
use crate::report::Snapshot;

/// A message. Whatever can be displayed is one, at the level INFO.
///
/// As text it is what it displays. As JSON it is one line with the keys `timestamp`, `level` and `message`;
/// a message that programs look for also has an `event`, and fields.
pub(in crate::cli) struct Line {
    level: Level,
    event: Option<&'static str>,
    text: String,
    /// `None`: one of the fields is the message.
    message: Option<String>,
    /// As JSON, each after a comma.
    fields: String,
}

impl<T: fmt::Display> From<T> for Line {
    fn from(text: T) -> Line {
        let text = text.to_string();
        // Only one of both is written.
        let message = Some(if is_json() { text.clone() } else { String::new() });
        Line { level: Level::INFO, event: None, text, message, fields: String::new() }
    }
}

impl Line {
    /// Something failed. As text, it has the program's name in front.
    pub(in crate::cli) fn error(text: impl fmt::Display) -> Line {
        let message = Some(text.to_string());
        Line { message, ..Line::from(format_args!("echown: {text}")) }.level(Level::ERROR)
    }

    /// A message with data: as text with all of it, as JSON with the fields of an object.
    pub(in crate::cli) fn with_data(
        event: &'static str,
        message: &str,
        text: impl fmt::Display,
        object: impl FnOnce() -> String,
    ) -> Line {
        if is_json() {
            Line::from(message).event(event).fields_of(&object())
        } else {
            Line::from(text).event(event)
        }
    }

    /// The custody table.
    pub(in crate::cli) fn custody(custody: &Snapshot) -> Line {
        let text = custody.to_string();
        let headline = text.lines().next().unwrap_or_default();
        Line::with_data("custody", headline, &text, || custody.to_json())
    }

    pub(in crate::cli) fn level(self, level: Level) -> Line {
        Line { level, ..self }
    }

    /// The kind of message, for programs.
    pub(in crate::cli) fn event(self, event: &'static str) -> Line {
        Line { event: Some(event), ..self }
    }

    /// Adds a field of the JSON form.
    pub(in crate::cli) fn field(mut self, key: &'static str, value: impl Serialize) -> Line {
        if is_json() {
            let value = serde_json::to_string(&value);
            let value = value.unwrap_or_else(|error| unreachable!("plain data: {error}"));
            self.fields += &format!(",\"{key}\":{value}");
        }
        self
    }

    /// Adds the fields of a JSON object.
    fn fields_of(mut self, object: &str) -> Line {
        let fields = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let fields = fields.filter(|fields| !fields.is_empty());
        self.fields += &fields.map(|fields| format!(",{fields}")).unwrap_or_default();
        self
    }

    /// A finding: with its fields, of which one may be the message already.
    pub(in crate::cli) fn finding(message: Option<&str>, object: &str) -> Line {
        let message = message.map(ToOwned::to_owned);
        let line = Line::from("").event("finding").level(Level::ERROR).fields_of(object);
        Line { message, ..line }
    }

    /// The bytes to write to standard error.
    pub(in crate::cli) fn into_bytes(self) -> Vec<u8> {
        let level = self.level;
        marked(self.unmarked().into_bytes(), level)
    }

    /// The text for a log file, which has no priorities.
    pub(in crate::cli) fn unmarked(self) -> String {
        let Line { level, event, text, message, fields } = self;
        let mut line = text;
        if is_json() {
            let common = serde_json::to_string(&Common::new(level, message.as_deref(), event));
            line = common.unwrap_or_else(|error| unreachable!("plain data: {error}"));
            line.insert_str(line.len() - 1, &fields);
        }
        line + "\n"
    }
}
