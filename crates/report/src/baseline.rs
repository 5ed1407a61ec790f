//! A baseline: the findings at the time when it was written, so that only new ones fail.
//!
//! ```toml
//! version = 1
//!
//! [[known]]
//! code = "leak"
//! resource = "tcp stream"
//! file = "src/pool.rs"
//! line = 31
//! source = "let stream = TcpStream::connect(address)?;"
//! ```
//!
//! A finding matches by its code, the kind of its resource, its file, and one more property,
//! because lines move: the function, if it is known (tests know it); otherwise the text of the
//! source line, wherever in the file it is now; or, if the sources are not available, a line near
//! the old one. A finding that is no longer in the source was fixed, and comes back as new.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use echown_fd::escape;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::{Code, InputError, Sources};

/// The version of the file format.
const VERSION: u32 = 1;

/// The maximum distance in lines between an entry and a finding if the source text is not
/// available. It covers small edits above the line, but not a move to another function.
const LINES_MOVED_MAX: u32 = 10;

const INTRODUCTION: &str = "\
# Known findings: only new ones fail. Written by echown. After fixing one, remove its entry.
# Permanent exceptions belong in a suppressions file, with a reason.
";

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BaselineFile {
    version: u32,
    #[serde(default)]
    known: Vec<BaselineEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BaselineEntry {
    code: Code,
    resource: Option<String>,
    file: String,
    line: u32,
    function: Option<String>,
    source: Option<String>,
}

/// A baseline's entries, with the number of findings that each matched.
#[derive(Debug)]
pub struct Baseline {
    entries: Vec<MatchedEntry>,
}

#[derive(Debug)]
struct MatchedEntry {
    entry: BaselineEntry,
    /// The lines where its source text is now; `None` if the file is not available.
    lines: Option<Vec<u32>>,
    matches: AtomicU64,
}

impl Baseline {
    /// Reads a baseline file, and searches `sources` for the current lines of its entries.
    ///
    /// # Errors
    /// The file cannot be read or is not a baseline; the message contains its path and what to do.
    pub fn read(path: &Path, sources: &Sources) -> Result<Baseline, InputError> {
        let text = fs::read_to_string(path).map_err(|error| {
            let text = format!(
                "failed to read the baseline {}: {error}; writing one is described in docs/ci.md",
                escape::path(path)
            );
            InputError::with_source(text, error)
        })?;
        Baseline::parse(&text, sources).map_err(|error| invalid(path, error))
    }

    /// Parses the text of a baseline file. See [`read`](Baseline::read).
    ///
    /// # Errors
    /// The text is not a baseline.
    pub fn parse(text: &str, sources: &Sources) -> Result<Baseline, InputError> {
        let matched = |entry: BaselineEntry| {
            let lines = entry.source.as_deref().and_then(|source| {
                let text = sources.text(&entry.file)?;
                let numbered = text.lines().zip(1..);
                Some(numbered.filter(|(line, _)| line.trim() == source).map(|it| it.1).collect())
            });
            MatchedEntry { entry, lines, matches: AtomicU64::new(0) }
        };
        Ok(Baseline { entries: read(text)?.known.into_iter().map(matched).collect() })
    }

    /// Whether an entry matches a finding.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|known| known.matches(entry))
    }

    /// Whether an entry matches a finding. Counts the match for [`used`](Baseline::used) and
    /// [`unused`](Baseline::unused).
    #[must_use]
    pub fn record_match(&self, entry: &Entry) -> bool {
        let matched = self.entries.iter().find(|known| known.matches(entry));
        if let Some(matched) = matched {
            // ord: Relaxed; a statistic, read after all counting threads have ended.
            matched.matches.fetch_add(1, Ordering::Relaxed);
        }
        matched.is_some()
    }

    /// The number of entries that matched, and of findings that they matched.
    #[must_use]
    pub fn used(&self) -> (usize, u64) {
        // ord: Relaxed, as above.
        let matches = self.entries.iter().map(|entry| entry.matches.load(Ordering::Relaxed));
        let matches: Vec<u64> = matches.filter(|matches| *matches > 0).collect();
        (matches.len(), matches.iter().sum())
    }

    /// The entries that matched no finding, one line each. The finding may be fixed.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        // ord: Relaxed, as above.
        let unused = self.entries.iter().filter(|entry| entry.matches.load(Ordering::Relaxed) == 0);
        unused
            .map(|MatchedEntry { entry, .. }| {
                let resource = entry.resource.as_deref().unwrap_or("-");
                let unused =
                    format!("{} of {resource} at {}:{}", entry.code, entry.file, entry.line);
                escape::text(&unused).into_owned()
            })
            .collect()
    }

    /// The text of a baseline with these findings and the entries of the `old` text, which may be
    /// empty.
    ///
    /// # Errors
    /// `old` is not a baseline.
    pub fn written<'a>(
        old: &str,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<String, InputError> {
        let mut known = if old.trim().is_empty() { Vec::new() } else { read(old)?.known };
        for new in entries.into_iter().map(BaselineEntry::of) {
            if !known.iter().any(|known| known.is_same_as(&new)) {
                known.push(new);
            }
        }
        known.sort();
        let file = BaselineFile { version: VERSION, known };
        match toml::to_string(&file) {
            Ok(text) => Ok(format!("{INTRODUCTION}{text}")),
            Err(error) => unreachable!("plain data always serializes: {error}"),
        }
    }
}

/// The error for an invalid baseline file.
fn invalid(path: &Path, error: InputError) -> InputError {
    let text = format!("wrong baseline in {}: {error}", escape::path(path));
    InputError::with_source(text, error)
}

fn read(text: &str) -> Result<BaselineFile, InputError> {
    let file: BaselineFile = toml::from_str(text)
        .map_err(|error| InputError::with_source(error.to_string().trim_end(), error))?;
    match file.version {
        VERSION => Ok(file),
        version => {
            let expected = format!("expected {VERSION}; write it again");
            Err(InputError::new(format!("it has version {version}, {expected}")))
        }
    }
}

impl MatchedEntry {
    fn matches(&self, entry: &Entry) -> bool {
        let (known, location) = (&self.entry, &entry.location);
        let is_alike = known.code == entry.code
            && known.resource == entry.resource
            && known.file == location.file;
        is_alike
            && match (&known.function, &location.function) {
                (Some(known), Some(function)) => known == function,
                _ => match &self.lines {
                    Some(lines) => lines.contains(&location.line),
                    None => known.line.abs_diff(location.line) <= LINES_MOVED_MAX,
                },
            }
    }
}

impl BaselineEntry {
    fn of(entry: &Entry) -> BaselineEntry {
        BaselineEntry {
            code: entry.code,
            resource: entry.resource.clone(),
            file: entry.location.file.clone(),
            line: entry.location.line,
            function: entry.location.function.clone(),
            // An entry with a function is matched by the function, not by the text.
            source: entry.source.clone().filter(|_| entry.location.function.is_none()),
        }
    }

    /// Whether both entries match the same findings.
    fn is_same_as(&self, other: &BaselineEntry) -> bool {
        let is_alike =
            (&self.code, &self.resource, &self.file) == (&other.code, &other.resource, &other.file);
        is_alike
            && match (&self.function, &other.function) {
                (Some(mine), Some(theirs)) => mine == theirs,
                _ => self.line == other.line,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;

    fn entry(line: u32, function: Option<&str>, source: Option<&str>) -> Entry {
        let location = Location {
            function: function.map(str::to_owned),
            ..Location::new("gone/a.rs", line, 5)
        };
        Entry {
            code: Code::Leak,
            severity: crate::Severity::Error,
            headline: String::new(),
            text: String::new(),
            help: "",
            resource: Some("pipe".to_owned()),
            location,
            steps: Vec::new(),
            stacks: Vec::new(),
            test: None,
            program: None,
            source: source.map(str::to_owned),
        }
    }

    fn sources(text: &'static str) -> Sources {
        Sources::read_by(move |_| Ok(text.to_owned()))
    }

    fn baseline(of: &Entry, sources: &Sources) -> Baseline {
        Baseline::parse(&Baseline::written("", [of]).unwrap(), sources).unwrap()
    }

    #[test]
    fn a_written_finding_matches_and_a_different_one_does_not() {
        let known = entry(3, None, Some("open()"));
        let baseline = baseline(&known, &Sources::none());
        assert!(baseline.matches(&known));
        for other in [
            Entry { code: Code::FdReplaced, ..known.clone() },
            Entry { resource: Some("file".to_owned()), ..known.clone() },
            Entry { resource: None, ..known.clone() },
            Entry { location: Location::new("gone/b.rs", 3, 5), ..known.clone() },
        ] {
            assert!(!baseline.matches(&other), "{other:?}");
        }
    }

    #[test]
    fn a_line_is_found_again_by_its_text_however_far_it_moved() {
        let moved = sources("//\n\n    open()\n");
        let baseline = baseline(&entry(400, None, Some("open()")), &moved);
        assert!(baseline.matches(&entry(3, None, None)));
        assert!(!baseline.matches(&entry(400, None, None)), "another line is there now");
        assert!(!baseline.matches(&entry(2, None, None)));
    }

    #[test]
    fn without_the_sources_a_line_may_have_moved_a_little() {
        let baseline = baseline(&entry(100, None, Some("open()")), &Sources::none());
        assert!(baseline.matches(&entry(100 + LINES_MOVED_MAX, None, None)));
        assert!(!baseline.matches(&entry(101 + LINES_MOVED_MAX, None, None)));
    }

    #[test]
    fn an_equal_function_matches_and_another_one_does_not() {
        let baseline = baseline(&entry(1, Some("a::f"), None), &Sources::none());
        assert!(baseline.matches(&entry(900, Some("a::f"), None)));
        assert!(!baseline.matches(&entry(1, Some("a::g"), None)));
    }

    #[test]
    fn unused_entries_are_listed() {
        let text = Baseline::written("", [&entry(1, None, None), &entry(50, None, None)]).unwrap();
        let baseline = Baseline::parse(&text, &Sources::none()).unwrap();
        assert!(baseline.record_match(&entry(1, None, None)));
        assert_eq!(baseline.used(), (1, 1));
        assert_eq!(baseline.unused(), ["leak of pipe at gone/a.rs:50"]);
    }

    #[test]
    fn writing_adds_to_an_old_baseline_without_duplicates() {
        let one = Baseline::written("", [&entry(1, None, None)]).unwrap();
        assert!(one.starts_with("# Known findings"), "{one}");
        let two = Baseline::written(&one, [&entry(1, None, None), &entry(50, None, None)]).unwrap();
        assert_eq!(two.matches("[[known]]").count(), 2, "{two}");
        assert_eq!(Baseline::written(&two, []).unwrap(), two);
    }

    #[test]
    fn a_parse_error_names_its_cause() {
        for (text, expected) in [
            ("version = 1\n[[known]]\ncode = \"leak\"\n", "missing field"),
            (
                "version = 1\n[[known]]\ncode = \"theft\"\nfile = \"a\"\nline = 1\n",
                "unknown code \"theft\"",
            ),
            ("version = 2\n", "it has version 2, expected 1"),
            ("version = 1\nknow = 3\n", "unknown field `know`"),
            ("leak at src/a.rs\n", "TOML parse error at line 1"),
        ] {
            let error = Baseline::parse(text, &Sources::none()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
