//! Clients of the servers, ours and others': blocking, with an owner for each half of the connection.

pub mod broadcast;

use std::io;

use crate::net::Stream;
use crate::ownership::Registry;

/// Connects to `127.0.0.1:8000`, `localhost:8000`, `[::1]:8000` or `unix:/run/echo`.
///
/// # Errors
/// Nobody listens there, or the name has no address; the registry's: `Cancelled`.
#[track_caller]
pub fn connect(registry: &Registry, address: &str) -> io::Result<Stream> {
    match address.strip_prefix("unix:") {
        Some(path) => Stream::connect_unix_in(registry, path),
        None => Stream::connect_in(registry, address),
    }
}
