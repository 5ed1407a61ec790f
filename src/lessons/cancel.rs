//! Lesson: a server closes a socket to stop the session that reads from it.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "cancel",
    title: "The close that should have woken a reader",
    sources: &[Source {
        title: "tiny-http/tiny-http#120",
        url: "https://github.com/tiny-http/tiny-http/pull/120",
    }],
    story: include_str!("cancel/story.md"),
    question: Question {
        text: "The session waits in `read`. Which call is wrong, and why does the compiler not \
               see it?",
        choices: [
            Choice {
                text: "`join`: a task must not wait for another one that is blocked, and no type \
                       says which one is.",
                explanation: "Waiting is right, since the session uses the socket until it has \
                              ended. But something has to wake it first.",
            },
            Choice {
                text: "`Arc::clone`: with two handles, the socket is closed twice.",
                explanation: "Both handles refer to one socket, which is closed once. A clone of \
                              an `Arc` makes no second descriptor.",
            },
            Choice {
                text: "`read`: without a time limit nothing can ever end it, and a limit is not \
                       part of a type.",
                explanation: "A limit would help, at the price of a delay. But a shutdown of the \
                              socket also ends a blocked read.",
            },
            Choice {
                text: "`close`: the session owns the socket, but any reference is enough to call \
                       it.",
                explanation: "The socket was given to the session. Its type is the same before and \
                              after that, so only a check at run time knows the owner.",
            },
        ],
        right: 3,
    },
    broken: Program { text: include_str!("cancel/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("cancel/fixed.rs"), run: fixed::run },
    finds: &["not-owner", "unjoined-task"],
    test: Test {
        name: "the_session_is_stopped",
        options: "timeout_ms = 10000",
        finds: &["not-owner"],
    },
    recorded: None,
    why: include_str!("cancel/why.md"),
};
