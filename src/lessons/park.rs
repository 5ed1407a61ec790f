//! Lesson: a worker parks a connection before it has sent its reply.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "park",
    title: "The reply that came after the hand-over",
    sources: &[
        Source { title: "hyperium/hyper#368", url: "https://github.com/hyperium/hyper/issues/368" },
        Source { title: "hyperium/hyper#2646", url: "https://github.com/hyperium/hyper/pull/2646" },
    ],
    story: include_str!("park/story.md"),
    question: Question {
        text: "Each worker reads its request, and neither reply is sent. Why, and why does the \
               compiler accept it?",
        choices: [
            Choice {
                text: "Both workers read from one `Arc`: the first request is read by the second \
                       worker, too, and comes out wrong.",
                explanation: "The kernel returns each byte once. `worker 1` has read its request \
                              before the second one is sent.",
            },
            Choice {
                text: "It is sent after `park`, when the worker is no longer the owner. For the \
                       compiler, a `&Stream` is enough to write.",
                explanation: "`park` has made `main` the owner. The handle is where it was, so \
                              nothing in the types tells the two lines apart.",
            },
            Choice {
                text: "`park` shuts the socket down until it is claimed again, and no type says \
                       whether a socket is shut down.",
                explanation: "A parked socket stays open, and the kernel keeps what arrives. Only \
                              its owner changes.",
            },
            Choice {
                text: "`unpark` does not wait: the worker claims the connection before the \
                       request is there, and reads nothing.",
                explanation: "`main` sends the request before it starts the worker. And the read \
                              would wait for it.",
            },
        ],
        right: 1,
    },
    broken: Program { text: include_str!("park/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("park/fixed.rs"), run: fixed::run },
    finds: &["not-owner"],
    test: Test { name: "every_request_gets_a_reply", options: "", finds: &["not-owner"] },
    recorded: None,
    why: include_str!("park/why.md"),
};
