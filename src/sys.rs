//! The door to the kernel, and the only place where `unsafe` may stand.
//!
//! Everything above calls these functions and nothing below them. They are thin: a system call, its
//! result as a value. What is known about a single descriptor is in the crate `echown-fd`.
#![allow(unsafe_code)]

#[cfg(all(feature = "cli", target_os = "linux"))]
pub(crate) mod child;
pub(crate) mod close;
pub(crate) mod fork;
pub(crate) mod limits;
pub(crate) mod memory;
#[cfg(feature = "cli")]
pub(crate) mod signal;
#[cfg(all(feature = "cli", target_os = "linux"))]
pub(crate) mod stdio;
pub(crate) mod thread;
pub(crate) mod thread_exit;
#[cfg(all(test, echown_loom))]
pub(crate) mod watched;
