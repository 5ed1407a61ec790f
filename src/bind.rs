//! Listening on an endpoint: the listener, the file of a Unix socket, and the cause of a failure.
//!
//! The failure story: a server that was killed leaves the file of its Unix socket behind, and the next
//! start fails. A file without a listener is replaced; one with a listener, or of another kind, is an
//! error. The file is removed at exit, unless another program has created one at its path meanwhile.
//! The file of a received socket belongs to its sender: a service manager keeps it, and a server that is
//! replaced leaves it to its successor.

mod cause;
mod listening;
mod received;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::net::{Endpoint, Listener, ListenerOptions};
use crate::ownership;
use crate::sys::platform::{self, Mode};
pub(crate) use cause::cause;
pub(crate) use listening::Listening;
#[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(unused_imports))]
pub(crate) use received::{BoundPlace, Planned, Purpose, ReceivedListener, Sender, matching};

/// An address that this program already listens on.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    /// The numeric address.
    pub(crate) name: &'a str,
    /// The Unix socket's file.
    pub(crate) file: Option<&'a SocketFile>,
}

/// A Unix socket's file, which outlives the socket unless it is removed.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, because another program may have created a file at this path meanwhile.
    identity: Option<(u64, u64)>,
    keeper: FileKeeper,
}

/// Who removes a socket's file at exit: this process, or another one that has the socket, too.
#[derive(Clone, Default)]
pub(crate) struct FileKeeper {
    is_other: Arc<AtomicBool>,
}

// The program uses it, and the library does not.
#[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
impl FileKeeper {
    /// Leaves the file to another process.
    pub(crate) fn leave(&self) {
        // ord: Release, to the Acquire in the drop of the file: what came before the hand-over is over.
        self.is_other.store(true, Ordering::Release);
    }

    /// Takes the file over from another process.
    pub(crate) fn take(&self) {
        // ord: Release, as above.
        self.is_other.store(false, Ordering::Release);
    }
}

impl SocketFile {
    fn new(path: &Path) -> SocketFile {
        SocketFile { path: path.into(), identity: identity(path), keeper: FileKeeper::default() }
    }

    /// Decides who removes it.
    pub(crate) fn keeper(&self) -> FileKeeper {
        self.keeper.clone()
    }

    /// Where it is.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // ord: Acquire, to the Release of the process that decided.
        if self.keeper.is_other.load(Ordering::Acquire) {
            return;
        }
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

/// Listens on a planned address: on the received sockets, or on one that is bound. A Unix socket also has
/// a file, which is removed at exit unless a service manager has it.
///
/// # Errors
/// Errors of the system calls and the registry; [`cause`] explains them.
#[track_caller]
pub(crate) fn listen(
    planned: Planned,
    options: &ListenerOptions,
) -> io::Result<(Vec<Listener>, Option<SocketFile>)> {
    if planned.received.is_empty() {
        let (listener, file) = bind(&planned.endpoint, options.clone())?;
        return Ok((vec![listener], file));
    }
    let mut file = None;
    let mut listeners = Vec::with_capacity(planned.received.len());
    for ReceivedListener { mut listener, place, sender, removes_path } in planned.received {
        options.apply_to(&mut listener)?;
        if let Sender::Process(_) = sender {
            // A service manager has a setting of its own.
            options.set_backlog(&listener)?;
            if file.is_none() && removes_path {
                file = place.address.path().map(SocketFile::new);
                // The other process keeps it until it has handed over.
                file.iter().for_each(|file| file.keeper.leave());
            }
        }
        listeners.push(listener);
    }
    Ok((listeners, file))
}

/// Binds an endpoint; a Unix socket also has a file.
#[track_caller]
fn bind(
    endpoint: &Endpoint,
    options: ListenerOptions,
) -> io::Result<(Listener, Option<SocketFile>)> {
    let listener = match endpoint {
        Endpoint::Inet(_) => options.bind(&*endpoint.resolve()?)?,
        // One socket for both versions of IP, independent of the system's default.
        Endpoint::All(port) => {
            match options.clone().dual_stack(true).bind((Ipv6Addr::UNSPECIFIED, *port)) {
                Err(error) if is_without_ipv6(&error) => {
                    options.bind((Ipv4Addr::UNSPECIFIED, *port))?
                }
                result => result?,
            }
        }
        Endpoint::Unix(path) => {
            let listener = match options.bind_unix(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                    std::fs::remove_file(path)?;
                    options.bind_unix(path)?
                }
                result => result?,
            };
            return Ok((listener, Some(SocketFile::new(path))));
        }
    };
    Ok((listener, None))
}

/// Whether a path is a socket without a listener, left behind by a server that was killed.
fn is_stale(path: &Path) -> bool {
    is_socket(path) && is_rejected(path).unwrap_or(false)
}

/// Whether the kernel rejects a connection. Does not block: a running server whose queue is full
/// causes `EAGAIN`.
fn is_rejected(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let probe = platform::socket(AddressFamily::UNIX, SocketType::STREAM, Mode::NonBlocking)?;
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
