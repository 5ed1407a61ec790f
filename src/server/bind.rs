//! The listeners, stop pipes and reserve descriptors of a server.

mod cause;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::ServerSettings;
use super::error::ServerError;
use super::reserve::ReserveFd;
use crate::net::{self, Endpoint, Listener, PipeReader, PipeWriter};
use crate::ownership;

/// A bound address and the resources of its acceptors.
pub(super) struct BoundAddress {
    /// The numeric address.
    pub(super) name: String,
    /// For each acceptor: the write end of its stop pipe, and its resources.
    pub(super) acceptors: Vec<(PipeWriter, AcceptorResources)>,
    /// The Unix socket's file, removed when this is dropped.
    pub(super) path: Option<SocketFile>,
}

impl BoundAddress {
    /// Limits the kernel's buffers of each accepted connection to this many bytes each.
    pub(super) fn limit_buffers(&mut self, bytes: u64) -> Result<(), ServerError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        for (_, resources) in &mut self.acceptors {
            let limited = resources.listener.limit_buffers(bytes);
            limited.map_err(|error| {
                let name = &self.name;
                let text = format!("failed to limit the buffers of connections to {name}: {error}");
                ServerError::caused(text, error)
            })?;
        }
        Ok(())
    }
}

/// The resources of one acceptor, all owned.
pub(super) struct AcceptorResources {
    pub(super) listener: Listener,
    pub(super) stop: PipeReader,
    pub(super) reserve: ReserveFd,
}

/// A Unix socket's file, which outlives the socket unless it is removed.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, because another program may have created a file at this path meanwhile.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> SocketFile {
        SocketFile { path: path.into(), identity: identity(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // It may already be gone.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Opens the resources of all endpoints.
#[track_caller]
pub(super) fn open_all(
    endpoints: &[Endpoint],
    settings: &ServerSettings,
) -> Result<Vec<BoundAddress>, ServerError> {
    let mut addresses = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        match open(endpoint, settings) {
            Ok(address) => addresses.push(address),
            Err(error) => {
                let cause = cause::cause(endpoint, &error, &addresses);
                let text = format!("failed to listen on {endpoint}: {cause}");
                return Err(ServerError::caused(text, error));
            }
        }
    }
    Ok(addresses)
}

/// Descriptors of one acceptor: its listener, both ends of the stop pipe, the reserve.
pub(super) const DESCRIPTORS_PER_ACCEPTOR: u64 = 4;

/// Opens the resources of one endpoint.
#[track_caller]
fn open(endpoint: &Endpoint, settings: &ServerSettings) -> io::Result<BoundAddress> {
    let first = listen(endpoint, settings)?;
    let path = match endpoint {
        Endpoint::Unix(path) => Some(SocketFile::new(path)),
        Endpoint::Inet(_) | Endpoint::All(_) => None,
    };
    let name = first.local_addr()?.to_string();
    let clones = (1..settings.acceptors.get()).map(|_| first.reuse_port_clone(settings.backlog));
    let clones = clones.collect::<io::Result<Vec<Listener>>>()?;
    let mut acceptors = Vec::with_capacity(settings.acceptors.get());
    for listener in std::iter::once(first).chain(clones) {
        let (stop, order) = net::pipe()?;
        let reserve = ReserveFd::new(&stop)?;
        acceptors.push((order, AcceptorResources { listener, stop, reserve }));
    }
    Ok(BoundAddress { name, acceptors, path })
}

#[track_caller]
fn listen(endpoint: &Endpoint, settings: &ServerSettings) -> io::Result<Listener> {
    // An echo has no more data to wait for: with Nagle's algorithm a last short segment would wait for
    // the acknowledgement of the one before, which a peer may delay by 40 ms.
    let options = Listener::options().backlog(settings.backlog).nodelay(true);
    let options = options.write_timeout(settings.write_timeout).keep_alive(settings.keep_alive);
    match endpoint {
        Endpoint::Inet(_) => options.bind(&*endpoint.resolve()?),
        // One socket for both versions of IP, independent of the system's default.
        Endpoint::All(port) => {
            match options.clone().dual_stack(true).bind((Ipv6Addr::UNSPECIFIED, *port)) {
                Err(error) if is_without_ipv6(&error) => {
                    options.bind((Ipv4Addr::UNSPECIFIED, *port))
                }
                result => result,
            }
        }
        Endpoint::Unix(path) => match options.bind_unix(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                std::fs::remove_file(path)?;
                options.bind_unix(path)
            }
            result => result,
        },
    }
}

/// Whether a path is a socket without a listener, left behind by a server that was killed.
fn is_stale(path: &Path) -> bool {
    is_socket(path) && is_rejected(path).unwrap_or(false)
}

/// Whether the kernel rejects a connection. Does not block: a running server whose queue is full
/// causes `EAGAIN`.
fn is_rejected(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let probe = ownership::own_fd(probe)?;
    Ok(probe.with(|probe| rustix::net::connect(probe, &address) == Err(Errno::CONNREFUSED))?)
}

/// Whether this system lacks IPv6 or has it disabled.
fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}
