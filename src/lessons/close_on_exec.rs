//! Lesson: a child program inherits both ends of a pipe.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "close-on-exec",
    title: "The program that inherited a pipe",
    sources: &[
        Source { title: "rust-cli/rexpect#97", url: "https://github.com/rust-cli/rexpect/pull/97" },
        Source { title: "casey/just#3034", url: "https://github.com/casey/just/issues/3034" },
    ],
    story: include_str!("close_on_exec/story.md"),
    question: Question {
        text: "Someone moves the two lines with `filter.stdin.take()` and `wait` to the end. Then \
               `read_to_string` never returns. Why, and why does the compiler not see it?",
        choices: [
            Choice {
                text: "`drop(writer)` closes the pipe only when all of it has been read, and no \
                       type says when.",
                explanation: "A close takes effect at once. What was written stays readable. The \
                              end follows, if that was the last write end.",
            },
            Choice {
                text: "`cat` writes into the pipe: `Command` connected its standard output to it.",
                explanation: "Only its input was connected, to another pipe. Its output is that of \
                              this program.",
            },
            Choice {
                text: "`cat` has a copy of the write end, and what a child inherits is in no type.",
                explanation: "`pipe` of rustix does not set close-on-exec, so `cat` got both ends. \
                              A pipe ends when its last write end is closed, and `cat` does not \
                              close one that it does not use.",
            },
            Choice {
                text: "A pipe reports its end only to the process that created it, and types know \
                       no processes.",
                explanation: "Every process with a read end gets the end, as soon as no process \
                              has a write end.",
            },
        ],
        right: 2,
    },
    broken: Program { text: include_str!("close_on_exec/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("close_on_exec/fixed.rs"), run: fixed::run },
    finds: &[],
    test: Test {
        name: "nothing_is_inherited",
        options: "timeout_ms = 10000",
        finds: &["exec-leak"],
    },
    recorded: Some(include_str!("close_on_exec/recorded.txt")),
    why: include_str!("close_on_exec/why.md"),
};
