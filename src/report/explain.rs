//! What each verdict means: the texts of `echown explain` and of `docs/reports.md`.

use std::fmt;

/// One verdict, explained.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The stable word, as in `error[leak]`.
    pub code: &'static str,
    /// Other words that people look for.
    pub aliases: &'static [&'static str],
    /// What headlines call it; where that is the code itself, they don't repeat it.
    pub words: &'static str,
    /// In half a line.
    pub summary: &'static str,
    /// The advice at the end of a report.
    pub help: &'static str,
    /// What happened, why it is wrong, an example, how to mend it, and how to tell victim,
    /// bystander and offender apart. Markdown.
    pub text: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n\n{}", self.code, self.summary, self.text.trim_end())
    }
}

/// All verdicts: those of the checker first, then the answers that a correct program gets too.
pub const EXPLANATIONS: &[Explanation] = &[
    Explanation {
        code: "leak",
        aliases: &["leaked"],
        words: "leak",
        summary: "a task ended normally and still owned something",
        help: "release it, disown it, or transfer it before the task ends",
        text: include_str!("explain/leak.md"),
    },
    Explanation {
        code: "released",
        aliases: &["double-release", "double-close", "use-after-release", "use-after-close"],
        words: "double release",
        summary: "a second release, or a use after the first",
        help: "release once, at the place that knows that all use is over; or let the drop do it",
        text: include_str!("explain/released.md"),
    },
    Explanation {
        code: "not-owner",
        aliases: &["notowner"],
        words: "not owner",
        summary: "a task used what another one owns",
        help: "give it to this task when it is spawned, or hand it over with `offer` and `claim`",
        text: include_str!("explain/not-owner.md"),
    },
    Explanation {
        code: "theft",
        aliases: &["stolen", "robbed"],
        words: "theft",
        summary: "a number was closed or replaced behind the registry's back",
        help: "look for a raw close, a `dup2`, or a `from_raw_fd` of this number: it was done by \
               code that does not ask the registry",
        text: include_str!("explain/theft.md"),
    },
    Explanation {
        code: "already-owned",
        aliases: &["owned-twice", "double-own"],
        words: "already-owned",
        summary: "a descriptor was owned that is on record already",
        help: "keep the first handle and use that; `disown` it first if it is to be owned anew",
        text: include_str!("explain/already-owned.md"),
    },
    Explanation {
        code: "dropped-elsewhere",
        aliases: &[],
        words: "dropped-elsewhere",
        summary: "a handle was dropped by a task that does not own it",
        help: "drop it in the owner's task, or hand the ownership over along with the handle",
        text: include_str!("explain/dropped-elsewhere.md"),
    },
    Explanation {
        code: "unclaimed",
        aliases: &["unclaimed-offer"],
        words: "unclaimed",
        summary: "an offer was dropped, or the program ended, before anybody claimed it",
        help: "claim the offer, or take it back (claim it in the task that made it) and release it",
        text: include_str!("explain/unclaimed.md"),
    },
    Explanation {
        code: "in-use",
        aliases: &["busy"],
        words: "in-use",
        summary: "a value was used again inside `with`, or given away from there",
        help: "do it after `with` has come back",
        text: include_str!("explain/in-use.md"),
    },
    Explanation {
        code: "given-twice",
        aliases: &[],
        words: "given-twice",
        summary: "one resource stands twice in a list of things to give",
        help: "name each resource once in the list",
        text: include_str!("explain/given-twice.md"),
    },
    Explanation {
        code: "is-split",
        aliases: &["split"],
        words: "is-split",
        summary: "a socket was used whole while its halves are out",
        help: "use the halves, or `rejoin` them first",
        text: include_str!("explain/is-split.md"),
    },
    Explanation {
        code: "not-its-other-half",
        aliases: &[],
        words: "not-its-other-half",
        summary: "two halves were rejoined that do not belong together",
        help: "rejoin the two halves that came from one `split`; both came back with the error",
        text: include_str!("explain/not-its-other-half.md"),
    },
    Explanation {
        code: "no-parent",
        aliases: &[],
        words: "no-parent",
        summary: "a root task transferred something, and has nobody to transfer to",
        help: "`offer` it to another task, or release it here",
        text: include_str!("explain/no-parent.md"),
    },
    Explanation {
        code: "not-a-child",
        aliases: &[],
        words: "not-a-child",
        summary: "a task joined, cancelled or drained what is another task's child",
        help: "join it in the task that spawned it, and send on what it answered",
        text: include_str!("explain/not-a-child.md"),
    },
    Explanation {
        code: "not-open",
        aliases: &[],
        words: "not-open",
        summary: "a number was to be owned that the kernel doesn't know",
        help: "find out who closed it before this point: it was closed without the registry",
        text: include_str!("explain/not-open.md"),
    },
    Explanation {
        code: "finalizer-failed",
        aliases: &["finalizer"],
        words: "finalizer-failed",
        summary: "a finalizer answered an error, and there was nobody to tell",
        help: "release it in the task, where the error is the result of `release`",
        text: include_str!("explain/finalizer-failed.md"),
    },
    Explanation {
        code: "finalizer-panicked",
        aliases: &["panicked"],
        words: "finalizer-panicked",
        summary: "a finalizer panicked; the others ran all the same",
        help: "answer an error from the finalizer instead: it runs at the worst of moments",
        text: include_str!("explain/finalizer-panicked.md"),
    },
    Explanation {
        code: "cancelled",
        aliases: &["canceled"],
        words: "cancelled",
        summary: "the task was asked to end; no rule was broken",
        help: "return from the task",
        text: include_str!("explain/cancelled.md"),
    },
    Explanation {
        code: "ending",
        aliases: &[],
        words: "ending",
        summary: "the task is at its end and takes nothing any more; no rule was broken",
        help: "acquire it earlier, or in a task that lives on",
        text: include_str!("explain/ending.md"),
    },
    Explanation {
        code: "parent-ending",
        aliases: &[],
        words: "parent-ending",
        summary: "the parent is at its end, so a transfer was refused; no rule was broken",
        help: "release it here: it is still this task's",
        text: include_str!("explain/parent-ending.md"),
    },
];

/// The explanation of a code, or of another word for it.
///
/// # Examples
/// ```
/// let leak = echown::report::explain::find("leak").unwrap();
/// assert_eq!(leak.help, "release it, disown it, or transfer it before the task ends");
/// ```
#[must_use]
pub fn find(word: &str) -> Option<&'static Explanation> {
    let named = |known: &&Explanation| known.code == word || known.aliases.contains(&word);
    EXPLANATIONS.iter().find(named)
}

/// The advice for a code.
pub(super) fn help(code: &str) -> &'static str {
    find(code).map_or("see the documentation of `ownership::ErrorKind`", |known| known.help)
}

/// What headlines call a code.
pub(super) fn words(code: &'static str) -> &'static str {
    find(code).map_or(code, |known| known.words)
}

/// The examples, compiled and run with the others of the documentation.
#[cfg(doctest)]
mod examples {
    #[doc = include_str!("explain/leak.md")]
    struct Leak;
    #[doc = include_str!("explain/released.md")]
    struct Released;
    #[doc = include_str!("explain/not-owner.md")]
    struct NotOwner;
    #[doc = include_str!("explain/theft.md")]
    struct Theft;
    #[doc = include_str!("explain/already-owned.md")]
    struct AlreadyOwned;
    #[doc = include_str!("explain/dropped-elsewhere.md")]
    struct DroppedElsewhere;
    #[doc = include_str!("explain/unclaimed.md")]
    struct Unclaimed;
    #[doc = include_str!("explain/in-use.md")]
    struct InUse;
    #[doc = include_str!("explain/given-twice.md")]
    struct GivenTwice;
    #[doc = include_str!("explain/is-split.md")]
    struct IsSplit;
    #[doc = include_str!("explain/not-its-other-half.md")]
    struct NotItsOtherHalf;
    #[doc = include_str!("explain/no-parent.md")]
    struct NoParent;
    #[doc = include_str!("explain/not-a-child.md")]
    struct NotAChild;
    #[doc = include_str!("explain/not-open.md")]
    struct NotOpen;
    #[doc = include_str!("explain/finalizer-failed.md")]
    struct FinalizerFailed;
    #[doc = include_str!("explain/finalizer-panicked.md")]
    struct FinalizerPanicked;
    #[doc = include_str!("explain/cancelled.md")]
    struct Cancelled;
    #[doc = include_str!("explain/ending.md")]
    struct Ending;
    #[doc = include_str!("explain/parent-ending.md")]
    struct ParentEnding;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::ErrorKind;

    #[test]
    fn every_code_is_explained() {
        for kind in ErrorKind::ALL {
            assert!(find(kind.code()).is_some(), "{} is not explained", kind.code());
        }
        assert_eq!(EXPLANATIONS.len(), ErrorKind::ALL.len() + 1, "each kind, and `leak`");
    }

    #[test]
    fn no_word_means_two_things() {
        for known in EXPLANATIONS {
            for word in known.aliases.iter().chain([&known.code]) {
                assert_eq!(find(word).map(|found| found.code), Some(known.code), "{word}");
            }
        }
    }

    #[test]
    fn every_explanation_has_all_its_parts() {
        for known in EXPLANATIONS {
            for part in [
                "## What happened",
                "## Why it is wrong",
                "## Example",
                "## How to mend it",
                "## Victim, bystander, offender",
            ] {
                assert!(known.text.contains(part), "{} has no {part:?}", known.code);
            }
        }
    }
}
