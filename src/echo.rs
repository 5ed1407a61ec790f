//! What is done with a connection. One room per way of echoing; the loop that accepts, the limits
//! and the drain are the server's, and the same for all.

mod plain;

pub use plain::echo;
