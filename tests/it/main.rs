//! The program as its users meet it: the real binary over real sockets.
//!
//! One binary, one module per subject. Every server listens on a free port and is stopped when its
//! handle is dropped.

mod ancestors;
mod callback;
mod chaos;
mod examples;
mod help;
mod hostile;
mod lifecycle;
mod limits;
mod nothing_leaks;
mod plain_echo;
mod readme;
mod reports;
mod server;
