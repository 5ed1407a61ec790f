//! The server under a service manager, which these tests play.

mod activation;
pub mod manager;
mod notify;
mod units;
mod watchdog;
