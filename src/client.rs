//! Clients of the servers, ours and others'.

pub mod broadcast;
pub mod staged;
