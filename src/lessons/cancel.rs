//! Lesson: a server closes a listener to stop the task that waits in it.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "cancel",
    title: "The close that should have woken a task",
    sources: &[Source {
        title: "tiny-http/tiny-http#120",
        url: "https://github.com/tiny-http/tiny-http/pull/120",
    }],
    story: include_str!("cancel/story.md"),
    question: Question {
        text: "The acceptor waits in `accept`. Which call is wrong, and why does the compiler not \
               see it?",
        choices: [
            Choice {
                text: "`join`: a task must not wait for another one that is blocked, and no type \
                       says which one is.",
                explanation: "Waiting is right, since the acceptor uses the listener until it \
                              has ended. But something has to wake it first.",
            },
            Choice {
                text: "`Arc::clone`: with two handles, the listener is closed twice.",
                explanation: "Both handles refer to one listener, which is closed once. A clone \
                              of an `Arc` makes no second descriptor.",
            },
            Choice {
                text: "`accept`: without a time limit nothing can ever end it, and a limit is not \
                       part of a type.",
                explanation: "A limit would help, at the price of a delay. But a shutdown of the \
                              listener also ends a blocked `accept`.",
            },
            Choice {
                text: "`close`: the acceptor owns the listener, but any reference is enough to call \
                       it.",
                explanation: "The listener was given to the acceptor. Its type is the same before and \
                              after that, so only a check at run time knows the owner.",
            },
        ],
        right: 3,
    },
    broken: Program { text: include_str!("cancel/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("cancel/fixed.rs"), run: fixed::run },
    finds: &["not-owner", "unjoined-task"],
    test: Test {
        name: "the_acceptor_is_stopped",
        options: "timeout_ms = 10000",
        finds: &["not-owner"],
    },
    recorded: None,
    why: include_str!("cancel/why.md"),
};
