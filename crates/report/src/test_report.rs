//! Test reports: the findings of one test as values.
//!
//! The [`harness`](crate::harness) makes them in another process than the one that reports them, so
//! their texts are owned. To write reports in another format, start from a [`TestReport`].

mod place;
mod text;

use std::fmt;

use super::Code;
pub use place::{Place, StackFrame};

/// All findings of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TestReport {
    /// See [`SCHEMA_VERSION`](crate::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The test's name in its runner.
    pub test: String,
    /// The source file of the test, as passed to the compiler.
    pub file: String,
    /// The line of its attribute.
    pub line: u32,
    /// The findings, most severe first.
    pub findings: Vec<TestFinding>,
    /// Further information: why a place is unknown, which threads still ran.
    pub notes: Vec<String>,
}

/// One finding: one cause, and all affected descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TestFinding {
    /// The kind of the finding.
    pub verdict: TestVerdict,
    /// Facts that neither a descriptor nor a place contains, in one line; may be empty.
    pub message: String,
    /// The affected descriptors, which have the same kind and the same place.
    pub descriptors: Vec<Descriptor>,
    /// What was done to the descriptors and where, in chronological order.
    pub places: Vec<Place>,
    /// The custody, one step per line, of a resource in this crate's registry.
    pub custody: Vec<String>,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "kebab-case"))]
pub enum TestVerdict {
    /// The process of the test exited before the test returned.
    ProcessExited,
    /// The test did not return in time, and its process was killed.
    Hang,
    /// A descriptor was closed a second time.
    DoubleClose,
    /// A descriptor number was used after it was closed.
    UseAfterClose,
    /// An open descriptor was replaced by `dup2` or `dup3`.
    OverwrittenFd,
    /// The test closed, or replaced, a descriptor that its process inherited.
    ClosedInherited,
    /// A descriptor that the test opened was still open after the test.
    Leak,
    /// A descriptor without close-on-exec was inherited by a program that the test started.
    ExecLeak,
    /// A task that the test started was not joined.
    UnjoinedTask,
    /// The process of the test inherited a descriptor that lacks O_CLOEXEC.
    InheritedFd,
    /// The number of leaks differs from `expect_leaks`.
    LeakCount,
}

impl TestVerdict {
    /// All verdicts, most severe first.
    pub const ALL: &[TestVerdict] = &[
        TestVerdict::ProcessExited,
        TestVerdict::Hang,
        TestVerdict::DoubleClose,
        TestVerdict::UseAfterClose,
        TestVerdict::OverwrittenFd,
        TestVerdict::ClosedInherited,
        TestVerdict::Leak,
        TestVerdict::ExecLeak,
        TestVerdict::UnjoinedTask,
        TestVerdict::InheritedFd,
        TestVerdict::LeakCount,
    ];

    /// A summary in half a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            TestVerdict::Leak => "a test left a descriptor open",
            other => other.code().explanation().summary,
        }
    }

    /// The code.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            TestVerdict::ProcessExited => Code::ProcessExited,
            TestVerdict::Hang => Code::Hang,
            TestVerdict::DoubleClose => Code::DoubleClose,
            TestVerdict::UseAfterClose => Code::UseAfterClose,
            TestVerdict::OverwrittenFd => Code::OverwrittenFd,
            TestVerdict::ClosedInherited => Code::ClosedInherited,
            TestVerdict::Leak => Code::Leak,
            TestVerdict::ExecLeak => Code::ExecLeak,
            TestVerdict::UnjoinedTask => Code::UnjoinedTask,
            TestVerdict::InheritedFd => Code::InheritedFd,
            TestVerdict::LeakCount => Code::LeakCount,
        }
    }

    /// The advice at the end of a report.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            TestVerdict::Leak => {
                "before the test ends, drop what holds it or join the thread that holds it; check \
                 error paths, too"
            }
            other => other.code().explanation().help,
        }
    }
}

impl fmt::Display for TestVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code().fmt(f)
    }
}

/// A descriptor that was found open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// The kind: `tcp stream`, `pipe`, `epoll` ...
    pub kind: String,
    /// The local address of a socket.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The path, or the kernel's name for the file.
    pub path: Option<String>,
    /// Further facts: the state of a connection, the end of a pipe, the descriptors in an epoll
    /// set.
    pub facts: Vec<String>,
}

impl Descriptor {
    /// Its addresses and its path.
    #[must_use]
    pub fn places(&self) -> Vec<&str> {
        [&self.local, &self.peer, &self.path].into_iter().flatten().map(String::as_str).collect()
    }
}

impl TestReport {
    /// The primary location: where the first finding's descriptor was opened, or else the test's
    /// own line.
    #[must_use]
    pub fn site(&self) -> (&str, u32) {
        let frames = self.findings.iter().flat_map(|finding| &finding.places);
        let own = frames.filter_map(Place::own).find_map(|frame| {
            let file = frame.file.as_deref()?;
            Some((file, frame.line))
        });
        own.unwrap_or((&self.file, self.line))
    }
}
