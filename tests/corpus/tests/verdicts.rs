//! Every faulty and every clean function of this crate, with the attribute and its expected
//! verdict.
//!
//! The line above each test is its verdict: `//~ passes`, `//~ fails` or `//~ ignored`, and then,
//! between bars, parts of what the test's section of the output has to show. Parts that begin with
//! `@` are known on Linux on x86-64: places in the source, and calls. With the part `?`, the others
//! are not required if the test says that the kernel refuses the call. `tests/adopting.rs` runs this
//! and compares.

#[path = "verdicts/leaks.rs"]
mod leaks;

#[path = "verdicts/closes.rs"]
mod closes;

#[path = "verdicts/crates.rs"]
mod crates;

#[path = "verdicts/bugs.rs"]
mod bugs;

#[path = "verdicts/clean.rs"]
mod clean;

#[path = "verdicts/limits.rs"]
mod limits;

#[path = "verdicts/options.rs"]
mod options;

#[path = "verdicts/runner.rs"]
mod runner;

#[path = "verdicts/crowd.rs"]
mod crowd;

#[path = "verdicts/signals.rs"]
mod signals;

#[path = "verdicts/runs.rs"]
mod runs;

#[path = "verdicts/stacked.rs"]
mod stacked;

#[path = "verdicts/kinds.rs"]
mod kinds;

#[path = "verdicts/exec.rs"]
mod exec;
