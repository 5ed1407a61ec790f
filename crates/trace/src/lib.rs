//! The descriptors of any program, followed with ptrace and seccomp: who opened each, who closed it,
//! and what was done wrong.
//!
//! ```text
//! tracer ── stops ──> event ──> model ──> findings ──> judge ──> report
//!   │                   ^                                          │
//! filter, unwind     event log                                symbolize
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`tracer`] | runs a command and makes events of its stops |
//! | [`calls`] | the system calls that are followed |
//! | [`filter`] | the seccomp filter that stops them |
//! | `placement` | the tracer and a busy thread on one processor |
//! | [`event`] | what happened to descriptors and tasks, as plain data |
//! | [`python`] | the Python frames of a task |
//! | [`event_log`] | recorded events as JSON lines |
//! | [`model`] | the descriptor tables of all processes, and what was done wrong with them |
//! | [`finding`] | findings as plain data |
//! | [`judge`] | all findings at the end, in order |
//! | [`mentions`] | whether arguments or an environment name a descriptor |
//! | [`report`] | findings as the plain data that `echown_report` formats |
//! | [`stack`] | stacks as plain data, each stored once |
//! | [`unwind`] | stacks of stopped tasks |
//! | [`symbolize`] | functions, files and lines of stacks, after the trace |
//! | `perf_map` | names of code from just-in-time compilers |
//! | `modules` | the files with their code, within limits |
//!
//! On Linux and x86-64. Elsewhere the crate is empty.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod calls;
pub mod event;
pub mod event_log;
pub mod filter;
pub mod finding;
pub mod judge;
pub mod mentions;
pub mod model;
mod modules;
mod perf_map;
mod placement;
pub mod python;
pub mod report;
pub mod stack;
pub mod symbolize;
mod sys;
pub mod tracer;
pub mod unwind;
mod words;
