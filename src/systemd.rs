//! What the server tells a service manager (systemd) and gets from it. Linux only.
//!
//! The failure story: a manager that starts the next service when this process *exists* starts it
//! before the first address is bound. So `READY=1` is sent when all addresses are bound and their
//! acceptors run, and the manager learns of the drain and of the reopening of files, too.
//!
//! [`Variables`] reads what the manager has set. [`ManagerTask`] owns the socket to the manager; the other
//! tasks send messages through a [`Notifier`], which never waits.
//!
//! # Limits
//!
//! A notify socket of the family vsock, which virtual machines use, is not supported.

mod manager_task;
mod notify_socket;
mod variables;

pub(crate) use manager_task::{ManagerTask, Notifier};
pub(crate) use notify_socket::NotifySocket;
pub(crate) use variables::{Passed, Variables};
