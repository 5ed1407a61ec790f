//! Lesson: a connection pool that its own connections keep alive.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "cycle",
    title: "The connection pool in a cycle",
    sources: &[
        Source { title: "algesten/ureq#582", url: "https://github.com/algesten/ureq/issues/582" },
        Source { title: "algesten/ureq#583", url: "https://github.com/algesten/ureq/pull/583" },
    ],
    story: include_str!("cycle/story.md"),
    question: Question {
        text: "The socket is still open when `run` has returned. Which close is missing, and why \
               does the compiler not see it?",
        choices: [
            Choice {
                text: "That of `_server`: a variable with an underscore is never dropped.",
                explanation: "`_server` is dropped at the end of `run` like every variable. It is \
                              the other end of the connection.",
            },
            Choice {
                text: "One in `finish`: it takes `self` by value, so it has to close the stream \
                       at its end.",
                explanation: "`self` moves into the list of idle connections. To keep the stream \
                              open is the purpose of the list.",
            },
            Choice {
                text: "One after `lock`: the guard keeps the list locked until the end of `run`, \
                       and a locked list cannot be dropped.",
                explanation: "The guard is dropped at the end of the statement. And a `Mutex` can \
                              be dropped while it is locked.",
            },
            Choice {
                text: "That of the list: `Agent` is never dropped, because a connection in it \
                       holds an `Arc` to it.",
                explanation: "`run` drops its own `Arc`, but one more is inside the agent. A \
                              cycle of `Arc`s is memory that is not freed, and that is safe.",
            },
        ],
        right: 3,
    },
    broken: Program { text: include_str!("cycle/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("cycle/fixed.rs"), run: fixed::run },
    finds: &["leak"],
    test: Test { name: "the_connection_is_closed", options: "", finds: &["leak"] },
    recorded: None,
    why: include_str!("cycle/why.md"),
};
