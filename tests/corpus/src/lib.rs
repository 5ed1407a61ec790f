//! Small code samples with typical faults, and some without.

pub mod acceptor;
pub mod bugs;
pub mod clean;
pub mod closes;
pub mod crates;
pub mod cycle;
pub mod exec;
pub mod pass;
pub mod paths;
pub mod ring;
pub mod sessions;
pub mod signals;
pub mod worker;
