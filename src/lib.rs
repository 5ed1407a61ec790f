//! Descriptors with exactly one provable owner, and an echo server that stands on them.
#![forbid(unsafe_op_in_unsafe_fn)]

mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod echo;
pub mod faults;
pub mod frame;
#[cfg(feature = "macros")]
pub mod harness;
pub mod net;
pub mod ownership;
pub mod pool;
mod rate_limited_log;
pub mod server;
#[cfg(feature = "cli")]
pub mod signals;
pub mod stage;
mod sync;
mod sys;

pub use check::{Check, check};
pub use echown_report as report;
#[cfg(feature = "macros")]
pub use echown_test::test_of_echown as test;

pub mod thread {
    //! Tasks on plain threads, without a pool.
    pub use crate::pool::{Promise, spawn_thread as spawn, spawn_thread_in as spawn_in};
}

#[cfg(doctest)]
mod explained;

/// The README's program, compiled and run with the other examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
