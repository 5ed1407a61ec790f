//! Lesson: a reader waits for the end of a stream while the writer waits for the reader.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "eof",
    title: "The end of the stream that never comes",
    sources: &[
        Source {
            title: "tokio-rs/mini-redis#45",
            url: "https://github.com/tokio-rs/mini-redis/pull/45",
        },
        Source { title: "mitnk/cicada#34", url: "https://github.com/mitnk/cicada/issues/34" },
    ],
    story: include_str!("eof/story.md"),
    question: Question {
        text: "`run` never gets past `join_flat`. Which close is wrong, and why does the compiler \
               accept it?",
        choices: [
            Choice {
                text: "`input` is never closed. The compiler does not check that a task closes \
                       what it was given.",
                explanation: "`input` is dropped when `count` returns. But `count` does not \
                              return, because it waits for the end of the stream.",
            },
            Choice {
                text: "None is. The pipe is too small for three lines, and its size is not part \
                       of its type.",
                explanation: "A pipe on Linux holds 64 KiB. If it were full, `run` would wait in \
                              `writeln!`, before `join_flat`.",
            },
            Choice {
                text: "`output` is closed too late, after the wait. A drop at the end of the \
                       scope is always valid.",
                explanation: "`count` waits until the last write end is closed, and `run` waits \
                              for `count`. To the compiler, `join_flat` is a call like any other.",
            },
            Choice {
                text: "`output` is closed by the first `writeln!`, which takes it by value, so \
                       that two lines are lost.",
                explanation: "`writeln!` borrows `output` and closes nothing. All three lines \
                              arrive.",
            },
        ],
        right: 2,
    },
    broken: Program { text: include_str!("eof/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("eof/fixed.rs"), run: fixed::run },
    finds: &["hang"],
    test: Test { name: "the_lines_are_counted", options: "timeout_ms = 2000", finds: &["hang"] },
    recorded: None,
    why: include_str!("eof/why.md"),
};
