//! The server under a service manager, which these tests play.

mod manager;
mod notify;
