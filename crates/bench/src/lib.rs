//! A load generator that looks at every byte that comes back.
//!
//! A [`Plan`] says what is asked of a server: how many connections, messages of which size, one after
//! the other or at a rate, by which kind of client. [`run`] does it and answers an [`Outcome`]:
//! throughput, latencies, errors by kind, connections that starved, what it cost the server, and
//! [`Warning`]s where a figure is not what it seems. [`compare()`](compare::compare) does it with
//! several servers in turn.
//!
//! The kind of [`Client`] decides which server looks better, so that every figure names it. At a rate,
//! latencies count from when a message was due, not from when it could be sent: a server that stalls
//! would otherwise be asked less while it stalls, and look well.
//!
//! # Sources
//!
//! The last thought is Gil Tene's ("coordinated omission"), and the histograms are his.

#![cfg(target_os = "linux")]

mod agenda;
mod blocking;
pub mod compare;
mod event;
mod frame;
mod frames;
mod gate;
mod host;
mod idle;
mod machine;
mod net;
mod outcome;
mod pattern;
mod plan;
mod plot;
mod rival;
mod run;
pub mod scenario;
mod show;
mod talk;
mod tally;
mod threads;
mod warning;
mod watch;

pub use host::Host;
pub use machine::{pin_to, raise_descriptors};
pub use outcome::{Latency, Outcome, ServerUse, Verified};
pub use plan::{Client, Dialect, Plan, Target};
pub use plot::plot;
pub use rival::{Rival, Running};
pub use run::{LoadError, Progress, run};
pub use warning::Warning;
pub use watch::Watch;
