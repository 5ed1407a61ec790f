//! The server under a service manager, which these tests play.

pub mod manager;
mod notify;
mod watchdog;
