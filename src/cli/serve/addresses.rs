//! The addresses to listen on, with the sockets that were received for them.

use super::ServeArguments;
use crate::bind::{Planned, Purpose, ReceivedListener};
use crate::net::Endpoint;

/// What the program listens on.
pub(super) struct Addresses {
    pub(super) listen: Vec<Planned>,
    pub(super) status: Option<Planned>,
}

impl ServeArguments {
    /// Matches received sockets with the addresses of the options. The other addresses are to be bound.
    ///
    /// # Errors
    /// A received socket that no option names, or a host that is not known.
    pub(super) fn plan(&self, mut received: Vec<ReceivedListener>) -> Result<Addresses, String> {
        let mut take = |purpose, endpoint: &Endpoint| {
            Planned::take(purpose, endpoint.clone(), &mut received)
                .map(|planned| planned.with_access(self.unix.access()))
                .map_err(|error| format!("failed to listen on {endpoint}: {error}"))
        };
        let status = self.status.status.as_ref();
        let status = status.map(|endpoint| take(Purpose::Status, endpoint)).transpose()?;
        let listen = self.endpoints();
        let listen = listen.iter().map(|endpoint| take(Purpose::Echo, endpoint));
        let listen = listen.collect::<Result<_, _>>()?;
        match received.first() {
            None => Ok(Addresses { listen, status }),
            Some(other) => Err(format!(
                "{} passed a socket at {}, which is the address of no --listen and no --status",
                other.sender, other.place.address
            )),
        }
    }
}
