//! Lesson: a socket is sent in a message, and the sender does not close it.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "passing",
    title: "The socket that was sent and stayed",
    sources: &[
        Source {
            title: "mitsuhiko/unix-ipc#3",
            url: "https://github.com/mitsuhiko/unix-ipc/issues/3",
        },
        Source {
            title: "mitsuhiko/unix-ipc#4",
            url: "https://github.com/mitsuhiko/unix-ipc/pull/4",
        },
    ],
    story: include_str!("passing/story.md"),
    question: Question {
        text: "The worker receives the socket and releases it. Which close is missing, and why \
               does the compiler not see that?",
        choices: [
            Choice {
                text: "None: the message moved the socket to the worker, which closes it. The \
                       types say the same.",
                explanation: "The kernel does not move descriptors. The receiver gets a new \
                              number, and the sender keeps its own.",
            },
            Choice {
                text: "The worker's second one, for the number that came in the message.",
                explanation: "The worker has one number. The kernel chose it on arrival, and \
                              `own_fd` owns it.",
            },
            Choice {
                text: "The server's: sending copies the socket, and `forget` is safe, since it \
                       breaks no rule of memory.",
                explanation: "The server's number stays open until it is closed, and after \
                              `forget` no value is left that closes it.",
            },
            Choice {
                text: "The kernel's: a message keeps its descriptors open until both processes \
                       have ended.",
                explanation: "A message in transit does hold the socket. Once it has been \
                              received, nothing of it is left.",
            },
        ],
        right: 2,
    },
    broken: Program { text: include_str!("passing/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("passing/fixed.rs"), run: fixed::run },
    finds: &["leak"],
    test: Test { name: "each_number_is_closed", options: "", finds: &["leak"] },
    recorded: None,
    why: include_str!("passing/why.md"),
};
