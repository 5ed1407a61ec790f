//! Lesson: a server is dropped, and its acceptor goes on.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "forgotten-task",
    title: "The server that kept its port",
    sources: &[
        Source {
            title: "actix/actix-web#3765",
            url: "https://github.com/actix/actix-web/issues/3765",
        },
        Source { title: "actix/actix-net#966", url: "https://github.com/actix/actix-net/pull/966" },
    ],
    story: include_str!("forgotten_task/story.md"),
    question: Question {
        text: "After `drop(server)`, the program binds a new listener to the same address. What \
               happens without a checker, and why did the compiler not object?",
        choices: [
            Choice {
                text: "It succeeds: dropping the server closed the listener, as the compiler \
                       guarantees.",
                explanation: "`server` is a promise: the right to wait for the task. The listener \
                              moved into the task, and lives as long as the task.",
            },
            Choice {
                text: "It fails: the acceptor still runs. Dropping the handle of a task does not \
                       end it.",
                explanation: "The acceptor waits in `accept` and owns the listener. A dropped \
                              `JoinHandle` of the standard library detaches its thread in the \
                              same way.",
            },
            Choice {
                text: "It succeeds: the two listeners share the clients of the port, and both are \
                       valid values.",
                explanation: "Two listeners on one port are possible only if both set the option \
                              SO_REUSEPORT before they bind.",
            },
            Choice {
                text: "It fails for about a minute, until the kernel forgets the client. Types \
                       know no time.",
                explanation: "That is TIME_WAIT, a state of closed connections. This listener is \
                              not closed, so waiting does not help.",
            },
        ],
        right: 1,
    },
    broken: Program { text: include_str!("forgotten_task/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("forgotten_task/fixed.rs"), run: fixed::run },
    finds: &["unjoined-task"],
    test: Test {
        name: "no_task_is_left",
        options: "timeout_ms = 10000",
        finds: &["unjoined-task"],
    },
    recorded: None,
    why: include_str!("forgotten_task/why.md"),
};
