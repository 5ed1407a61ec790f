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
    /// The addresses of a server for one connection that the service manager has accepted: the status only.
    ///
    /// # Errors
    /// Addresses to listen on.
    pub(super) fn plan_without_listening(&self) -> Result<Addresses, String> {
        if self.listen.is_empty() {
            let status = self.status.status.clone().map(Planned::bound);
            return Ok(Addresses { listen: Vec::new(), status });
        }
        Err("the service manager has accepted a connection (Accept=yes), so there is nothing to \
             --listen to"
            .into())
    }

    /// Matches received sockets with the addresses of the options. The other addresses are to be bound.
    ///
    /// Without --listen all sockets of the service manager are served, those with the name `status` by the
    /// status server.
    ///
    /// # Errors
    /// A received socket that no option names, or a host that is not known.
    pub(super) fn plan(&self, mut received: Vec<ReceivedListener>) -> Result<Addresses, String> {
        let status = match &self.status.status {
            Some(endpoint) => Some(self.take(Purpose::Status, endpoint, &mut received)?),
            None => passed_status(&mut received)?,
        };
        let mut listen = Vec::new();
        if self.listen.is_empty() {
            listen = Planned::take_passed(None, &mut received);
        }
        if listen.is_empty() {
            for endpoint in self.endpoints() {
                listen.push(self.take(Purpose::Echo, &endpoint, &mut received)?);
            }
        }
        match received.first() {
            None => Ok(Addresses { listen, status }),
            Some(other) => Err(format!(
                "{} passed a socket at {}, which is the address of no --listen and no --status",
                other.sender, other.place.address
            )),
        }
    }

    fn take(
        &self,
        purpose: Purpose,
        endpoint: &Endpoint,
        received: &mut Vec<ReceivedListener>,
    ) -> Result<Planned, String> {
        Planned::take(purpose, endpoint.clone(), received)
            .map(|planned| planned.with_access(self.unix.access()))
            .map_err(|error| format!("failed to listen on {endpoint}: {error}"))
    }
}

/// What the service manager has passed for the status server.
fn passed_status(received: &mut Vec<ReceivedListener>) -> Result<Option<Planned>, String> {
    let mut passed = Planned::take_passed(Some(Purpose::Status), received);
    let first = (!passed.is_empty()).then(|| passed.remove(0));
    match (first, passed.first()) {
        (Some(first), Some(second)) => Err(format!(
            "the service manager passed status sockets at {} and at {}: one is needed",
            first.endpoint, second.endpoint
        )),
        (first, _) => Ok(first),
    }
}
