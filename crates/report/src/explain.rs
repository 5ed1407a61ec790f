//! Explanations of the report codes: the texts of `echown explain` and of `docs/reports.md`.

use std::fmt;

use super::Code;

/// The explanation of one code.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The code, as in `error[leak]`.
    pub code: Code,
    /// Other words that `echown explain` accepts.
    pub aliases: &'static [&'static str],
    /// The words for it in headlines; where they equal the code, headlines do not repeat them.
    pub words: &'static str,
    /// A summary in half a line.
    pub summary: &'static str,
    /// The advice at the end of a report.
    pub help: &'static str,
    /// What happened, why it is wrong, an example, how to fix it, and which task is victim,
    /// bystander or offender. Markdown.
    pub text: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n\n{}", self.code, self.summary, wrapped(self.text.trim_end()))
    }
}

/// The width of paragraphs on a terminal, in columns.
const COLUMNS: usize = 100;

/// Wraps the paragraphs of a Markdown text at [`COLUMNS`]. In `text`, each paragraph is one line.
/// Code blocks stay unchanged.
fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    let mut is_code = false;
    for line in text.lines() {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        if !wrapped.is_empty() {
            wrapped.push('\n');
        }
        if is_code || is_fence {
            wrapped += line;
            continue;
        }
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let mut column = 0;
        for (index, word) in line.split(' ').enumerate() {
            let width = word.chars().count();
            if index > 0 && column + 1 + width > COLUMNS {
                wrapped.push('\n');
                wrapped += indent;
                column = indent.len();
            } else if index > 0 {
                wrapped.push(' ');
                column += 1;
            }
            wrapped += word;
            column += width;
        }
    }
    wrapped
}

/// The explanations of all codes, in the order of [`Code::ALL`].
pub const EXPLANATIONS: &[Explanation; Code::ALL.len()] = &[
    Explanation {
        code: Code::Leak,
        aliases: &["leaked"],
        words: "leak",
        summary: "a task, a test or a process left something open",
        help: "release it, disown it, or transfer it before the task ends",
        text: include_str!("explain/leak.md"),
    },
    Explanation {
        code: Code::DoubleRelease,
        aliases: &["double-free", "released"],
        words: "double-release",
        summary: "a resource was released a second time",
        help: "release once, after all use has ended; or let the drop of the handle release it",
        text: include_str!("explain/double-release.md"),
    },
    Explanation {
        code: Code::UseAfterRelease,
        aliases: &["use-after-free"],
        words: "use-after-release",
        summary: "a resource was used after its release",
        help: "release it after the last use, or stop using it earlier",
        text: include_str!("explain/use-after-release.md"),
    },
    Explanation {
        code: Code::NotOwner,
        aliases: &["notowner"],
        words: "not owner",
        summary: "a task used a resource that another task owns",
        help: "give it to this task when it is spawned, or hand it over with `offer` and `claim`",
        text: include_str!("explain/not-owner.md"),
    },
    Explanation {
        code: Code::FdReplaced,
        aliases: &["replaced", "stolen"],
        words: "fd-replaced",
        summary: "a descriptor was closed or replaced outside the registry",
        help: "look for code that bypasses the registry: a raw close, a `dup2`, or a `from_raw_fd` of this number",
        text: include_str!("explain/fd-replaced.md"),
    },
    Explanation {
        code: Code::AlreadyOwned,
        aliases: &["owned-twice", "double-own"],
        words: "already-owned",
        summary: "a descriptor was owned that already has an owner",
        help: "keep the first handle and use that; `disown` it first to own it through a new one",
        text: include_str!("explain/already-owned.md"),
    },
    Explanation {
        code: Code::DroppedByNonOwner,
        aliases: &[],
        words: "dropped-by-non-owner",
        summary: "a handle was dropped by a task that does not own the resource",
        help: "drop it in the owner's task, or pass the ownership along with the handle",
        text: include_str!("explain/dropped-by-non-owner.md"),
    },
    Explanation {
        code: Code::Unclaimed,
        aliases: &["unclaimed-offer"],
        words: "unclaimed",
        summary: "an offer was dropped, or the program ended, before a task claimed it",
        help: "claim the offer, or take it back (claim it in the task that made it) and release it",
        text: include_str!("explain/unclaimed.md"),
    },
    Explanation {
        code: Code::InUse,
        aliases: &["busy"],
        words: "in-use",
        summary: "a value was used again inside `with`, or given away there",
        help: "do it after `with` has returned",
        text: include_str!("explain/in-use.md"),
    },
    Explanation {
        code: Code::DuplicateGive,
        aliases: &["given-twice"],
        words: "duplicate-give",
        summary: "a give list contains one resource twice",
        help: "name each resource once in the list",
        text: include_str!("explain/duplicate-give.md"),
    },
    Explanation {
        code: Code::IsSplit,
        aliases: &["split"],
        words: "is-split",
        summary: "a socket was used as a whole while it is split",
        help: "use the halves, or `rejoin` them first",
        text: include_str!("explain/is-split.md"),
    },
    Explanation {
        code: Code::MismatchedHalves,
        aliases: &[],
        words: "mismatched-halves",
        summary: "two halves of different sockets were rejoined",
        help: "rejoin the two halves that came from one `split`; the error returns both",
        text: include_str!("explain/mismatched-halves.md"),
    },
    Explanation {
        code: Code::NoParent,
        aliases: &[],
        words: "no-parent",
        summary: "a root task transferred a resource, but has no parent",
        help: "`offer` it to another task, or release it here",
        text: include_str!("explain/no-parent.md"),
    },
    Explanation {
        code: Code::NotAChild,
        aliases: &[],
        words: "not-a-child",
        summary: "a task joined, cancelled or drained another task's child",
        help: "join it in the task that spawned it, and send its result on",
        text: include_str!("explain/not-a-child.md"),
    },
    Explanation {
        code: Code::NotOpen,
        aliases: &[],
        words: "not-open",
        summary: "a descriptor was owned or used that is not open",
        help: "find the code that closed it earlier: it was closed outside the registry",
        text: include_str!("explain/not-open.md"),
    },
    Explanation {
        code: Code::FinalizerFailed,
        aliases: &["finalizer"],
        words: "finalizer-failed",
        summary: "a finalizer returned an error where no caller can receive it",
        help: "release it in the task, where `release` returns the error",
        text: include_str!("explain/finalizer-failed.md"),
    },
    Explanation {
        code: Code::FinalizerPanicked,
        aliases: &["panicked", "finalizer-panic"],
        words: "finalizer-panicked",
        summary: "a finalizer panicked; the others still ran",
        help: "return an error from the finalizer instead of panicking",
        text: include_str!("explain/finalizer-panicked.md"),
    },
    Explanation {
        code: Code::Cancelled,
        aliases: &["canceled"],
        words: "cancelled",
        summary: "the task was cancelled; no rule was broken",
        help: "return from the task",
        text: include_str!("explain/cancelled.md"),
    },
    Explanation {
        code: Code::TaskExiting,
        aliases: &["exiting"],
        words: "task-exiting",
        summary: "the task is exiting and cannot acquire resources; no rule was broken",
        help: "acquire it earlier, or in a task that outlives this one",
        text: include_str!("explain/task-exiting.md"),
    },
    Explanation {
        code: Code::ParentExiting,
        aliases: &[],
        words: "parent-exiting",
        summary: "the parent is exiting, so a transfer was rejected; no rule was broken",
        help: "release it here: this task still owns it",
        text: include_str!("explain/parent-exiting.md"),
    },
    Explanation {
        code: Code::ProcessExited,
        aliases: &["exited", "aborted"],
        words: "process-exited",
        summary: "the process of a test exited before the test returned",
        help: "a test has to return or panic; do not call `exit` in a test",
        text: include_str!("explain/process-exited.md"),
    },
    Explanation {
        code: Code::Hang,
        aliases: &["timeout", "hung"],
        words: "hang",
        summary: "a test did not return in time",
        help: "see what its threads wait for; set `timeout_ms = N` for a test that needs longer",
        text: include_str!("explain/hang.md"),
    },
    Explanation {
        code: Code::DoubleClose,
        aliases: &[],
        words: "double-close",
        summary: "a descriptor was closed a second time",
        help: "one of the two closes is not by the owner: keep the descriptor in one `OwnedFd`, which closes it once",
        text: include_str!("explain/double-close.md"),
    },
    Explanation {
        code: Code::UseAfterClose,
        aliases: &["ebadf"],
        words: "use-after-close",
        summary: "a descriptor number was used after its close",
        help: "keep a `BorrowedFd` instead of the number, or let the code that uses it share the owner",
        text: include_str!("explain/use-after-close.md"),
    },
    Explanation {
        code: Code::OverwrittenFd,
        aliases: &["dup2"],
        words: "overwritten-fd",
        summary: "an open descriptor was replaced with `dup2` or `dup3`",
        help: "close the descriptor first, or let the kernel choose a free number (`try_clone`, F_DUPFD_CLOEXEC)",
        text: include_str!("explain/overwritten-fd.md"),
    },
    Explanation {
        code: Code::ClosedInherited,
        aliases: &[],
        words: "closed-inherited",
        summary: "a test closed a descriptor that its process inherited",
        help: "the parent process may still use it: work on a duplicate (`try_clone`) and restore what was replaced, or allow it with `allow_close_inherited`",
        text: include_str!("explain/closed-inherited.md"),
    },
    Explanation {
        code: Code::ExecLeak,
        aliases: &["cloexec", "close-on-exec"],
        words: "exec-leak",
        summary: "a program inherited a descriptor that was opened without close-on-exec",
        help: "open it with close-on-exec (`O_CLOEXEC`, `SOCK_CLOEXEC`, `F_DUPFD_CLOEXEC`); to pass it on purpose, use `dup2` or clear the flag in the child before `exec`",
        text: include_str!("explain/exec-leak.md"),
    },
    Explanation {
        code: Code::UnjoinedTask,
        aliases: &["unjoined"],
        words: "unjoined-task",
        summary: "a test left a task unjoined",
        help: "join its promise, cancel it, or hand it to an `Orphans`",
        text: include_str!("explain/unjoined-task.md"),
    },
    Explanation {
        code: Code::InheritedFd,
        aliases: &["inherited"],
        words: "inherited-fd",
        summary: "the process of a test inherited a descriptor",
        help: "open it with O_CLOEXEC in the program that starts the tests, or close it there",
        text: include_str!("explain/inherited-fd.md"),
    },
    Explanation {
        code: Code::LeakCount,
        aliases: &[],
        words: "leak-count",
        summary: "the number of leaks differs from `expect_leaks`",
        help: "correct the number, or remove `expect_leaks`",
        text: include_str!("explain/leak-count.md"),
    },
    Explanation {
        code: Code::OpenAtExit,
        aliases: &["still-open"],
        words: "open-at-exit",
        summary: "a process ended with a descriptor open",
        help: "the kernel closes it; nothing needs to change, unless a file or connection has to end earlier",
        text: include_str!("explain/open-at-exit.md"),
    },
];

/// The explanation of a code or of one of its aliases.
///
/// # Examples
/// ```
/// let leak = echown_report::explain::find("leak").unwrap();
/// assert_eq!(leak.help, "release it, disown it, or transfer it before the task ends");
/// ```
#[must_use]
pub fn find(word: &str) -> Option<&'static Explanation> {
    let named = |known: &&Explanation| known.code.as_str() == word || known.aliases.contains(&word);
    EXPLANATIONS.iter().find(named)
}

impl Code {
    /// The explanation of this code.
    #[must_use]
    pub fn explanation(self) -> &'static Explanation {
        &EXPLANATIONS[self as usize]
    }
}

// The explanations are in the order of the codes.
const _: () = {
    let mut index = 0;
    while index < EXPLANATIONS.len() {
        assert!(EXPLANATIONS[index].code as usize == index);
        index += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_means_two_things() {
        for known in EXPLANATIONS {
            for word in known.aliases.iter().copied().chain([known.code.as_str()]) {
                assert_eq!(find(word).map(|found| found.code), Some(known.code), "{word}");
            }
        }
    }

    #[test]
    fn explanations_are_wrapped_for_a_terminal_and_lose_no_word() {
        for known in EXPLANATIONS {
            let printed = known.to_string();
            let (_, text) = printed.split_once("\n\n").expect("the text follows the headline");
            assert!(text.split_whitespace().eq(known.text.split_whitespace()), "{printed}");
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(COLUMNS), "{printed}");
        }
        assert_eq!(wrapped("- a\n```\nb  c\n```"), "- a\n```\nb  c\n```");
    }

    #[test]
    fn every_explanation_has_all_its_parts() {
        for known in EXPLANATIONS {
            for part in [
                "## What happened",
                "## Why it is wrong",
                "## Example",
                "## How to fix it",
                "## Victim, bystander, offender",
            ] {
                assert!(known.text.contains(part), "{} has no {part:?}", known.code);
            }
        }
    }
}
