//! The codes of all findings and errors: one enum for the registry, the tests, the renderers and
//! `echown explain`.
//!
//! The macro below makes the enum, its list and its words from one table, so that the list is
//! complete. The compiler checks that each `match` of a code is complete.

use std::fmt;
use std::str::FromStr;

use super::InputError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The kind of a finding or error, as a stable code: reports print it (`error[leak]`), CI documents contain it
        /// and `echown explain` takes it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, in the order of `echown explain`.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The word that reports print.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $word,)*
                }
            }
        }
    };
}

codes! {
    /// A task ended normally and still owned something; or a test or a process left a descriptor open.
    Leak = "leak",
    /// A resource was released a second time.
    DoubleRelease = "double-release",
    /// A resource was used after its release.
    UseAfterRelease = "use-after-release",
    /// A task used a resource that another task owns.
    NotOwner = "not-owner",
    /// A descriptor was closed or replaced outside the registry.
    FdReplaced = "fd-replaced",
    /// A descriptor was owned that already has an owner.
    AlreadyOwned = "already-owned",
    /// A handle was dropped by a task that does not own the resource.
    DroppedByNonOwner = "dropped-by-non-owner",
    /// An offer was never claimed.
    Unclaimed = "unclaimed",
    /// A value was used again inside `with`.
    InUse = "in-use",
    /// A give list contains one resource twice.
    DuplicateGive = "duplicate-give",
    /// A socket was used as a whole while it is split.
    IsSplit = "is-split",
    /// Two halves of different sockets were rejoined.
    MismatchedHalves = "mismatched-halves",
    /// A root task transferred a resource, but has no parent.
    NoParent = "no-parent",
    /// A task joined, cancelled or drained another task's child.
    NotAChild = "not-a-child",
    /// A descriptor was owned or used that is not open.
    NotOpen = "not-open",
    /// A finalizer returned an error where no caller can receive it.
    FinalizerFailed = "finalizer-failed",
    /// A finalizer panicked.
    FinalizerPanicked = "finalizer-panicked",
    /// The task was cancelled. Not a violation.
    Cancelled = "cancelled",
    /// The task is exiting and cannot acquire resources. Not a violation.
    TaskExiting = "task-exiting",
    /// The parent is exiting, so a transfer was rejected. Not a violation.
    ParentExiting = "parent-exiting",
    /// The process of a test exited before the test returned.
    ProcessExited = "process-exited",
    /// A test did not return in time.
    Hang = "hang",
    /// A descriptor was closed a second time.
    DoubleClose = "double-close",
    /// A descriptor number was used after its close.
    UseAfterClose = "use-after-close",
    /// An open descriptor was replaced with `dup2` or `dup3`.
    OverwrittenFd = "overwritten-fd",
    /// A test closed a descriptor that its process inherited.
    ClosedInherited = "closed-inherited",
    /// A program inherited a descriptor without close-on-exec.
    ExecLeak = "exec-leak",
    /// A test left a task unjoined.
    UnjoinedTask = "unjoined-task",
    /// The process of a test inherited a descriptor.
    InheritedFd = "inherited-fd",
    /// The number of leaks differs from `expect_leaks`.
    LeakCount = "leak-count",
    /// A process ended with a descriptor open, as most processes do.
    OpenAtExit = "open-at-exit",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Accepts only the code itself; `explain::find` also accepts aliases.
impl FromStr for Code {
    type Err = InputError;

    fn from_str(word: &str) -> Result<Code, InputError> {
        let found = Code::ALL.iter().find(|code| code.as_str() == word);
        found.copied().ok_or_else(|| {
            InputError::new(format!("unknown code {word:?}; `echown explain` lists all codes"))
        })
    }
}

#[cfg(feature = "json")]
impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(feature = "ci")]
impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let word = String::deserialize(deserializer)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_word_and_no_other_word_is_a_code() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        let unknown = "Leak".parse::<Code>().unwrap_err();
        assert_eq!(unknown.to_string(), "unknown code \"Leak\"; `echown explain` lists all codes");
    }
}
