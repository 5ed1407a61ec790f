//! Lesson: a task returns a pipe that it still owns when it ends.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "transfer",
    title: "The pipe that was closed by its helper's end",
    sources: &[
        Source { title: "enarx/enarx#2357", url: "https://github.com/enarx/enarx/pull/2357" },
        Source { title: "enarx/enarx#2342", url: "https://github.com/enarx/enarx/issues/2342" },
    ],
    story: include_str!("transfer/story.md"),
    question: Question {
        text: "`helper` returns the read end of the pipe. Why does `join_flat` return an error?",
        choices: [
            Choice {
                text: "`output` is dropped at the end of `prepare`, and this closes both ends of \
                       the pipe.",
                explanation: "Each end is a descriptor of its own. A closed write end means that \
                              the stream ends after `hello`, and `hello` stays readable.",
            },
            Choice {
                text: "The task ended as the owner: the value moved to `main`, but not the duty \
                       to close it.",
                explanation: "At its end, a task's resources are closed, wherever their handles \
                              are. `main` gets a handle to a closed pipe, and the error says so.",
            },
            Choice {
                text: "A descriptor is valid in one thread only. The compiler believes the marker \
                       trait `Send`.",
                explanation: "Descriptors belong to the process, and every thread can use them. \
                              `Send` is right here.",
            },
            Choice {
                text: "`join_flat` flattens the result, and reads the pipe to its end to do so.",
                explanation: "It flattens two nested `Result`s into one. It does not look into \
                              the value.",
            },
        ],
        right: 1,
    },
    broken: Program { text: include_str!("transfer/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("transfer/fixed.rs"), run: fixed::run },
    finds: &["leak"],
    test: Test { name: "the_input_arrives", options: "", finds: &["leak"] },
    recorded: None,
    why: include_str!("transfer/why.md"),
};
