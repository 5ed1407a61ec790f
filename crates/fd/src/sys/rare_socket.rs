//! Sockets that the registry does not distinguish: their kinds and what else the kernel knows.

use std::os::fd::BorrowedFd;

use rustix::net::sockopt;
#[cfg(target_os = "linux")]
use rustix::net::{SocketType, ipproto};

use crate::kind;

/// The kind of a socket that is no TCP, UDP or Unix stream socket.
///
/// The family is `SO_DOMAIN` and not the address's, because some families have no address until
/// they are bound.
#[cfg(target_os = "linux")]
pub(super) fn kind_of(fd: BorrowedFd<'_>) -> &'static str {
    let (Ok(family), Ok(socket)) = (sockopt::socket_domain(fd), sockopt::socket_type(fd)) else {
        return kind::SOCKET;
    };
    let listens = sockopt::socket_acceptconn(fd).unwrap_or(false);
    match (i32::from(family.as_raw()), socket) {
        (libc::AF_UNIX, _) if listens => kind::UNIX_LISTENER,
        (libc::AF_UNIX, SocketType::DGRAM) => kind::UNIX_DATAGRAM,
        (libc::AF_UNIX, SocketType::SEQPACKET) => kind::UNIX_SEQPACKET,
        (libc::AF_INET | libc::AF_INET6, SocketType::RAW) => kind::RAW_SOCKET,
        (libc::AF_NETLINK, _) => kind::NETLINK_SOCKET,
        (libc::AF_PACKET, _) => kind::PACKET_SOCKET,
        (libc::AF_VSOCK, _) if listens => kind::VSOCK_LISTENER,
        (libc::AF_VSOCK, SocketType::STREAM) => kind::VSOCK_STREAM,
        (libc::AF_VSOCK, SocketType::DGRAM) => kind::VSOCK_DATAGRAM,
        (libc::AF_VSOCK, SocketType::SEQPACKET) => kind::VSOCK_SEQPACKET,
        _ => kind::SOCKET,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn kind_of(fd: BorrowedFd<'_>) -> &'static str {
    use rustix::net::{AddressFamily, SocketType};

    let family = rustix::net::getsockname(fd).map(|address| address.address_family());
    match (family, sockopt::socket_type(fd)) {
        (Ok(AddressFamily::UNIX), Ok(SocketType::DGRAM)) => kind::UNIX_DATAGRAM,
        _ => kind::SOCKET,
    }
}

/// Whether a datagram socket of an IP family is one for ping messages.
#[cfg(target_os = "linux")]
pub(super) fn is_icmp(fd: BorrowedFd<'_>) -> bool {
    let protocol = sockopt::socket_protocol(fd).ok().flatten();
    protocol.is_some_and(|it| it == ipproto::ICMP || it == ipproto::ICMPV6)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_icmp(_: BorrowedFd<'_>) -> bool {
    false
}

/// The protocol of a raw, packet or netlink socket, and the family and type of a socket without a
/// kind of its own.
#[cfg(target_os = "linux")]
pub(super) fn facts(fd: BorrowedFd<'_>, kind: &str) -> Vec<String> {
    let protocol = sockopt::socket_protocol(fd).ok().flatten();
    let protocol = protocol.map_or(0, |protocol| protocol.as_raw().get());
    let name = |names: &[(u32, &str)]| {
        let known = names.iter().find(|(number, _)| *number == protocol);
        known.map_or(format!("protocol {protocol}"), |(_, name)| (*name).to_owned())
    };
    match kind {
        kind::NETLINK_SOCKET => vec![name(NETLINK)],
        kind::RAW_SOCKET => vec![name(RAW)],
        kind::SOCKET => {
            let family = sockopt::socket_domain(fd).map_or(0, |family| family.as_raw());
            let socket = sockopt::socket_type(fd).map_or(0, |socket| socket.as_raw());
            vec![format!("family {family}, type {socket}, protocol {protocol}")]
        }
        _ => Vec::new(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn facts(_: BorrowedFd<'_>, _: &str) -> Vec<String> {
    Vec::new()
}

/// Families of netlink; the common ones.
#[cfg(target_os = "linux")]
const NETLINK: &[(u32, &str)] = &[
    (0, "route"),
    (4, "sock_diag"),
    (9, "audit"),
    (11, "connector"),
    (12, "netfilter"),
    (15, "kobject_uevent"),
    (16, "generic"),
];

#[cfg(target_os = "linux")]
const RAW: &[(u32, &str)] =
    &[(1, "icmp"), (2, "igmp"), (6, "tcp"), (17, "udp"), (58, "icmpv6"), (255, "raw")];
