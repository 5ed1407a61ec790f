//! The file of tests that need no check.

use std::fs;
use std::path::{Path, PathBuf};

use echown_fd::escape;

/// The lines of the file, and which of them were needed.
#[derive(Default)]
pub(super) struct Allowed {
    path: PathBuf,
    lines: Vec<Line>,
}

struct Line {
    number: usize,
    text: String,
    is_used: bool,
}

impl Allowed {
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: &Path) -> Result<Allowed, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("failed to read {}: {error}", escape::path(path)))?;
        Ok(Allowed { path: path.to_owned(), lines: parse(&text) })
    }

    /// Whether a line of the file stands for this test.
    pub(super) fn permits(&mut self, suite: &str, test: &str) -> bool {
        let mut fitting = self.lines.iter_mut().filter(|line| line.stands_for(suite, test));
        // One is enough: the others are reported.
        fitting.next().map(|line| line.is_used = true).is_some()
    }

    /// A message for each line that no unchecked test needs.
    pub(super) fn unused(&self) -> impl Iterator<Item = String> {
        self.lines.iter().filter(|line| !line.is_used).map(|Line { number, text, .. }| {
            let (path, text) = (escape::path(&self.path), escape::text(text));
            format!("{path}:{number}: no unchecked test fits `{text}`; remove the line")
        })
    }
}

impl Line {
    fn stands_for(&self, suite: &str, test: &str) -> bool {
        match self.text.split_once(' ') {
            None => self.text == suite,
            Some((of, pattern)) => {
                let fits = match pattern.strip_suffix('*') {
                    Some(start) => test.starts_with(start),
                    None => test == pattern,
                };
                of == suite && fits
            }
        }
    }
}

fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| Line { number: index + 1, text: line.to_owned(), is_used: false })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_a_test_a_beginning_or_a_binary() {
        let text = "# why\n\n  a::it one\na::it sub::*\nb\nc gone\n";
        let mut allowed = Allowed { path: PathBuf::from("list"), lines: parse(text) };
        for (suite, test, expected) in [
            ("a::it", "one", true),
            ("a::it", "one_more", false),
            ("a::it", "sub::two", true),
            ("a", "one", false),
            ("b", "anything", true),
        ] {
            assert_eq!(allowed.permits(suite, test), expected, "{suite} {test}");
        }
        let unused: Vec<String> = allowed.unused().collect();
        assert_eq!(unused, ["list:6: no unchecked test fits `c gone`; remove the line"]);
    }
}
