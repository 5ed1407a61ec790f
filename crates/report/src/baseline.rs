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
use super::{Code, Sources};

/// The version of the file format.
const VERSION: u32 = 1;

/// How far a line may have moved where its text cannot be looked for: some lines of a change above it,
/// and not as far as another function.
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

/// The entries, and how often each matched a finding.
#[derive(Debug)]
pub struct Baseline {
    known: Vec<MatchedEntry>,
}

#[derive(Debug)]
struct MatchedEntry {
    known: BaselineEntry,
    /// Where its text is now; `None` when the file is not at hand.
    lines: Option<Vec<u32>>,
    found: AtomicU64,
}

impl Baseline {
    /// Reads a file, and looks in `sources` for where the lines of that time are now.
    ///
    /// # Errors
    /// What is wrong, with the file's name and what to do.
    pub fn read(path: &Path, sources: &Sources) -> Result<Baseline, String> {
        let text = fs::read_to_string(path).map_err(|error| {
            format!(
                "failed to read the baseline {}: {error}; writing one is described in docs/ci.md",
                escape::path(path)
            )
        })?;
        Baseline::parse(&text, sources).map_err(|wrong| at(path, &wrong))
    }

    /// The same with the text of the file.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str, sources: &Sources) -> Result<Baseline, String> {
        let matched = |known: BaselineEntry| {
            let lines = known.source.as_deref().and_then(|source| {
                let text = sources.text(&known.file)?;
                let numbered = text.lines().zip(1..);
                Some(numbered.filter(|(line, _)| line.trim() == source).map(|it| it.1).collect())
            });
            MatchedEntry { known, lines, found: AtomicU64::new(0) }
        };
        Ok(Baseline { known: read(text)?.known.into_iter().map(matched).collect() })
    }

    /// Whether a finding is known.
    #[must_use]
    pub fn covers(&self, entry: &Entry) -> bool {
        self.known.iter().any(|matched| matched.covers(entry))
    }

    /// The same, and what knows it counts as used.
    #[must_use]
    pub fn knows(&self, entry: &Entry) -> bool {
        let found = self.known.iter().find(|matched| matched.covers(entry));
        if let Some(matched) = found {
            // ord: Relaxed; a statistic, read when all who count have ended.
            matched.found.fetch_add(1, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// What is known and was found again, in numbers: entries, findings.
    #[must_use]
    pub fn used(&self) -> (usize, u64) {
        // ord: Relaxed, as above.
        let found = self.known.iter().map(|matched| matched.found.load(Ordering::Relaxed));
        let found: Vec<u64> = found.filter(|found| *found > 0).collect();
        (found.len(), found.iter().sum())
    }

    /// What is known and was not found, one line each: it may be mended.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        // ord: Relaxed, as above.
        let unused = self.known.iter().filter(|it| it.found.load(Ordering::Relaxed) == 0);
        unused
            .map(|MatchedEntry { known, .. }| {
                let resource = known.resource.as_deref().unwrap_or("-");
                let unused =
                    format!("{} of {resource} at {}:{}", known.code, known.file, known.line);
                escape::text(&unused).into_owned()
            })
            .collect()
    }

    /// A baseline's text with these findings and those of another one's text, which may be empty.
    ///
    /// # Errors
    /// What is there is no baseline.
    pub fn written<'a>(
        old: &str,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<String, String> {
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

/// A complaint about a file.
pub fn at(path: &Path, wrong: &str) -> String {
    format!("wrong baseline in {}: {wrong}", escape::path(path))
}

fn read(text: &str) -> Result<BaselineFile, String> {
    let file: BaselineFile =
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    match file.version {
        VERSION => Ok(file),
        version => Err(format!("it has version {version}, expected {VERSION}; write it again")),
    }
}

impl MatchedEntry {
    fn covers(&self, entry: &Entry) -> bool {
        let (known, location) = (&self.known, &entry.location);
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
            // Where there is a function it is not asked.
            source: entry.source.clone().filter(|_| entry.location.function.is_none()),
        }
    }

    /// Whether one of the two is enough.
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
            headline: String::new(),
            text: String::new(),
            help: "",
            resource: Some("pipe".to_owned()),
            location,
            steps: Vec::new(),
            stacks: Vec::new(),
            test: None,
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
    fn what_was_written_is_known_and_what_differs_is_not() {
        let known = entry(3, None, Some("open()"));
        let baseline = baseline(&known, &Sources::none());
        assert!(baseline.covers(&known));
        for other in [
            Entry { code: Code::FdReplaced, ..known.clone() },
            Entry { resource: Some("file".to_owned()), ..known.clone() },
            Entry { resource: None, ..known.clone() },
            Entry { location: Location::new("gone/b.rs", 3, 5), ..known.clone() },
        ] {
            assert!(!baseline.covers(&other), "{other:?}");
        }
    }

    #[test]
    fn a_line_is_found_again_by_its_text_however_far_it_moved() {
        let moved = sources("//\n\n    open()\n");
        let baseline = baseline(&entry(400, None, Some("open()")), &moved);
        assert!(baseline.covers(&entry(3, None, None)));
        assert!(!baseline.covers(&entry(400, None, None)), "another line is there now");
        assert!(!baseline.covers(&entry(2, None, None)));
    }

    #[test]
    fn without_the_sources_a_line_may_have_moved_a_little() {
        let baseline = baseline(&entry(100, None, Some("open()")), &Sources::none());
        assert!(baseline.covers(&entry(100 + LINES_MOVED_MAX, None, None)));
        assert!(!baseline.covers(&entry(101 + LINES_MOVED_MAX, None, None)));
    }

    #[test]
    fn a_function_that_is_known_is_enough_and_another_one_is_not() {
        let baseline = baseline(&entry(1, Some("a::f"), None), &Sources::none());
        assert!(baseline.covers(&entry(900, Some("a::f"), None)));
        assert!(!baseline.covers(&entry(1, Some("a::g"), None)));
    }

    #[test]
    fn what_was_not_found_again_is_told() {
        let text = Baseline::written("", [&entry(1, None, None), &entry(50, None, None)]).unwrap();
        let baseline = Baseline::parse(&text, &Sources::none()).unwrap();
        assert!(baseline.knows(&entry(1, None, None)));
        assert_eq!(baseline.used(), (1, 1));
        assert_eq!(baseline.unused(), ["leak of pipe at gone/a.rs:50"]);
    }

    #[test]
    fn writing_adds_to_what_is_there_and_enters_nothing_twice() {
        let one = Baseline::written("", [&entry(1, None, None)]).unwrap();
        assert!(one.starts_with("# Known findings"), "{one}");
        let two = Baseline::written(&one, [&entry(1, None, None), &entry(50, None, None)]).unwrap();
        assert_eq!(two.matches("[[known]]").count(), 2, "{two}");
        assert_eq!(Baseline::written(&two, []).unwrap(), two);
    }

    #[test]
    fn a_wrong_file_is_told_with_its_line() {
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
            let wrong = Baseline::parse(text, &Sources::none()).unwrap_err();
            assert!(wrong.contains(expected), "{text}: {wrong}");
        }
    }
}
