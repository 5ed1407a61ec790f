//! Writes XML: the one place where text enters the picture, and is escaped.

use std::fmt::Write as _;

/// A document, or a part of one.
#[derive(Default)]
pub(super) struct Xml {
    text: String,
    open: Vec<&'static str>,
}

impl Xml {
    /// Begins an element. Nothing is complete until `open`, `empty`, `text` or `titled`.
    pub(super) fn element(&mut self, name: &'static str) -> Element<'_> {
        self.text.push('<');
        self.text += name;
        Element { xml: self, name }
    }

    /// Ends the innermost open element.
    pub(super) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.end(name);
        }
    }

    fn end(&mut self, name: &str) {
        self.text += "</";
        self.text += name;
        self.text += ">\n";
    }

    /// Adds a part.
    pub(super) fn append(&mut self, part: Xml) {
        debug_assert!(part.open.is_empty(), "{:?}", part.open);
        self.text += &part.text;
    }

    pub(super) fn finish(self) -> String {
        debug_assert!(self.open.is_empty(), "{:?}", self.open);
        self.text
    }

    fn escaped(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.text += "&amp;",
                '<' => self.text += "&lt;",
                '>' => self.text += "&gt;",
                '"' => self.text += "&quot;",
                '\'' => self.text += "&#39;",
                '\n' => self.text.push(letter),
                // Not allowed in XML.
                letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                    self.text.push('\u{fffd}');
                }
                letter => self.text.push(letter),
            }
        }
    }
}

/// An element that is being written.
#[must_use]
pub(super) struct Element<'a> {
    xml: &'a mut Xml,
    name: &'static str,
}

impl Element<'_> {
    pub(super) fn attribute(self, name: &'static str, value: &str) -> Self {
        let _ = write!(self.xml.text, " {name}=\"");
        self.xml.escaped(value);
        self.xml.text.push('"');
        self
    }

    /// A number with at most one decimal.
    pub(super) fn number(self, name: &'static str, value: f64) -> Self {
        let text = format!("{value:.1}");
        let text = text.strip_suffix(".0").unwrap_or(&text);
        let _ = write!(self.xml.text, " {name}=\"{text}\"");
        self
    }

    /// Begins the element's content.
    pub(super) fn open(self) {
        self.xml.text += ">\n";
        self.xml.open.push(self.name);
    }

    /// Ends it without content.
    pub(super) fn empty(self) {
        self.xml.text += "/>\n";
    }

    /// Ends it with text as its content.
    pub(super) fn text(self, text: &str) {
        self.xml.text.push('>');
        self.xml.escaped(text);
        self.xml.end(self.name);
    }

    /// Ends it with a `<title>`.
    pub(super) fn titled(self, title: &str) {
        self.xml.text.push('>');
        self.xml.text += "<title>";
        self.xml.escaped(title);
        self.xml.text += "</title>";
        self.xml.end(self.name);
    }
}
