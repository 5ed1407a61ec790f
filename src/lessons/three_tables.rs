//! Lesson: a duplicate keeps the lock of a file.

use echown_learn::{Choice, Lesson, Program, Question, Source, Test};

mod broken;
mod fixed;

pub(super) const LESSON: Lesson = Lesson {
    name: "three-tables",
    title: "The lock that outlived its file",
    sources: &[
        Source {
            title: "MaterializeInc/materialize#11961",
            url: "https://github.com/MaterializeInc/materialize/issues/11961",
        },
        Source {
            title: "MaterializeInc/materialize#12050",
            url: "https://github.com/MaterializeInc/materialize/pull/12050",
        },
    ],
    story: include_str!("three_tables/story.md"),
    question: Question {
        text: "`lock` is dropped, and `next.try_lock()` still fails. Who holds the lock, and why \
               does the compiler not see it?",
        choices: [
            Choice {
                text: "The file: a lock stays until `unlock` is called, and the compiler demands \
                       no such call.",
                explanation: "Closing ends a lock as well. But it has to be the last number of the \
                              description.",
            },
            Choice {
                text: "The process: it holds a lock until it ends, and types know no processes.",
                explanation: "That is another kind of lock (`fcntl` with F_SETLK), and even that \
                              ends at a close.",
            },
            Choice {
                text: "`next`: opening a locked file a second time locks it against its own \
                       process.",
                explanation: "`open` makes a new description, without a lock. It is the one that \
                              has to wait.",
            },
            Choice {
                text: "The description: `copy` is another number of it, and a value of its own.",
                explanation: "`lock` and `copy` are two numbers of one description, which has the \
                              lock. To the compiler they are two independent files, and one of \
                              them is in a global.",
            },
        ],
        right: 3,
    },
    broken: Program { text: include_str!("three_tables/broken.rs"), run: broken::run },
    fixed: Program { text: include_str!("three_tables/fixed.rs"), run: fixed::run },
    finds: &["leak"],
    test: Test { name: "the_lock_is_free_again", options: "", finds: &["leak"] },
    recorded: None,
    why: include_str!("three_tables/why.md"),
};
