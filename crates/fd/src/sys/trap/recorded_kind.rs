//! The kind of a descriptor that is no longer open, by what was recorded of it.

use crate::kind;

/// The kind of a file by its type (as in `stat`), by a socket's family, type and whether it
/// listens, and by its link in `/proc`. The words are those of `open::describe`.
pub(super) fn kind_of(mode: u32, socket: [libc::c_int; 3], link: &str) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFSOCK => of_socket(socket),
        libc::S_IFIFO => kind::PIPE,
        libc::S_IFCHR if ["/dev/ptmx", "/dev/pts/ptmx"].contains(&link) => kind::PTY_MASTER,
        libc::S_IFCHR if link.starts_with("/dev/pts/") => kind::PTY_SLAVE,
        libc::S_IFCHR | libc::S_IFBLK => kind::DEVICE,
        libc::S_IFDIR => kind::DIRECTORY,
        libc::S_IFREG if link.starts_with("/memfd:") => kind::MEMFD,
        libc::S_IFREG if link == "/secretmem (deleted)" => kind::MEMFD_SECRET,
        libc::S_IFREG if link.starts_with('/') => kind::FILE,
        _ if link.starts_with("pidfd:") => kind::PIDFD,
        libc::S_IFREG => kind::NAMESPACE,
        _ => {
            let known = kind::BY_LINK.iter().find(|(word, _)| link.contains(word));
            known.map_or(kind::ANONYMOUS_INODE, |(_, kind)| kind)
        }
    }
}

fn of_socket([family, socket, listens]: [libc::c_int; 3]) -> &'static str {
    match (family, socket) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) if listens != 0 => kind::TCP_LISTENER,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => kind::TCP_STREAM,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => kind::UDP_SOCKET,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) => kind::RAW_SOCKET,
        (libc::AF_UNIX, _) if listens != 0 => kind::UNIX_LISTENER,
        (libc::AF_UNIX, libc::SOCK_STREAM) => kind::UNIX_STREAM,
        (libc::AF_UNIX, libc::SOCK_DGRAM) => kind::UNIX_DATAGRAM,
        (libc::AF_UNIX, libc::SOCK_SEQPACKET) => kind::UNIX_SEQPACKET,
        (libc::AF_PACKET, _) => kind::PACKET_SOCKET,
        (libc::AF_VSOCK, _) if listens != 0 => kind::VSOCK_LISTENER,
        (libc::AF_VSOCK, libc::SOCK_STREAM) => kind::VSOCK_STREAM,
        (libc::AF_VSOCK, libc::SOCK_DGRAM) => kind::VSOCK_DATAGRAM,
        (libc::AF_VSOCK, libc::SOCK_SEQPACKET) => kind::VSOCK_SEQPACKET,
        (libc::AF_NETLINK, _) => kind::NETLINK_SOCKET,
        _ => kind::SOCKET,
    }
}
