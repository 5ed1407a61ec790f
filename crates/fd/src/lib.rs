//! File descriptors of this process: their kind, identity and description, the list of open ones, and
//! the in-process trap that records where they are opened and closed.
//!
//! The crates `echown` and `echown-test` are built on it. It has no promise of a stable interface.
//!
//! | module | content |
//! |---|---|
//! | [`kind`] | the table of descriptor kinds |
//! | [`fd`] | a descriptor number, its identity and its addresses |
//! | [`open`] | all open descriptors, described |
//! | [`trap`] | records of the calls that open and close descriptors |
//! | [`inherit_fds`] | descriptors for a child process |
//! | [`shared_map`] | memory that two processes share |
//! | [`timeout`] | the timeout of a socket |
//! | [`unix_address`] | names of Unix sockets |
//! | [`at_exit`] | functions that run when the process exits |
//! | [`escape`] | text from outside, made printable |
//! | [`append`] | opens an output file without waiting for its reader |
//! | [`identity`] | what distinguishes one open file from another, as plain data |
//!
//! On Linux, macOS and FreeBSD. Elsewhere it has [`kind`], [`escape`] and [`identity`] alone, which
//! reports need.
#![forbid(unsafe_op_in_unsafe_fn)]

#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
pub mod append;
pub mod escape;
pub mod identity;
pub mod kind;
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
mod sys;

#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
pub use sys::{at_exit, fd, inherit_fds, open, shared_map, timeout, trap, unix_address};
