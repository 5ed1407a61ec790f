//! The door to the kernel, and the only place where `unsafe` may stand.
//!
//! Everything above calls these functions and nothing below them. They are thin: a system call, its
//! result as a value. What needs a proof that a descriptor's number is still ours (all of
//! [`fd::Number`]) says who has to hold that proof.
#![allow(unsafe_code)]

#[cfg(any(feature = "cli", feature = "macros"))]
pub(crate) mod append;
#[cfg(all(feature = "cli", target_os = "linux"))]
pub(crate) mod child;
pub(crate) mod escape;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod limits;
pub(crate) mod memory;
#[cfg(feature = "macros")]
pub(crate) mod open;
#[cfg(feature = "macros")]
pub(crate) mod passing;
#[cfg(feature = "cli")]
pub(crate) mod signal;
#[cfg(all(feature = "cli", target_os = "linux"))]
pub(crate) mod stdio;
pub(crate) mod thread;
pub(crate) mod thread_exit;
#[cfg(feature = "macros")]
pub(crate) mod trap;
pub(crate) mod unix_address;
#[cfg(all(test, echown_loom))]
pub(crate) mod watched;
