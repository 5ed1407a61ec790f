//! Places: recorded calls with their stacks, and which of their frames are shown.

use std::fmt;

/// The maximum number of lines of a stack that are shown.
const LINES_MAX: usize = 12;

/// The thread of a place that stands for several.
const SEVERAL_THREADS: &str = "several threads";

/// The maximum number of packages that one line names.
const NAMES_MAX: usize = 3;

/// Packages that make system calls for other code, as the standard library does. What they open
/// belongs to their callers.
const WRAPPERS: [&str; 9] = [
    "cap-primitives",
    "fs-err",
    "io-lifetimes",
    "libc",
    "linux-raw-sys",
    "nix",
    "rustix",
    "socket2",
    "syscalls",
];

/// A place where a descriptor was opened or closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Place {
    /// What was done: `opened by accept4`, `closed`.
    pub what: String,
    /// Name of the thread that did it, or its kernel id; `several threads` if it was done by several.
    pub thread: String,
    /// The stack of the call, innermost frame first.
    pub frames: Vec<StackFrame>,
}

/// One call on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct StackFrame {
    /// The function, or the address if its name is unknown.
    pub function: String,
    /// Path of its source, if the debug information has it: of the author's code from the folder in
    /// which the compiler ran, of a package from the package's folder.
    pub file: Option<String>,
    /// Line, counted from 1; 0 when not known.
    pub line: u32,
    /// Column, counted from 1; 0 when not known.
    pub column: u32,
    /// Whether it is the test author's code: part of the package or its workspace.
    pub is_own: bool,
    /// The package of other code: a dependency with its version (`ureq 2.6.0`), the file of a shared
    /// library, [`STD`](StackFrame::STD) or [`SYSTEM`](StackFrame::SYSTEM).
    pub package: Option<String>,
    /// Whether the frame was found by a guess, in code without unwind tables. Only `echown run` guesses.
    #[cfg_attr(feature = "json", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub is_guessed: bool,
}

impl StackFrame {
    /// The package of the standard library.
    pub const STD: &'static str = "std";

    /// The package of the system's C library.
    pub const SYSTEM: &'static str = "system";

    /// The dependency that it belongs to: neither the standard library nor the system.
    #[must_use]
    pub fn dependency(&self) -> Option<&str> {
        self.package.as_deref().filter(|name| ![Self::STD, Self::SYSTEM].contains(name))
    }

    /// Whether it belongs to the standard library or the system, which are between the code that uses
    /// a descriptor and the kernel.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.package.is_some() && self.dependency().is_none()
    }

    fn is_wrapper(&self) -> bool {
        let name = self.package.as_deref().and_then(|package| package.split(' ').next());
        name.is_some_and(|name| WRAPPERS.contains(&name))
    }
}

impl Place {
    /// The innermost frame in the test author's code.
    #[must_use]
    pub fn own(&self) -> Option<&StackFrame> {
        self.frames.iter().find(|frame| frame.is_own)
    }

    /// The frame that did it: the innermost one that belongs neither to the standard library nor to a
    /// package that only wraps system calls. It belongs to the author's code or to a dependency.
    #[must_use]
    pub fn primary(&self) -> Option<&StackFrame> {
        let known = self.frames.iter().filter(|frame| frame.is_own || frame.dependency().is_some());
        let mut known = known.filter(|frame| frame.file.is_some()).peekable();
        let innermost = known.peek().copied();
        known.find(|frame| !frame.is_wrapper()).or(innermost)
    }

    /// Whether a reader sees the same as of another place, except for the thread.
    #[must_use]
    pub fn is_shown_like(&self, other: &Place) -> bool {
        self.frames == other.frames && self.what == other.what || self.lines() == other.lines()
    }

    /// Adds the thread of another call that is shown like this one.
    pub fn add_thread(&mut self, thread: &str) {
        if self.thread != thread {
            self.thread = String::from(SEVERAL_THREADS);
        }
    }

    /// What a reader sees of it, except for the thread. Equal for places that are
    /// [shown alike](Place::is_shown_like).
    #[must_use]
    pub fn shown_text(&self) -> String {
        self.lines().join("\n")
    }

    /// What was done and where, in one line without the thread: `opened by socket at src/a.rs:3:4`.
    #[must_use]
    pub fn summary(&self) -> String {
        match (self.primary(), self.shown().first()) {
            (Some(frame), _) => format!("{} at {frame}", self.what),
            (None, Some(frame)) if !frame.is_between() => {
                format!("{} in {}, without debug information", self.what, frame.in_full())
            }
            (None, Some(_)) => format!("{} in code without debug information", self.what),
            (None, None) => {
                format!("{} in a function that is not on the stack (a tail call)", self.what)
            }
        }
    }

    /// The frames between the kernel and the test without those of the standard library.
    fn shown(&self) -> Vec<&StackFrame> {
        let shown: Vec<_> = self.frames.iter().filter(|frame| !frame.is_between()).collect();
        if shown.is_empty() { self.frames.iter().collect() } else { shown }
    }

    /// The summary, and one line for each shown frame. Consecutive frames of dependencies are one
    /// line, except for the primary one.
    pub(crate) fn lines(&self) -> Vec<String> {
        let primary = self.primary();
        let is_primary = |frame: &StackFrame| primary.is_some_and(|it| std::ptr::eq(it, frame));
        let is_folded = |frame: &&StackFrame| frame.dependency().is_some() && !is_primary(frame);
        let shown = self.shown();
        let runs = shown.chunk_by(|one, next| is_folded(one) && is_folded(next));
        let lines = runs.map(|run| match run {
            [frame] => frame.in_full(),
            frames => folded(frames),
        });
        std::iter::once(self.summary()).chain(lines.take(LINES_MAX)).collect()
    }
}

impl StackFrame {
    /// The function, and where it is.
    pub(crate) fn in_full(&self) -> String {
        let function = &self.function;
        let mut text = match (&self.package, &self.file) {
            (None, None) => function.clone(),
            (Some(package), None) => format!("{function} ({package})"),
            (Some(package), Some(file)) if package != Self::STD => {
                format!("{function} ({package} {file}:{})", self.line)
            }
            (_, Some(file)) => format!("{function} ({file}:{})", self.line),
        };
        if self.is_guessed {
            text += ", a guess";
        }
        text
    }
}

/// Consecutive frames of dependencies: `7 frames of tokio 1.47.1`.
fn folded(frames: &[&StackFrame]) -> String {
    let mut packages: Vec<&str> = Vec::new();
    for package in frames.iter().filter_map(|frame| frame.dependency()) {
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    let more = match packages.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    packages.truncate(NAMES_MAX);
    format!("{} frames of {}{more}", frames.len(), packages.join(", "))
}

/// What was done and where, and the stack below it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        f.write_str(&lines[0])?;
        match &*self.thread {
            SEVERAL_THREADS => write!(f, ", on {SEVERAL_THREADS}")?,
            thread => write!(f, ", on thread {thread}")?,
        }
        lines[1..].iter().try_for_each(|line| write!(f, "\n      in {line}"))
    }
}

/// `FILE:LINE:COLUMN` of the author's code, `PACKAGE FILE:LINE` of a dependency, as far as known.
impl fmt::Display for StackFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(file) = &self.file else { return f.write_str(&self.in_full()) };
        match &self.package {
            Some(package) => write!(f, "{package} {file}:{}", self.line),
            None if self.column > 0 => write!(f, "{file}:{}:{}", self.line, self.column),
            None => write!(f, "{file}:{}", self.line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(package: Option<&str>, function: &str, file: &str) -> StackFrame {
        StackFrame {
            function: function.into(),
            file: (!file.is_empty()).then(|| file.into()),
            line: 7,
            column: 3,
            is_own: package.is_none() && !file.is_empty(),
            package: package.map(str::to_owned),
            is_guessed: false,
        }
    }

    fn place(frames: Vec<StackFrame>) -> Place {
        Place { what: "opened by socket".into(), thread: "`t`".into(), frames }
    }

    fn std() -> StackFrame {
        frame(Some("std"), "std::net::connect", "std/src/net.rs")
    }

    #[test]
    fn the_authors_own_call_is_named_with_its_column() {
        let place = place(vec![std(), frame(None, "a::b", "src/a.rs"), std()]);
        let expected =
            "opened by socket at src/a.rs:7:3, on thread `t`\n      in a::b (src/a.rs:7)";
        assert_eq!(place.to_string(), expected);
    }

    #[test]
    fn the_crate_that_opened_comes_first_and_further_frames_of_crates_are_folded() {
        let ureq = |function| frame(Some("ureq 2.6.0"), function, "src/stream.rs");
        let tokio = || frame(Some("tokio 1.47.1"), "poll", "src/runtime/task.rs");
        let place = place(vec![
            frame(Some("system"), "socket", ""),
            std(),
            ureq("ureq::stream::connect"),
            ureq("ureq::unit::connect"),
            std(),
            ureq("ureq::request::call"),
            frame(None, "a::b", "src/a.rs"),
            tokio(),
            std(),
            tokio(),
            frame(Some("futures-util 0.3.31"), "poll", "src/future.rs"),
            frame(None, "a::main", "src/a.rs"),
            tokio(),
        ]);
        let expected = "\
opened by socket at ureq 2.6.0 src/stream.rs:7, on thread `t`
      in ureq::stream::connect (ureq 2.6.0 src/stream.rs:7)
      in 2 frames of ureq 2.6.0
      in a::b (src/a.rs:7)
      in 3 frames of tokio 1.47.1, futures-util 0.3.31
      in a::main (src/a.rs:7)
      in poll (tokio 1.47.1 src/runtime/task.rs:7)";
        assert_eq!(place.to_string(), expected);
    }

    #[test]
    fn a_package_that_wraps_system_calls_is_shown_and_not_named() {
        let nix = frame(Some("nix 0.27.1"), "nix::unistd::pipe", "src/unistd.rs");
        let own = place(vec![nix.clone(), frame(None, "a::b", "src/a.rs")]);
        let expected = "\
opened by socket at src/a.rs:7:3, on thread `t`
      in nix::unistd::pipe (nix 0.27.1 src/unistd.rs:7)
      in a::b (src/a.rs:7)";
        assert_eq!(own.to_string(), expected);
        assert_eq!(
            place(vec![nix]).summary(),
            "opened by socket at nix 0.27.1 src/unistd.rs:7",
            "unless there is no other"
        );
    }

    #[test]
    fn without_debug_information_functions_and_libraries_are_named() {
        let named = place(vec![std(), frame(None, "a::b", ""), frame(None, "a::c", "")]);
        let expected = "\
opened by socket in a::b, without debug information, on thread `t`
      in a::b
      in a::c";
        assert_eq!(named.to_string(), expected);
        let library =
            place(vec![frame(Some("libz.so.1"), "gzopen", ""), frame(None, "a::b", "a.rs")]);
        let expected = "\
opened by socket at a.rs:7:3, on thread `t`
      in gzopen (libz.so.1)
      in a::b (a.rs:7)";
        assert_eq!(library.to_string(), expected);
        assert_eq!(
            place(Vec::new()).summary(),
            "opened by socket in a function that is not on the stack (a tail call)"
        );
        let only_std = place(vec![std()]);
        let expected = "\
opened by socket in code without debug information, on thread `t`
      in std::net::connect (std/src/net.rs:7)";
        assert_eq!(only_std.to_string(), expected);
    }

    #[test]
    fn places_are_alike_if_a_reader_sees_the_same() {
        let one = place(vec![std(), frame(None, "a::b", "src/a.rs")]);
        let mut other = place(vec![frame(None, "a::b", "src/a.rs"), std(), std()]);
        other.thread = "`u`".into();
        assert!(one.is_shown_like(&other));
        let mut both = one.clone();
        both.add_thread(&other.thread);
        assert!(both.to_string().contains(", on several threads\n"), "{both}");
        other.what = "opened by dup".into();
        assert!(!one.is_shown_like(&other));
    }
}
