//! Clients: programs that talk to a server and say what they were answered.

pub mod staged;
mod stop;
mod summary;

pub use stop::Stop;
pub use summary::Summary;
