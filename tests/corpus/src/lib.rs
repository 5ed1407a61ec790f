//! Small pieces of programs with the faults that real ones have, and some without.

pub mod acceptor;
pub mod clean;
pub mod closes;
pub mod cycle;
pub mod pass;
pub mod paths;
pub mod sessions;
pub mod signals;
pub mod worker;
