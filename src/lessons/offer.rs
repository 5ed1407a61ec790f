//! Lesson: a worker stops at an error, and a client is left in the channel.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "offer",
    title: "The client that was left in the channel",
    sources: &[
        Source {
            title: "rust-lang/futures-rs#1241",
            url: "https://github.com/rust-lang/futures-rs/pull/1241",
        },
        Source {
            title: "quickwit-oss/quickwit#2862",
            url: "https://github.com/quickwit-oss/quickwit/pull/2862",
        },
    ],
    story: include_str!("offer/story.md"),
    question: Question {
        text: "The third client gets no reply. Which line loses it, and why does the compiler \
               accept that?",
        choices: [
            Choice {
                text: "The `?` after `serve`: it ends the loop, and what is in `queue` is dropped \
                       with it.",
                explanation: "`many` is no number, so `serve` returns an error, and `work` \
                              returns it. No type says that a message has to be received.",
            },
            Choice {
                text: "`drop(sender)`: it closes the channel, and the messages of a closed \
                       channel are lost.",
                explanation: "A channel without senders still delivers what was sent. Then the \
                              loop over it ends.",
            },
            Choice {
                text: "`offer()`: it takes the handle by value, so that the socket is closed when \
                       the call returns.",
                explanation: "`offer` takes the handle and puts the open socket into the offer. \
                              The first client gets its reply, so this works.",
            },
            Choice {
                text: "`claim()`: a worker that serves one client at a time cannot claim the \
                       next, and `?` hides the error.",
                explanation: "A task can own any number of resources, and an error of `claim` \
                              would be returned. The worker never comes to the third `claim`.",
            },
        ],
        right: 0,
    },
    broken: Program { text: include_str!("offer/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("offer/fixed.rs"), run: fixed::run },
    finds: &["unclaimed"],
    test: Test { name: "every_client_is_served", options: "", finds: &["unclaimed"] },
    recorded: None,
    why: include_str!("offer/why.md"),
};
