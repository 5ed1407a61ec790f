//! A load generator for echo servers that verifies every byte that comes back.
//!
//! A [`LoadPlan`] describes a load: the number of connections, the message size, a closed loop or a
//! fixed rate, and the kind of client. [`run`] applies it to a server and returns a [`LoadResult`]:
//! throughput, latency percentiles, errors by kind, starved connections, the server's processor time
//! and memory, and [`Warning`]s about unreliable figures. [`compare()`](compare::compare) runs the same
//! load against several servers in turn.
//!
//! The kind of client decides which of two servers looks better, so every result names its
//! [`ClientKind`]. At a fixed rate, latency runs from the scheduled send time. Otherwise a server that
//! stalls would receive fewer messages while it stalls, and look good ("coordinated omission", after
//! Gil Tene, whose histograms are used here).
//!
//! # Examples
//! ```no_run
//! use std::sync::Arc;
//!
//! use echown_bench::{Host, LoadPlan, LoadStopHandle, Target, run};
//!
//! let host: Arc<dyn Host> = Arc::new(());
//! let target = Target::Inet("127.0.0.1:7777".parse()?);
//! let plan = LoadPlan::default();
//! let result = run(&host, &plan, &target, None, &LoadStopHandle::default(), |_| {})?;
//! println!("{result}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//! Linux only: figures about processes come from `/proc`, and the event client uses `epoll(7)`.

#![cfg(target_os = "linux")]

/// The example of the README, compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod blocking;
pub mod compare;
mod error_kind;
mod event;
mod frame;
mod frames;
mod host;
mod idle;
mod load_error;
pub mod loads;
mod net;
mod open_loop;
mod payload;
mod plan;
mod plot;
mod progress;
mod result;
mod run;
mod run_context;
mod server_process;
mod session;
mod start_barrier;
mod stop_handle;
mod units;
mod usage;
mod worker_stats;

pub use host::Host;
pub use load_error::LoadError;
pub use plan::{ClientKind, LoadPlan, Target, WireProtocol};
pub use plot::plot;
pub use progress::LoadProgress;
pub use result::{LatencySummary, LoadResult, ServerUsage, Verified, Warning};
pub use run::run;
pub use server_process::{ServerCommand, ServerProcess};
pub use stop_handle::LoadStopHandle;
pub use usage::{pin_to, raise_descriptors};
