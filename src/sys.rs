//! System calls behind safe functions: the only module of this crate with `unsafe`.
//!
//! The other modules call these functions for everything that needs `unsafe`. The functions are thin: a
//! system call, and its result as a value. Functions about a single descriptor are in the crate
//! `echown-fd`.
#![allow(unsafe_code)]

#[cfg(all(feature = "serve", target_os = "linux"))]
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod close;
#[cfg(all(feature = "serve", target_os = "linux"))]
pub(crate) mod environment;
pub(crate) mod fork;
#[cfg(all(test, echown_loom))]
pub(crate) mod loom_probe;
pub(crate) mod memory;
#[cfg(all(feature = "serve", target_os = "linux"))]
pub(crate) mod passed;
pub(crate) mod platform;
#[cfg(feature = "serve")]
pub(crate) mod signal;
#[cfg(all(feature = "serve", target_os = "linux"))]
pub(crate) mod stdio;
pub(crate) mod thread;
pub(crate) mod thread_exit;
pub(crate) mod zeroed;
