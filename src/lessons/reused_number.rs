//! Lesson: a pipe is closed by its number, and then by its drop, when another pipe has the number.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "reused-number",
    title: "The number that was reused",
    sources: &[Source {
        title: "softdevteam/lang_tester#87",
        url: "https://github.com/softdevteam/lang_tester/pull/87",
    }],
    story: include_str!("reused_number/story.md"),
    question: Question {
        text: "Without a checker, what does `stdin.release()` do here, and why does the compiler \
               accept it?",
        choices: [
            Choice {
                text: "It fails: the number is no longer open. The compiler does not know which \
                       numbers are.",
                explanation: "It is open again. `pipe` got the lowest free number, and that is \
                              the one that `close` had just freed.",
            },
            Choice {
                text: "Nothing: the kernel remembers that this pipe is closed, and a second close \
                       of the same pipe is ignored.",
                explanation: "The kernel knows numbers, not variables. The number is in use, so \
                              the kernel closes it.",
            },
            Choice {
                text: "It frees the memory of `stdin` a second time: `close` has freed it \
                       already.",
                explanation: "`close` frees a number and no memory. The variable stays valid in \
                              every way that the compiler checks.",
            },
            Choice {
                text: "It closes `stdout`, which has this number now. To the compiler, numbers \
                       are only integers.",
                explanation: "The close succeeds, and hits the next owner of the number. The read \
                              from `stdout` then fails, far from the mistake.",
            },
        ],
        right: 3,
    },
    broken: Program { text: include_str!("reused_number/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("reused_number/fixed.rs"), run: fixed::run },
    finds: &["fd-replaced"],
    test: Test { name: "each_pipe_is_closed_once", options: "", finds: &["fd-replaced"] },
    recorded: None,
    why: include_str!("reused_number/why.md"),
};
