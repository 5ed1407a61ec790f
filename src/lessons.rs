//! The lessons of `echown learn`, in order, and how their programs are run.
//!
//! A lesson is a file and a folder of its name: its texts, its program with the bug (`broken.rs`) and
//! the fixed one. The programs are compiled into this one, and are the exercises and solutions of the
//! project that `echown learn init` writes. Each runs in a process of its own ([`run_here`]).
#![allow(unreachable_pub, reason = "the programs are as a learner writes them")]

mod cancel;
mod close_on_exec;
mod cycle;
mod double_close;
mod eof;
mod forgotten_task;
mod give;
mod idle_client;
mod offer;
mod order;
mod panic_order;
mod park;
mod passing;
mod project;
mod reused_number;
mod runner;
mod split;
mod three_tables;
mod transfer;

use echown_learn::Lesson;

pub(crate) use project::{built_in, exercises, project};
pub(crate) use runner::run_here;

/// All lessons.
pub(crate) static LESSONS: &[Lesson] = &[
    give::LESSON,
    eof::LESSON,
    idle_client::LESSON,
    reused_number::LESSON,
    transfer::LESSON,
    offer::LESSON,
    split::LESSON,
    cycle::LESSON,
    panic_order::LESSON,
    cancel::LESSON,
    forgotten_task::LESSON,
    double_close::LESSON,
    close_on_exec::LESSON,
    three_tables::LESSON,
    passing::LESSON,
    park::LESSON,
];

/// The beginning of the page that lists the lessons.
pub(crate) const CONTENTS: &str = include_str!("lessons/contents.md");
