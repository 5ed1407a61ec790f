//! Listening sockets that the program received instead of binding them, matched with the addresses that
//! the user wrote.
//!
//! A service manager passes them at the start, and a server that is replaced hands them over. Either way
//! the configuration is this program's: a received socket is used for the address that it has, and an
//! address without a received socket is bound.

// The program uses it, and the library does not.
#![allow(dead_code)]

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use super::SocketAccess;
use crate::net::{self, Address, Endpoint, Listener};

/// Who bound a received socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The service manager, which keeps the socket, and with it the path of a Unix socket.
    ServiceManager,
    /// The server that this process replaces, by its process id.
    Process(u32),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::ServiceManager => f.write_str("the service manager"),
            Sender::Process(id) => write!(f, "process {id}"),
        }
    }
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "json", serde(rename_all = "snake_case"))]
pub(crate) enum Purpose {
    /// Its clients get their bytes back.
    Echo,
    /// The status over HTTP.
    Status,
    /// The next upgrade.
    Upgrade,
}

/// Where a socket is bound, as its sender says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoundPlace {
    /// `None`: for whatever the user wants.
    pub(crate) purpose: Option<Purpose>,
    /// As it was written there.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) address: Address,
}

/// The first of `places` that is for `endpoint`. One that was written in the same way comes first, because
/// port 0 leads to every port.
///
/// # Errors
/// The host of the endpoint is not known.
pub(crate) fn matching<'a>(
    places: impl Iterator<Item = &'a BoundPlace> + Clone,
    purpose: Purpose,
    endpoint: &Endpoint,
) -> io::Result<Option<&'a BoundPlace>> {
    let mut places = places.filter(|place| place.purpose.is_none_or(|its| its == purpose));
    let mut others = places.clone();
    if let Some(place) = places.find(|place| place.endpoint.as_ref() == Some(endpoint)) {
        return Ok(Some(place));
    }
    // Once for all places: a resolver may take seconds, and a sender waits meanwhile.
    let mut resolved = None;
    others
        .find_map(|place| {
            let is = is_at(&place.address, endpoint, &mut resolved);
            is.map(|is| is.then_some(place)).transpose()
        })
        .transpose()
}

/// A received listening socket, owned by the current task.
pub(crate) struct ReceivedListener {
    pub(crate) listener: Listener,
    pub(crate) place: BoundPlace,
    pub(crate) sender: Sender,
    /// Whether this process removes the path of a Unix socket at exit, once it has taken over.
    pub(crate) removes_path: bool,
}

impl ReceivedListener {
    /// Becomes the owner of a descriptor. `endpoint` is what the sender says it bound.
    ///
    /// # Errors
    /// What the descriptor is, if it is not a listening stream socket, as in `a udp socket`; errors of the
    /// registry. The descriptor is closed.
    #[track_caller]
    pub(crate) fn own(
        descriptor: OwnedFd,
        endpoint: Option<Endpoint>,
        sender: Sender,
    ) -> Result<ReceivedListener, String> {
        let address = net::listening_address(&descriptor)?;
        let listener = Listener::own_shared(descriptor).map_err(|error| error.to_string())?;
        let place = BoundPlace { purpose: None, endpoint, address };
        Ok(ReceivedListener { listener, place, sender, removes_path: false })
    }
}

/// Whether a bound address is one that an endpoint may lead to. Port 0 leads to every port. `resolved` is
/// what the endpoint resolves to, once that is known.
///
/// # Errors
/// The host of the endpoint is not known.
fn is_at(
    address: &Address,
    endpoint: &Endpoint,
    resolved: &mut Option<Vec<SocketAddr>>,
) -> io::Result<bool> {
    let is_port = |wanted: u16, bound: u16| wanted == 0 || wanted == bound;
    Ok(match (address, endpoint) {
        (Address::Path(bound), Endpoint::Unix(path)) => absolute(bound) == absolute(path),
        (Address::Inet(bound), Endpoint::All(port)) => {
            // A socket at 0.0.0.0 has no IPv6 clients, which this endpoint promises.
            bound.ip() == Ipv6Addr::UNSPECIFIED && is_port(*port, bound.port())
        }
        (Address::Inet(bound), Endpoint::Inet(_)) => {
            let wanted = match resolved {
                Some(wanted) => wanted,
                None => resolved.insert(endpoint.resolve()?),
            };
            wanted
                .iter()
                .any(|wanted| is_same_host(wanted, bound) && is_port(wanted.port(), bound.port()))
        }
        _ => false,
    })
}

/// A link-local address belongs to one interface.
fn is_same_host(wanted: &SocketAddr, bound: &SocketAddr) -> bool {
    let scope = |address: &SocketAddr| match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    wanted.ip() == bound.ip() && scope(wanted) == scope(bound)
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// An address to listen on, with the sockets that were received for it.
pub(crate) struct Planned {
    /// As the user wrote it, or the address of a received socket that the user did not name.
    pub(crate) endpoint: Endpoint,
    /// In the order in which they were received. Empty: the address is to be bound.
    pub(crate) received: Vec<ReceivedListener>,
    /// For a Unix socket that is bound.
    pub(crate) access: SocketAccess,
}

impl Planned {
    /// An address to bind.
    pub(crate) fn bound(endpoint: Endpoint) -> Planned {
        Planned { endpoint, received: Vec::new(), access: SocketAccess::default() }
    }

    /// The same, with these rights for clients if it is a Unix socket that is bound.
    pub(crate) fn with_access(self, access: SocketAccess) -> Planned {
        Planned { access, ..self }
    }

    /// Takes the sockets for `endpoint` out of `received`.
    ///
    /// # Errors
    /// The host of the endpoint is not known.
    pub(crate) fn take(
        purpose: Purpose,
        endpoint: Endpoint,
        received: &mut Vec<ReceivedListener>,
    ) -> io::Result<Planned> {
        let places = received.iter().map(|received| &received.place);
        let Some(place) = matching(places, purpose, &endpoint)?.cloned() else {
            return Ok(Planned::bound(endpoint));
        };
        // All sockets of one address: each of them has a queue of its own.
        let is_there = |received: &mut ReceivedListener| {
            received.place.address == place.address && received.place.purpose == place.purpose
        };
        let taken = received.extract_if(.., is_there).collect();
        Ok(Planned { received: taken, ..Planned::bound(endpoint) })
    }

    /// A received socket at its own address.
    fn of(received: ReceivedListener) -> Planned {
        let endpoint = match &received.place.address {
            Address::Path(path) => Endpoint::Unix(path.clone()),
            Address::Inet(address) => match address.ip() {
                ip if ip == Ipv6Addr::UNSPECIFIED => Endpoint::All(address.port()),
                _ => Endpoint::Inet(address.to_string()),
            },
            // These have no form of their own; the name is for messages.
            other => Endpoint::Inet(other.to_string()),
        };
        Planned { received: vec![received], ..Planned::bound(endpoint) }
    }

    /// Takes the sockets of the service manager that are for one purpose, each at its own address. Sockets
    /// with one address belong together: each of them has a queue of its own.
    pub(crate) fn take_passed(
        purpose: Option<Purpose>,
        received: &mut Vec<ReceivedListener>,
    ) -> Vec<Planned> {
        let mut all: Vec<Planned> = Vec::new();
        let is_one = |one: &mut ReceivedListener| {
            one.sender == Sender::ServiceManager && one.place.purpose == purpose
        };
        for one in received.extract_if(.., is_one) {
            let same = |planned: &&mut Planned| {
                planned.received.iter().any(|other| other.place.address == one.place.address)
            };
            match all.iter_mut().find(same) {
                Some(planned) => planned.received.push(one),
                None => all.push(Planned::of(one)),
            }
        }
        all
    }

    /// How many acceptors it gets where `wanted` are set: each received socket has a queue of its own,
    /// and needs one.
    pub(crate) fn acceptors(&self, wanted: usize) -> usize {
        self.received.len().max(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(address: &str, endpoint: &str) -> bool {
        let address = match address.strip_prefix("unix:") {
            Some(path) => Address::Path(path.into()),
            None => Address::Inet(address.parse().unwrap()),
        };
        is_at(&address, &endpoint.parse().unwrap(), &mut None).unwrap()
    }

    #[test]
    fn a_received_address_matches_every_way_to_write_it() {
        for (address, endpoint) in [
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("127.0.0.1:3000", "3000"),
            ("127.0.0.1:3000", "127.0.0.1:0"),
            ("[::1]:3000", "[::1]:3000"),
            ("[::]:3000", ":3000"),
            ("0.0.0.0:3000", "0.0.0.0:3000"),
            ("[fe80::1%1]:3000", "[fe80::1%1]:3000"),
            ("unix:/run/echo", "unix:/run/echo"),
            ("unix:/run/echo", "unix:/run/./echo"),
        ] {
            assert!(is(address, endpoint), "{address} {endpoint}");
        }
    }

    #[test]
    fn another_port_address_or_path_does_not_match() {
        for (address, endpoint) in [
            ("127.0.0.1:3000", "127.0.0.1:3001"),
            ("127.0.0.1:3000", "127.0.0.2:3000"),
            ("127.0.0.1:3000", ":3000"),
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("0.0.0.0:3000", ":3000"),
            ("[fe80::1%1]:3000", "[fe80::1%2]:3000"),
            ("unix:/run/echo", "unix:/run/other"),
            ("unix:/run/echo", "3000"),
        ] {
            assert!(!is(address, endpoint), "{address} {endpoint}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_listening_socket_is_refused_with_its_kind() {
        let refused = |descriptor: OwnedFd| {
            ReceivedListener::own(descriptor, None, Sender::ServiceManager).err().unwrap()
        };
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(refused(ours.into()), "a unix stream");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(refused(socket.into()), "a udp socket");
        assert_eq!(refused(std::fs::File::open("/dev/null").unwrap().into()), "a character device");
    }

    #[test]
    fn a_cancelled_task_leaves_a_shared_listener_open_for_the_other_process() {
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = theirs.try_clone().unwrap();
        let sender = Sender::ServiceManager;
        let listener = ReceivedListener::own(ours.into(), None, sender).unwrap().listener;
        let (stopped, stop) = net::pipe().unwrap();
        let given = [listener.resource(), stopped.resource()];
        let accepting = crate::thread::spawn(given, move || {
            while let Ok(Some(_)) = listener.accept_or_stop(&stopped) {}
        });
        let accepting = accepting.unwrap();
        accepting.request_cancel().unwrap();
        drop(stop);
        let _ = accepting.join();
        let _client = std::net::TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
        theirs.set_nonblocking(false).unwrap();
        theirs.accept().unwrap();
    }
}
