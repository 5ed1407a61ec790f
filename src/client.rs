//! Clients of the staged and the broadcast protocol, and the health check.

pub(crate) mod broadcast;
pub(crate) mod health;
pub(crate) mod staged;
