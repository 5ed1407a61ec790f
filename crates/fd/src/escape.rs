//! Escaping of untrusted text: the one place where it happens.
//!
//! Clients choose their socket's path, chat peers choose what they send, and users choose names of
//! files, threads and tasks. Unescaped, such text can control the terminal, forge a second log
//! line, or appear in another order. So it is escaped where it becomes a `String`, and every output
//! gets the escaped form: log, reports, custody table, JSON.
//!
//! The function escapes control characters (C0, DEL, C1), line and paragraph separators, and
//! Unicode's default-ignorable characters, which are invisible or change the direction of others.
//! The notation is Rust's: `\n`, `\r`, `\t`, `\x1b` for one byte, `\u{202e}` for one character, and
//! `\\`.
//!
//! # Limits
//!
//! Look-alike letters (a Cyrillic `а`) are letters and stay unchanged. So do variation selectors
//! (U+FE00 to U+FE0F), which emoji need: they only choose the shape of the preceding character.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Escapes bytes, which need not be UTF-8. Injective: different inputs have different outputs.
pub fn bytes(raw: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(raw) {
        Ok(text) if !text.chars().any(|it| it == '\\' || is_unprintable(it)) => {
            return Cow::Borrowed(text);
        }
        _ => {}
    }
    let mut escaped = String::with_capacity(raw.len() + 16);
    for chunk in raw.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => escaped.push_str("\\\\"),
                other => push(&mut escaped, other),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    Cow::Owned(escaped)
}

/// Escapes a path. See [`bytes`].
pub fn path(path: &Path) -> Cow<'_, str> {
    bytes(path.as_os_str().as_encoded_bytes())
}

/// Escapes a text that a program composed, such as a task's name or an error message. Unlike
/// [`bytes`], it keeps backslashes, because parts of the text may already be escaped.
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    text.chars().for_each(|character| push(&mut escaped, character));
    Cow::Owned(escaped)
}

/// Escapes a shared name. See [`text`].
pub fn name(name: Arc<str>) -> Arc<str> {
    match text(&name) {
        Cow::Borrowed(_) => name,
        Cow::Owned(escaped) => escaped.into(),
    }
}

fn push(escaped: &mut String, character: char) {
    // Writing to a string does not fail.
    let _ = match character {
        '\n' => escaped.write_str("\\n"),
        '\r' => escaped.write_str("\\r"),
        '\t' => escaped.write_str("\\t"),
        ascii if ascii.is_ascii_control() => write!(escaped, "\\x{:02x}", u32::from(ascii)),
        other if is_unprintable(other) => write!(escaped, "\\u{{{:x}}}", u32::from(other)),
        printable => escaped.write_char(printable),
    };
}

/// Control characters, line separators, and `Default_Ignorable_Code_Point` except for variation
/// selectors.
fn is_unprintable(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_characters_stay_unchanged() {
        for printable in ["", "127.0.0.1:80", "/run/echo", "Grüße 😀 ❤\u{fe0f}", "日本語", "a b"]
        {
            assert!(
                matches!(bytes(printable.as_bytes()), Cow::Borrowed(same) if same == printable)
            );
            assert!(matches!(text(printable), Cow::Borrowed(same) if same == printable));
        }
    }

    #[test]
    fn terminal_controls_and_invisible_characters_are_escaped() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x1b[2J", "\\x1b[2J"),
            (b"a\nb\rc\td\x00\x7f", "a\\nb\\rc\\td\\x00\\x7f"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"cut \xe2\x80", "cut \\xe2\\x80"),
            ("\u{9b}2J\u{85}".as_bytes(), "\\u{9b}2J\\u{85}"),
            ("a\u{202e}b\u{2066}c\u{2069}".as_bytes(), "a\\u{202e}b\\u{2066}c\\u{2069}"),
            ("\u{200b}\u{200d}\u{feff}\u{2060}".as_bytes(), "\\u{200b}\\u{200d}\\u{feff}\\u{2060}"),
            ("\u{2028}\u{2029}\u{e0041}".as_bytes(), "\\u{2028}\\u{2029}\\u{e0041}"),
            (b"C:\\x", "C:\\\\x"),
        ];
        for (raw, escaped) in cases {
            assert_eq!(bytes(raw), *escaped);
        }
    }

    #[test]
    fn different_bytes_look_different() {
        // Inputs with which a peer could imitate another input's output.
        for (one, other) in [(&b"\x1b"[..], &b"\\x1b"[..]), (b"\n", b"\\n"), (b"\xff", b"\\xff")] {
            assert_ne!(bytes(one), bytes(other));
        }
    }

    #[test]
    fn a_text_that_is_escaped_already_is_not_escaped_twice() {
        let once = bytes(b"\x1b\\\xff\n").into_owned();
        assert_eq!(text(&once), once);
        assert_eq!(text("a\\b\u{202e}\n"), "a\\b\\u{202e}\\n");
    }
}
