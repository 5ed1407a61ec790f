//! Lesson: a second close of a number that another pipe has in the meantime.

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
        text: "Suppose that `close` knows only the number. What does the second close of `stdin` \
               do, and why does the compiler accept it?",
        choices: [
            Choice {
                text: "It fails: the number is no longer open. The compiler does not know which \
                       numbers are.",
                explanation: "It is open again. The next `pipe` got the lowest free number, and \
                              that is the one that `feed` has freed.",
            },
            Choice {
                text: "Nothing: the kernel remembers that `stdin` is closed, and closing twice is \
                       allowed.",
                explanation: "The kernel knows numbers, not variables. The number is in use, so \
                              the kernel closes it.",
            },
            Choice {
                text: "It frees the memory of `stdin` a second time, which `&self` hides from the \
                       compiler.",
                explanation: "No memory is freed by a close. The variable stays valid in every \
                              way that the compiler checks.",
            },
            Choice {
                text: "It closes `stdout`, which has this number now. To the compiler, numbers \
                       are only integers.",
                explanation: "The close succeeds, and hits the next owner of the number. The read \
                              from `stdout` would fail, far from the mistake.",
            },
        ],
        right: 3,
    },
    broken: Program { text: include_str!("reused_number/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("reused_number/fixed.rs"), run: fixed::run },
    finds: &["double-release"],
    test: Test { name: "each_pipe_is_closed_once", options: "", finds: &["double-release"] },
    recorded: None,
    why: include_str!("reused_number/why.md"),
};
