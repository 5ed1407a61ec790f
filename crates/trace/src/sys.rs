//! System calls of the tracer behind safe functions: ptrace, seccomp, fork, memory of other processes.

#![allow(unsafe_code, reason = "the only place of this crate for it")]

pub mod memory;
pub mod ptrace;
pub mod quiet_stops;
pub mod spawn;
pub mod timer;
pub mod worker;
