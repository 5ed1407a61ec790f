//! Clients of the staged and the broadcast protocol.

pub(crate) mod broadcast;
pub(crate) mod staged;
