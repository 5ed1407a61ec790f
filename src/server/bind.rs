//! Opening what a server listens on.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Settings;
use super::spare::Spare;
use crate::net::{self, Endpoint, Listener, PipeReader, PipeWriter};
use crate::ownership::{Registry, Resource};

/// One address with the acceptors that it will have.
pub(super) struct Place {
    /// Numeric.
    pub(super) name: String,
    /// Each acceptor's order to stop, and what it works with.
    pub(super) seats: Vec<(PipeWriter, Seat)>,
    /// The socket's file, removed when this is dropped.
    pub(super) path: Option<SocketFile>,
}

/// What one acceptor works with, all of it owned.
pub(super) struct Seat {
    pub(super) listener: Listener,
    pub(super) stop: PipeReader,
    pub(super) spare: Spare,
}

impl Seat {
    /// For giving all of it to the acceptor's task.
    pub(super) fn resources(&self) -> Vec<Resource> {
        let mut resources = vec![self.listener.resource(), self.stop.resource()];
        resources.extend(self.spare.resource());
        resources
    }
}

/// A Unix socket's file, which outlives the socket unless somebody removes it.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: at the end the path may be somebody else's.
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
            // Already gone is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Opens listeners, stops and reserves for one endpoint.
#[track_caller]
pub(super) fn open(
    registry: &Registry,
    endpoint: &Endpoint,
    settings: &Settings,
) -> Result<Place, BindError> {
    let failed = |error| BindError { endpoint: endpoint.clone(), error };
    let first = listen(registry, endpoint, settings).map_err(failed)?;
    let path = match endpoint {
        Endpoint::Unix(path) => Some(SocketFile::new(path)),
        Endpoint::Inet(_) => None,
    };
    let name = first.local_addr().map_err(failed)?.to_string();
    let siblings = (1..settings.acceptors.get()).map(|_| first.sibling(settings.backlog));
    let siblings = siblings.collect::<io::Result<Vec<Listener>>>().map_err(failed)?;
    let mut seats = Vec::with_capacity(settings.acceptors.get());
    for listener in std::iter::once(first).chain(siblings) {
        let (stop, order) = net::pipe_in(registry).map_err(failed)?;
        let spare = Spare::new(registry).map_err(failed)?;
        seats.push((order, Seat { listener, stop, spare }));
    }
    Ok(Place { name, seats, path })
}

#[track_caller]
fn listen(registry: &Registry, endpoint: &Endpoint, settings: &Settings) -> io::Result<Listener> {
    // What is sent is all there is: a last short segment would wait for the acknowledgement of the one
    // before, which a peer may delay for 40 ms.
    let options = Listener::options().registry(registry).backlog(settings.backlog).nodelay(true);
    let options = options.write_timeout(settings.write_timeout).keep_alive(settings.keep_alive);
    match endpoint {
        Endpoint::Inet(address) => options.bind(address.as_str()),
        Endpoint::Unix(path) => match options.bind_unix(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(registry, path) => {
                std::fs::remove_file(path)?;
                options.bind_unix(path)
            }
            answer => answer,
        },
    }
}

/// Whether a path is a socket on which nobody listens: left over from a server that was killed.
fn is_stale(registry: &Registry, path: &Path) -> bool {
    is_socket(path) && is_refused(registry, path).unwrap_or(false)
}

/// Whether connecting is refused. Without waiting: a live server whose queue is full answers
/// `EAGAIN`.
fn is_refused(registry: &Registry, path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let probe = registry.own_fd(probe)?;
    Ok(probe.with(|probe| rustix::net::connect(probe, &address) == Err(Errno::CONNREFUSED))?)
}

/// An address that could not be had.
#[derive(Debug)]
pub struct BindError {
    endpoint: Endpoint,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { endpoint, error } = self;
        match (error.kind(), endpoint) {
            (io::ErrorKind::AddrInUse, Endpoint::Unix(path)) if !is_socket(path) => write!(
                f,
                "cannot listen on {endpoint}: a file that is no socket is in the way; \
                 remove it or choose another path with --listen"
            ),
            (io::ErrorKind::AddrInUse, _) => write!(
                f,
                "cannot listen on {endpoint}: another program has it; \
                 stop that one or choose another address with --listen"
            ),
            (io::ErrorKind::PermissionDenied, Endpoint::Inet(_)) => write!(
                f,
                "cannot listen on {endpoint}: not permitted; \
                 ports below 1024 need privileges, choose another with --listen"
            ),
            _ => write!(f, "cannot listen on {endpoint}: {error}"),
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_or_a_path() {
        assert_eq!("[::1]:0".parse(), Ok(Endpoint::Inet("[::1]:0".into())));
        assert_eq!("unix:/run/echo".parse(), Ok(Endpoint::Unix("/run/echo".into())));
        assert!("unix:".parse::<Endpoint>().unwrap_err().contains("needs a path"));
        for wrong in ["nowhere", "3000", ":3000", "127.0.0.1:99999", ""] {
            let refused = wrong.parse::<Endpoint>().unwrap_err();
            assert!(refused.contains("expected ADDRESS:PORT"), "{wrong}: {refused}");
        }
    }
}
