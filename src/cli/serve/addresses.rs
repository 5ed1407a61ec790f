//! The addresses to listen on, with the sockets that were received for them.

use super::ServeArguments;
use crate::bind::{Planned, ReceivedListener};
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
        let mut take = |endpoint: &Endpoint| {
            Planned::take(endpoint.clone(), &mut received)
                .map_err(|error| format!("failed to listen on {endpoint}: {error}"))
        };
        let status = self.status.status.as_ref().map(&mut take).transpose()?;
        let listen = self.endpoints().iter().map(take).collect::<Result<_, _>>()?;
        match received.first() {
            None => Ok(Addresses { listen, status }),
            Some(other) => Err(format!(
                "{} passed a socket at {}, which is the address of no --listen and no --status",
                other.sender, other.address
            )),
        }
    }
}
