//! Lesson: a socket and a number of it, and both close it.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "double-close",
    title: "The number with two owners",
    sources: &[
        Source { title: "psychon/x11rb#363", url: "https://github.com/psychon/x11rb/issues/363" },
        Source { title: "psychon/x11rb#815", url: "https://github.com/psychon/x11rb/pull/815" },
        Source { title: "nix-rust/nix#2707", url: "https://github.com/nix-rust/nix/issues/2707" },
    ],
    story: include_str!("double_close/story.md"),
    question: Question {
        text: "One socket is opened, and `close` is called twice. Which close is wrong, and why \
               does the compiler not see it?",
        choices: [
            Choice {
                text: "The one at the end of `connect`: the number is still needed, but an integer \
                       has no lifetime.",
                explanation: "`as_raw_fd` lends the number. The socket still owns it, and closes \
                              it when `connect` returns. A reference could not have outlived the \
                              socket. A number can.",
            },
            Choice {
                text: "The one in `drop`: a destructor must not make system calls, which the \
                       compiler cannot check.",
                explanation: "Destructors are the right place for a close; that of `UnixStream` \
                              has one, too. What matters is that one value owns the number.",
            },
            Choice {
                text: "Neither: the kernel counts the owners of a number, and frees it after the \
                       last close.",
                explanation: "It counts the numbers that refer to a socket. A number itself is \
                              open or free, and one close frees it.",
            },
            Choice {
                text: "Neither: the second close fails, and `drop` ignores the error, so it can do \
                       no harm.",
                explanation: "In this small program. In a larger one, another thread may open a \
                              file between the two. It gets the free number, and the second close \
                              succeeds.",
            },
        ],
        right: 0,
    },
    broken: Program { text: include_str!("double_close/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("double_close/fixed.rs"), run: fixed::run },
    finds: &[],
    test: Test { name: "nothing_is_closed_twice", options: "", finds: &["double-close"] },
    recorded: Some(include_str!("double_close/recorded.txt")),
    why: include_str!("double_close/why.md"),
};
