//! Replacing a running server without losing a connection: the old process hands its listening sockets to
//! the new one.
//!
//! ```text
//! new process ── connects to --upgrade-socket ──> old process: upgrade acceptor ── upgrade 4711
//!             <── offer, sockets (SCM_RIGHTS) ──                 (owns the connection)
//!             ── ready ──>                                       hands over, then drains
//! ```
//!
//! The queue of clients that are not accepted yet belongs to the socket, and the socket stays open
//! throughout: first the old process has it, then both, then the new one. Both may accept for a moment,
//! and each serves what it has accepted. The custody of each socket shows it: `shared with process 4711`
//! and `handed over to process 4711` in the old process, `received from process 4710` in the new one.
//!
//! | file | what |
//! |---|---|
//! | `protocol.rs` | the messages, and what bounds them |
//! | `predecessor.rs` | the new process: claims the sockets and confirms |
//! | `server.rs`, `old.rs`, `session.rs` | the old process: one upgrade at a time |
//! | `trust.rs` | who may take part |
//!
//! The failure story: SCM_RIGHTS shares one open file description. If the old process shuts its listener
//! down, as a cancellation does, the new process's listener is dead, too; if it removes the path of its
//! Unix socket, no client finds the new one. So whatever was shared is only ever closed, and its path belongs
//! to the process that serves it.
//!
//! # Limits
//!
//! - Connections stay with the process that accepted them: in the `broadcast` style the clients of the two
//!   processes do not hear each other.
//! - An address keeps the number of its sockets: further acceptors share them.

mod old;
mod predecessor;
mod protocol;
mod server;
mod session;
mod trust;

pub(crate) use predecessor::{Claimed, Predecessor};
pub(crate) use server::{DESCRIPTORS, RunningUpgrade, THREADS, UpgradeServer};
