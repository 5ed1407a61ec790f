//! An address on loopback that stays the test's own, whether or not anything listens on it.
//!
//! The failure story. A test closes a listener and expects that connecting fails. The port is free
//! then, and another test's listener gets it; or the connecting socket itself gets it as its own
//! port, and TCP connects it to itself. Both are rare, and both have happened.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A socket that has an address and does not listen. Connecting to it fails, and the kernel
/// chooses the port for nothing else: neither for a `bind(2)` to port 0, nor for a `connect(2)`.
/// A listener that asks for this very address gets it (`SO_REUSEADDR` on both).
pub struct Reserved(OwnedFd);

impl Reserved {
    pub fn new() -> Reserved {
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket can be made");
        sockopt::set_socket_reuseaddr(&socket, true).expect("the option exists");
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        rustix::net::bind(&socket, &anywhere).expect("loopback has a free port");
        Reserved(socket)
    }

    pub fn address(&self) -> SocketAddr {
        let address = rustix::net::getsockname(&self.0).expect("it is bound");
        address.try_into().expect("it is a TCP address")
    }
}
