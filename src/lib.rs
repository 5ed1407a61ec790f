//! Checked ownership of file descriptors: every descriptor has exactly one owner, a task.
//!
//! A registry records who owns each descriptor, since when and from which line. A use by another
//! task is rejected before the system call. Descriptors that a task leaves open are closed and
//! reported.
//!
//! ```
//! use echown::ownership::ErrorKind;
//! use echown::{net::Stream, pool::Pool};
//!
//! let pool = Pool::new();
//! let (ours, theirs) = Stream::pair()?;
//!
//! // Given to a child task: from here on the child is the owner.
//! let child = pool.spawn_with(ours, |ours| ours.release())?;
//! child.join().expect("the child ends well").expect("the child owns the stream");
//!
//! // A task that was not given the stream is rejected.
//! let child = pool.spawn([], move || theirs.check().unwrap_err().kind())?;
//! assert_eq!(child.join().expect("the child ends well"), ErrorKind::NotOwner);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`ownership`] | the checker: `own`, `check`, offers, registries, snapshots |
//! | [`pool`], [`thread`] | tasks on threads, with ownership given and returned |
//! | [`net`] | sockets, pipes and files that are checked before every call |
//! | [`report`] | findings as plain data and as text, JSON, JUnit, SARIF |
//! | [`check()`] | leak detection for a closure, inside any test |
//! | [`server`], [`echo`] | the echo server, and how it serves a connection |
//! | [`frame`], [`faults`] | frames, injected system call failures |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `cli` (default) | the program `echown` with all subcommands |
//! | `serve` | the program with what a server needs: `serve`, `healthcheck`, `explain` |
//! | `macros` | `#[echown::test]`, leak detection for tests (the crate `echown-test` alone is lighter) |
//! | `ci` | JUnit, SARIF, baselines and suppression files |
//! | `json` | findings and snapshots as JSON |
//! | `report` | findings with their source lines underlined |
#![forbid(unsafe_op_in_unsafe_fn)]
// `docs/api.txt` lists what is `pub`.
#![warn(unreachable_pub)]
// What only the other subcommands, or only Linux uses; the linker leaves it out.
#![cfg_attr(all(feature = "serve", not(feature = "cli")), allow(dead_code, unused_imports))]
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

// The lessons' programs name this crate as their users do.
#[cfg(all(feature = "cli", not(target_vendor = "apple")))]
extern crate self as echown;

mod bind;
mod check;
#[cfg(feature = "serve")]
pub mod cli;
#[cfg(feature = "serve")]
mod client;
pub mod echo;
pub mod faults;
pub mod frame;
#[cfg(feature = "macros")]
mod harness;
#[cfg(all(feature = "cli", not(target_vendor = "apple")))]
mod lessons;
pub mod net;
pub mod ownership;
pub mod pool;
mod rate_limited_log;
#[cfg(feature = "serve")]
mod sandbox;
pub mod server;
#[cfg(feature = "serve")]
mod signals;
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
mod stage;
#[cfg(feature = "serve")]
mod status;
mod sync;
mod sys;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod systemd;
#[cfg(all(feature = "serve", target_os = "linux"))]
mod upgrade;

pub use check::{Check, check};
pub use echown_events as events;
pub use echown_report as report;
#[cfg(feature = "macros")]
pub use echown_test::__private::test_of_echown as test;

#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __private {
    //! What [`#[echown::test]`](macro@crate::test) expands to. No part of the public interface.
    pub use echown_test::__private::{Binary, Case, Suppression, marker};

    pub use crate::harness::run;
}

pub mod thread {
    //! Tasks on plain threads, without a pool.
    pub use crate::ownership::Promise;
    pub use crate::pool::thread::{spawn, spawn_named, spawn_named_with, spawn_with};
}

#[cfg(doctest)]
mod explained;

/// The README's program, compiled and run with the other examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
