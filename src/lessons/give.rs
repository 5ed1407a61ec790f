//! Lesson: a socket is given to a session, and a list keeps it open.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

#[rustfmt::skip]
mod broken;
#[rustfmt::skip]
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "give",
    title: "The list that kept a socket open",
    sources: &[Source {
        title: "deskflow/deskflow#9454",
        url: "https://github.com/deskflow/deskflow/issues/9454",
    }],
    story: include_str!("give/story.md"),
    question: Question {
        text: "The session writes `hello` and returns. Without a checker, what happens next?",
        choices: [
            Choice {
                text: "The session's end closes the socket, and the client reads the end.",
                explanation: "The session drops its `Arc`, but that is not the last one. `close` \
                              is only called for the last.",
            },
            Choice {
                text: "The client waits for the end of the stream, and never gets it.",
                explanation: "The clone in `clients` keeps the socket open until `run` returns, \
                              and `run` waits for the client.",
            },
            Choice {
                text: "The socket is closed twice, once for each `Arc`.",
                explanation: "An `Arc` counts its clones. The socket is dropped once, with the \
                              last of them.",
            },
            Choice {
                text: "It does not compile, because `socket` moves into the session.",
                explanation: "`socket` moves, but its clone in `clients` is another value. The \
                              compiler sees two valid owners of shared memory.",
            },
        ],
        right: 1,
    },
    broken: Program { text: include_str!("give/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("give/fixed.rs"), run: fixed::run },
    finds: &["leak"],
    test: Test { name: "every_descriptor_is_closed", options: "", finds: &["leak"] },
    recorded: None,
    why: include_str!("give/why.md"),
};
