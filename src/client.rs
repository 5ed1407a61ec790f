//! Clients of the staged and the broadcast protocol.

pub mod broadcast;
pub mod staged;
