//! Lesson: a server joins a task that waits for an idle client.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "idle-client",
    title: "The shutdown that waits for an idle client",
    sources: &[
        Source {
            title: "rust-lang/book#3545",
            url: "https://github.com/rust-lang/book/issues/3545",
        },
        Source {
            title: "hyperium/hyper#1885",
            url: "https://github.com/hyperium/hyper/issues/1885",
        },
    ],
    story: include_str!("idle_client/story.md"),
    question: Question {
        text: "The server never stops. What does it wait for, and why does the compiler accept \
               it?",
        choices: [
            Choice {
                text: "`client 2` reads from a silent connection. That a call returns is not part \
                       of its type.",
                explanation: "The read blocks until the client sends or closes, and it does \
                              neither. `join_flat` waits for the task, however long that takes.",
            },
            Choice {
                text: "`client 1` waits for another line, because `lines` does not know that \
                       there is only one.",
                explanation: "The browser has closed its sending side, so `lines` ends after the \
                              first line, and `client 1` returns.",
            },
            Choice {
                text: "Both tasks wait for a lock: they read through `BufReader`s of one thread \
                       pool.",
                explanation: "Each task has a reader of its own, and no lock is involved. `client \
                              1` is not disturbed by `client 2`.",
            },
            Choice {
                text: "`_spare` is dropped at once, because of its underscore, and `client 2` \
                       reads from a closed socket.",
                explanation: "Only the pattern `_` drops at once; `_spare` lives until `run` \
                              returns. If it were dropped, `client 2` would read the end of the \
                              stream and return.",
            },
        ],
        right: 0,
    },
    broken: Program { text: include_str!("idle_client/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("idle_client/fixed.rs"), run: fixed::run },
    finds: &["hang"],
    test: Test { name: "the_server_stops", options: "timeout_ms = 2000", finds: &["hang"] },
    recorded: None,
    why: include_str!("idle_client/why.md"),
};
