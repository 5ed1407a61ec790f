//! Lesson: a panic lets a folder end before the store in it.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "panic-order",
    title: "The folder that ended before its store",
    sources: &[Source {
        title: "aovestdipaperino/tokensave#371",
        url: "https://github.com/aovestdipaperino/tokensave/pull/371",
    }],
    story: include_str!("panic_order/story.md"),
    question: Question {
        text: "`import` panics before the two calls of `release`. Which finalizer fails, and why \
               does the compiler accept that?",
        choices: [
            Choice {
                text: "That of the folder: it was acquired first, so it is finalized first, and \
                       its store is still open.",
                explanation: "The folder is finalized first, because `folder` is declared last. \
                              But nothing prevents its renaming; only what follows can fail.",
            },
            Choice {
                text: "That of the store: the folder is dropped before it, and a path is no \
                       borrow.",
                explanation: "`folder` is declared after `store`, so it is dropped before it. The \
                              path of the entries is an ordinary value, which borrows nothing \
                              from the folder.",
            },
            Choice {
                text: "Neither: a panic skips the two calls of `release`, so the folder and the \
                       store are leaked.",
                explanation: "The calls are skipped. But when a panic unwinds a function, its \
                              variables are dropped, and a dropped handle is released.",
            },
            Choice {
                text: "Both: a thread that panics must not write files, and no type says so.",
                explanation: "Finalizers and destructors run as usual during a panic. Only a \
                              second panic in a destructor would be fatal.",
            },
        ],
        right: 1,
    },
    broken: Program { text: include_str!("panic_order/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("panic_order/fixed.rs"), run: fixed::run },
    finds: &["finalizer-failed"],
    test: Test { name: "the_entries_are_written", options: "", finds: &["finalizer-failed"] },
    recorded: None,
    why: include_str!("panic_order/why.md"),
};
