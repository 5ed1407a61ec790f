//! Socket addresses of every family.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use echown_fd::{escape, unix_address::UnixName};
use rustix::net::{AddressFamily, SocketAddrAny};

use crate::ownership::Error;

/// The address of a socket or of its peer.
///
/// # Examples
/// ```
/// let listener = echown::net::Listener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// assert_eq!(address.to_string(), format!("127.0.0.1:{}", address.inet().unwrap().port()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP or UDP, version 4 or 6.
    Inet(SocketAddr),
    /// A Unix socket with a path.
    Path(PathBuf),
    /// A Unix socket with a name in Linux's abstract namespace.
    Abstract(Box<[u8]>),
    /// A Unix socket without a name, as most clients have.
    Unnamed,
}

impl Address {
    /// Converts an address from the kernel.
    pub(super) fn of(any: SocketAddrAny) -> io::Result<Address> {
        if any.address_family() != AddressFamily::UNIX {
            return Ok(Address::Inet(any.try_into()?));
        }
        Ok(match UnixName::of(&any) {
            UnixName::Path(path) => Address::Path(path),
            UnixName::Abstract(name) => Address::Abstract(name),
            UnixName::Unnamed => Address::Unnamed,
        })
    }

    /// The address and port of a TCP or UDP socket.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(address) => Some(*address),
            _ => None,
        }
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Path(path) => Some(path),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Inet(address)
    }
}

/// Makes it usable wherever an internet address is, in [`Stream::connect`](super::Stream::connect) and
/// the standard library. (`InvalidInput` for a Unix socket's.)
impl ToSocketAddrs for Address {
    type Iter = std::option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match self {
            Address::Inet(address) => Ok(Some(*address).into_iter()),
            _ => {
                let text = format!("`{self}` is a Unix socket's address, not an internet address");
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `unix:/run/echo`, `unix:@name`, `unix:`. A peer chooses its name: control
/// characters, invisible characters, invalid UTF-8 and backslashes are escaped (`\n`, `\x1b`, `\u{202e}`,
/// `\\`).
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Path(path) => write!(f, "unix:{}", escape::path(path)),
            Address::Abstract(name) => write!(f, "unix:@{}", escape::bytes(name)),
            Address::Unnamed => f.write_str("unix:"),
        }
    }
}

/// Whether to try a name's next address: not after an error of the registry, which concerns the task
/// and not the address.
pub(super) fn may_try_next(error: &io::Error) -> bool {
    Error::in_io(error).is_none()
}

/// The error for a name without addresses.
pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the name has no address")
}
