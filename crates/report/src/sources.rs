//! The source files whose lines a report shows, if they are available.
//!
//! A site has the path that the compiler was given: absolute for a dependency, otherwise relative
//! to the root of the package or workspace that was built. That root is searched for above the
//! program's own file (`target/debug/...`), then above the working directory. A file is read once.
//! A file that is not found, or does not fit the site, is not shown, without an error.

use std::collections::HashMap;
use std::fmt;
use std::io;
#[cfg(feature = "annotated")]
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "annotated")]
use crate::Site;

/// Levels above the program to search for the root: `ROOT/target/TRIPLE/debug/deps/program`.
const LEVELS_ABOVE_PROGRAM: usize = 5;

/// Levels above the working directory: a package in a folder of a workspace, and one more.
const LEVELS_ABOVE_DIRECTORY: usize = 4;

/// The maximum size of a source file in bytes. Larger files are not read.
const BYTES_MAX: usize = 4 * 1024 * 1024;

type Read = dyn Fn(&Path) -> io::Result<String> + Send + Sync;

/// Finds and caches the source files of a program.
pub struct Sources {
    roots: Vec<PathBuf>,
    read: Box<Read>,
    /// By path, as in sites.
    texts: Mutex<HashMap<String, Option<Arc<str>>>>,
}

impl Sources {
    /// Sources near the program and the working directory.
    #[must_use]
    pub fn nearby() -> Sources {
        Sources::read_by(|path| std::fs::read_to_string(path))
    }

    /// Sources that are read with `read`, for programs in which each open descriptor must have an
    /// owner.
    #[must_use]
    pub fn read_by(read: impl Fn(&Path) -> io::Result<String> + Send + Sync + 'static) -> Sources {
        Sources { roots: roots(), read: Box::new(read), texts: Mutex::default() }
    }

    /// These texts, by their paths as in sites, and no files: for programs whose sources are embedded.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = (String, &'a str)>) -> Sources {
        let known = texts.into_iter().map(|(path, text)| (path, Some(Arc::from(text))));
        Sources { texts: Mutex::new(known.collect()), ..Sources::none() }
    }

    /// Sources whose relative paths are below `folder`, and that are read with `read`: for findings about
    /// another program.
    #[must_use]
    pub fn below(
        folder: &Path,
        read: impl Fn(&Path) -> io::Result<String> + Send + Sync + 'static,
    ) -> Sources {
        let roots = vec![folder.to_owned()];
        Sources { roots, read: Box::new(read), texts: Mutex::default() }
    }

    /// No sources: reports name places but show no source lines.
    #[must_use]
    pub fn none() -> Sources {
        Sources {
            roots: Vec::new(),
            read: Box::new(|_| Err(io::ErrorKind::NotFound.into())),
            texts: Mutex::default(),
        }
    }

    /// A line of a file, counted from 1, without surrounding white space.
    pub(super) fn line(&self, file: &str, line: u32) -> Option<String> {
        let text = self.text(file)?;
        let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// The folder below which the compiler found a file of this program, if it is still there: the
    /// package or the workspace. `file` is what `file!()` returns.
    #[must_use]
    pub fn root_of(file: &str) -> Option<PathBuf> {
        roots().into_iter().find(|root| root.join(file).is_file())
    }

    /// The text of a file and the byte range of a site in it.
    #[cfg(feature = "annotated")]
    pub(super) fn find(&self, site: Site) -> Option<(Arc<str>, Range<usize>)> {
        let text = self.text(site.file())?;
        let bytes = span(&text, site.line(), site.column())?;
        Some((text, bytes))
    }

    /// A line of a file, and the bytes of it to underline: the call that begins at `column`, or all of
    /// the line if the column is not known or only a part of an expression begins there. Compilers
    /// differ in the column of a call. `None` if the line is empty: the file is another version.
    #[cfg(feature = "annotated")]
    pub(super) fn underlined(
        &self,
        file: &str,
        line: u32,
        column: u32,
    ) -> Option<(String, Range<usize>)> {
        let text = self.text(file)?;
        let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?.trim_end();
        let indent = line.len() - line.trim_start().len();
        let begin = usize::try_from(column).ok()?.checked_sub(1);
        let begin = begin.and_then(|skip| line.char_indices().nth(skip));
        let begin = begin.filter(|(_, first)| first.is_alphabetic() || *first == '_');
        let bytes = match begin {
            Some((offset, _)) => offset..offset + call_length(&line[offset..]),
            None => indent..line.len(),
        };
        (indent < line.len()).then(|| (line.to_owned(), bytes))
    }

    /// The text of a file, by its path as in sites.
    pub(super) fn text(&self, file: &str) -> Option<Arc<str>> {
        let known = self.texts.lock().unwrap_or_else(PoisonError::into_inner).get(file).cloned();
        if let Some(known) = known {
            return known;
        }
        // The lock is not held, because `read` is the caller's code.
        let path = Path::new(file);
        let found = if path.is_absolute() {
            (self.read)(path).ok()
        } else {
            self.roots.iter().find_map(|root| (self.read)(&root.join(path)).ok())
        };
        let text = found.filter(|text| text.len() <= BYTES_MAX).map(Arc::from);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.insert(file.to_owned(), text.clone());
        text
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// The folders in which the compiler may have run: those above the program, and those above the
/// working directory.
pub(super) fn roots() -> Vec<PathBuf> {
    let above = |place: io::Result<PathBuf>, levels| {
        let place = place.unwrap_or_default();
        place.ancestors().take(levels).map(Path::to_path_buf).collect::<Vec<_>>()
    };
    let program = std::env::current_exe().map(|mut program| {
        program.pop();
        program
    });
    let mut roots = above(program, LEVELS_ABOVE_PROGRAM);
    roots.extend(above(std::env::current_dir(), LEVELS_ABOVE_DIRECTORY));
    roots.retain(|root| !root.as_os_str().is_empty());
    roots
}

/// The byte range to underline for a site. The compiler records only where an expression begins, so
/// the range covers the path and the call that begin there, up to the end of the line. `None` if no
/// expression can begin there: the file is another one, or another version.
#[cfg(feature = "annotated")]
fn span(text: &str, line: u32, column: u32) -> Option<Range<usize>> {
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].find('\n')? + 1;
    }
    let rest = text[start..].lines().next()?;
    let skip = usize::try_from(column).ok()?.checked_sub(1)?;
    let (offset, first) = rest.char_indices().nth(skip)?;
    if first.is_whitespace() || ")]},;.".contains(first) {
        return None;
    }
    let call = &rest[offset..];
    Some(start + offset..start + offset + call_length(call))
}

/// The length in bytes of the path and the call at the start of a line.
#[cfg(feature = "annotated")]
fn call_length(line: &str) -> usize {
    let is_path = |sign: char| sign.is_alphanumeric() || "_:!".contains(sign);
    let path = line.find(|sign| !is_path(sign)).unwrap_or(line.len());
    let mut depth = 0_usize;
    for (offset, sign) in line[path..].char_indices() {
        match sign {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => match depth {
                0 => break,
                1 => return path + offset + sign.len_utf8(),
                _ => depth -= 1,
            },
            _ if depth == 0 => break,
            _ => {}
        }
    }
    // The call continues on the next line, or there is no call: underline the path alone.
    if path > 0 { path } else { line.chars().next().map_or(0, char::len_utf8) }
}

#[cfg(all(test, feature = "annotated"))]
mod tests {
    use super::*;

    fn underlined(text: &str, line: u32, column: u32) -> Option<&str> {
        span(text, line, column).map(|bytes| &text[bytes])
    }

    #[test]
    fn the_call_that_begins_at_a_site_is_underlined() {
        let text = "fn main() {\n    let a = ownership::own(vec![(1, 2)])?;\n    a.release()?;\n";
        assert_eq!(underlined(text, 2, 13), Some("ownership::own(vec![(1, 2)])"));
        assert_eq!(underlined(text, 3, 7), Some("release()"));
    }

    #[test]
    fn a_call_that_goes_on_below_is_underlined_by_its_name() {
        let text = "pool.spawn([a.resource()], move || {\n";
        assert_eq!(underlined(text, 1, 6), Some("spawn"));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(underlined("let ä = früh(1);\n", 1, 9), Some("früh(1)"));
    }

    #[test]
    fn where_nothing_can_begin_nothing_is_shown() {
        let text = "let a = own(1);\n";
        for (line, column) in [(1, 4), (1, 14), (1, 15), (1, 99), (2, 1), (9, 1), (1, 0)] {
            assert_eq!(underlined(text, line, column), None, "{line}:{column}");
        }
    }

    #[test]
    fn a_file_is_read_once_and_one_that_is_not_there_is_looked_for_once() {
        let reads = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&reads);
        let sources = Sources::read_by(move |_| {
            *counted.lock().unwrap() += 1;
            Err(io::ErrorKind::NotFound.into())
        });
        assert!(sources.find(Site::here()).is_none());
        let looked = *reads.lock().unwrap();
        assert_eq!(looked, sources.roots.len());
        assert!(sources.find(Site::here()).is_none());
        assert_eq!(*reads.lock().unwrap(), looked);
    }

    #[test]
    fn embedded_texts_are_found_and_no_file_is_read() {
        let here = Site::here();
        let text = "\n".repeat(here.line() as usize - 1) + &" ".repeat(here.column() as usize - 1);
        let sources = Sources::of_texts([(here.file().to_owned(), &*(text + "embedded()"))]);
        let (text, bytes) = sources.find(here).expect("it is embedded");
        assert_eq!(&text[bytes], "embedded()");
        assert!(sources.text("Cargo.toml").is_none());
    }

    #[test]
    fn this_very_line_is_found() {
        let (text, bytes) = Sources::nearby().find(Site::here()).expect("the sources are here");
        assert_eq!(&text[bytes], "Site::here()");
    }
}
