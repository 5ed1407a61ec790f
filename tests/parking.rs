//! Parking connections in this process, against clients and handlers that make rare orders of events
//! frequent.
//!
//! An event that is lost between the last read of one worker and its `park` is a client that waits
//! indefinitely. In production that is one connection in a million; here a turn may take its time after
//! its last system call, so that a server that loses events loses one in every run.

#[path = "parking/clients.rs"]
mod clients;
mod common;
#[path = "parking/ending.rs"]
mod ending;
#[path = "parking/rules.rs"]
mod rules;
#[path = "parking/running.rs"]
mod running;
#[path = "parking/storm.rs"]
mod storm;
