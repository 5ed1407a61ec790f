//! Lesson: two tasks write to one half of a socket.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "split",
    title: "The socket with two writers",
    sources: &[Source {
        title: "servo/servo#43472",
        url: "https://github.com/servo/servo/pull/43472",
    }],
    story: include_str!("split/story.md"),
    question: Question {
        text: "Both tasks can reach the write half. Which write is wrong, and why does the \
               compiler accept it?",
        choices: [
            Choice {
                text: "The writer's: it has only a clone of the `Arc`, and the original is in \
                       another task.",
                explanation: "Clones of an `Arc` are equal. What counts is the list of resources \
                              in `spawn_named`: it made the writer the owner.",
            },
            Choice {
                text: "Neither: an `Arc` makes `write_all` atomic. It sends each message in one \
                       piece, and messages cannot mix.",
                explanation: "An `Arc` makes counting atomic, and nothing else. `write_all` may \
                              need several system calls, and another thread's bytes can get in \
                              between.",
            },
            Choice {
                text: "The reader's: the half belongs to the writer. A write needs only `&`, and \
                       every `Arc` has that.",
                explanation: "Two tasks that write to one stream can mix their messages. Shared \
                              access to memory is safe here, so the compiler has no reason to \
                              reject it.",
            },
            Choice {
                text: "The client's: `ping` arrives on a socket that was split, and a split \
                       socket cannot receive.",
                explanation: "The client writes to its own socket. What arrives is read from the \
                              read half, as intended.",
            },
        ],
        right: 2,
    },
    broken: Program { text: include_str!("split/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("split/fixed.rs"), run: fixed::run },
    finds: &["not-owner"],
    test: Test { name: "one_task_writes", options: "", finds: &["not-owner"] },
    recorded: None,
    why: include_str!("split/why.md"),
};
