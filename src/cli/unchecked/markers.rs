//! The texts that the attribute leaves in a test binary: `echown-test-case:CRATE::MODULE::FUNCTION;`.

use std::collections::BTreeSet;

/// The first half of what stands before the path. It is assembled at run time, because this program may
/// itself be a test binary.
const PREFIX: [&str; 2] = ["echown-test-", "case:"];

/// The names of the checked tests, without the crate, as a runner lists them.
pub(super) fn names_in(binary: &[u8]) -> BTreeSet<String> {
    let prefix = PREFIX.concat();
    let mut names = BTreeSet::new();
    let mut rest = binary;
    while let Some(at) = find(rest, prefix.as_bytes()) {
        rest = &rest[at + prefix.len()..];
        let path = rest.split(|byte| *byte == b';').next();
        let path = path.and_then(|path| std::str::from_utf8(path).ok());
        names.extend(path.and_then(name).map(str::to_owned));
    }
    names
}

/// The path without its crate; `None` if it is no path of a function.
fn name(path: &str) -> Option<&str> {
    let is_of_path = |it: char| it.is_alphanumeric() || matches!(it, '_' | ':' | '#');
    let (_, name) = path.split_once("::")?;
    path.chars().all(is_of_path).then_some(name)
}

/// The first occurrence of a text in a file that may have some hundred megabytes: skips as far as the
/// last byte of the window allows (Horspool).
fn find(within: &[u8], text: &[u8]) -> Option<usize> {
    let last = text.len() - 1;
    let mut skips = [text.len(); 256];
    for (index, byte) in text[..last].iter().enumerate() {
        skips[usize::from(*byte)] = last - index;
    }
    let mut at = 0;
    while let Some(window) = within.get(at..=at + last) {
        if window == text {
            return Some(at);
        }
        at += skips[usize::from(window[last])];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_is_found_and_nothing_else() {
        let prefix = PREFIX.concat();
        let one = |path: &str| format!("{prefix}{path};");
        let binary = [
            one("a::it"),
            one("a::below::r#match"),
            String::from("echown-test-echown-test-"),
            one("a::\u{e4}ndert"),
            // The text of a program that searches for it.
            format!("{prefix} and more;"),
            one("alone"),
            format!("{prefix}a::without_an_end"),
        ];
        let names: Vec<String> = names_in(binary.concat().as_bytes()).into_iter().collect();
        assert_eq!(names, ["below::r#match", "it", "without_an_end", "\u{e4}ndert"]);
        assert_eq!(names_in(b"echown"), BTreeSet::new());
    }
}
