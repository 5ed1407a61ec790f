//! What a test did wrong with descriptors, as values.
//!
//! They are made by [`harness`](crate::harness), in another process than the one that reports them, so
//! that texts in them are owned. Whoever writes reports in another form starts from a [`TestReport`].

mod text;

use std::fmt;

/// All findings of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TestReport {
    /// See [`SCHEMA_VERSION`](crate::ownership::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The test, as its runner calls it.
    pub test: String,
    /// The file that the test stands in, as the compiler was given it.
    pub file: String,
    /// The line of its attribute.
    pub line: u32,
    /// What was found, the worst first.
    pub findings: Vec<TestFinding>,
    /// What else whoever mends it should know: why a place is not known, which threads still ran.
    pub notes: Vec<String>,
}

/// One finding: one cause, and all the descriptors that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TestFinding {
    /// What kind of a fault.
    pub verdict: TestVerdict,
    /// The facts that no descriptor and no place tells, in one line; may be empty.
    pub message: String,
    /// Those concerned, of one kind and from one place.
    pub descriptors: Vec<Descriptor>,
    /// What was done to them and where, in the order of time.
    pub places: Vec<Place>,
    /// For what this crate's registry has on record: its custody, one step a line.
    pub custody: Vec<String>,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum TestVerdict {
    /// The test's process ended before the test came back.
    Death,
    /// The test did not come back in time, and its process was killed.
    Hang,
    /// A descriptor was closed a second time.
    DoubleClose,
    /// The test closed, or replaced, a descriptor that its process was started with.
    ForeignClose,
    /// A descriptor that the test opened was still open after it.
    Leak,
    /// A task that the test started was still unjoined after it.
    ForgottenTask,
    /// A descriptor came from outside, because whoever started the tests let it be inherited.
    Exposure,
    /// Other than so many leaks as were expected.
    Expectation,
}

impl TestVerdict {
    /// All of them, the worst first.
    pub const ALL: &[TestVerdict] = &[
        TestVerdict::Death,
        TestVerdict::Hang,
        TestVerdict::DoubleClose,
        TestVerdict::ForeignClose,
        TestVerdict::Leak,
        TestVerdict::ForgottenTask,
        TestVerdict::Exposure,
        TestVerdict::Expectation,
    ];

    /// In half a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            TestVerdict::Death => "a test's process ended before the test came back",
            TestVerdict::Hang => "a test did not come back in time",
            TestVerdict::DoubleClose => "a test closed a descriptor a second time",
            TestVerdict::ForeignClose => "a test closed a descriptor that it does not own",
            TestVerdict::Leak => "a test left a descriptor open",
            TestVerdict::ForgottenTask => "a test left a task unjoined",
            TestVerdict::Exposure => "a descriptor came into the test's process from outside",
            TestVerdict::Expectation => {
                "a test left other than so many descriptors as were expected"
            }
        }
    }

    /// The stable word for it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            TestVerdict::Death => "death",
            TestVerdict::Hang => "hang",
            TestVerdict::DoubleClose => "double-close",
            TestVerdict::ForeignClose => "foreign-close",
            TestVerdict::Leak => "leak",
            TestVerdict::ForgottenTask => "forgotten-task",
            TestVerdict::Exposure => "exposure",
            TestVerdict::Expectation => "expectation",
        }
    }

    /// What mends it most often.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            TestVerdict::Death => {
                "a test has to come back: return or panic, and leave `exit` to the test runner"
            }
            TestVerdict::Hang => {
                "look at what its threads wait for; a test that needs longer says so: \
                 `timeout_ms = N`"
            }
            TestVerdict::DoubleClose => {
                "one of the two closes is not its owner's: keep the descriptor in one `OwnedFd` and \
                 let that close it"
            }
            TestVerdict::ForeignClose => {
                "whoever passed it on may still use it: work on a duplicate (`try_clone`), and put \
                 back what was replaced; or say `ignore_closed`"
            }
            TestVerdict::Leak => {
                "drop what holds it, join the thread that holds it, or close it on the error path, \
                 too, before the test ends"
            }
            TestVerdict::ForgottenTask => "join its promise, cancel it, or hand it to an `Orphans`",
            TestVerdict::Exposure => {
                "have whoever starts the tests open it with O_CLOEXEC, or close it there"
            }
            TestVerdict::Expectation => "correct the number, or take `expect_leaks` away",
        }
    }
}

impl fmt::Display for TestVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A descriptor as it was found open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// What it is: `tcp stream`, `pipe`, `epoll` ...
    pub kind: String,
    /// The local address of a socket.
    pub local: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// Path, or what the kernel says in its place.
    pub path: Option<String>,
    /// What else is known: the state of a connection, which end of a pipe, what an epoll watches.
    pub facts: Vec<String>,
}

/// Where something was done to a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Place {
    /// What was done: `opened by accept4`, `closed`.
    pub what: String,
    /// Name of the thread that did it, or its kernel id.
    pub thread: String,
    /// Its calls, the innermost first.
    pub frames: Vec<Frame>,
}

/// One call on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Frame {
    /// The function, or the address where there is no name.
    pub function: String,
    /// Path of its source, if the debug information has it.
    pub file: Option<String>,
    /// Line, counted from 1; 0 when not known.
    pub line: u32,
    /// Column, counted from 1; 0 when not known.
    pub column: u32,
    /// Whether it is code of whoever wrote the test, as far as the path tells: neither the standard
    /// library nor a dependency from a registry.
    pub is_own: bool,
}

impl TestReport {
    /// The line that most of it is about: where the first finding's descriptor was opened, else the
    /// test's own.
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

impl Place {
    /// The innermost call that is in the code of whoever wrote the test.
    #[must_use]
    pub fn own(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.is_own)
    }
}
