//! Listening on an endpoint: the listener, the file of a Unix socket, and the cause of a failure.
//!
//! The failure story: a server that was killed leaves the file of its Unix socket behind, and the next
//! start fails. A file without a listener is replaced; one with a listener, or of another kind, is an
//! error ([`unix`]). The file of a received socket belongs to its sender: a service manager keeps it, and
//! a server that is replaced leaves it to its successor.

mod cause;
mod listening;
mod received;
mod unix;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::net::{Endpoint, Listener, ListenerOptions};
pub(crate) use cause::cause;
pub(crate) use listening::Listening;
#[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(unused_imports))]
pub(crate) use received::{BoundPlace, Planned, Purpose, ReceivedListener, Sender, matching};
#[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(unused_imports))]
pub(crate) use unix::{FileKeeper, SocketAccess, SocketFile};

/// An address that this program already listens on.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    /// The numeric address.
    pub(crate) name: &'a str,
    /// The Unix socket's file.
    pub(crate) file: Option<&'a SocketFile>,
    /// The option that names it.
    pub(crate) option: &'a str,
}

/// Listens on a planned address: on the received sockets, or on one that is bound. A Unix socket also has
/// a file, which is removed at exit unless a service manager has it.
///
/// The sockets of a running server keep its options, because it may go on serving; see [`later_options`].
///
/// # Errors
/// Errors of the system calls and the registry; [`cause`] explains them.
#[track_caller]
pub(crate) fn listen(
    planned: Planned,
    options: &ListenerOptions,
) -> io::Result<(Vec<Listener>, Option<SocketFile>)> {
    if planned.received.is_empty() {
        let (listener, file) = bind(&planned.endpoint, options.clone(), planned.access)?;
        return Ok((vec![listener], file));
    }
    let mut file = None;
    let mut listeners = Vec::with_capacity(planned.received.len());
    for ReceivedListener { mut listener, place, sender, removes_path } in planned.received {
        if sender == Sender::ServiceManager {
            // The queue's length is a setting of its own.
            options.apply_to(&mut listener)?;
        } else {
            if file.is_none() && removes_path {
                file = place.address.path().map(SocketFile::at);
                // The other process keeps it until it has handed over.
                file.iter().for_each(|file| file.keeper().leave());
            }
        }
        listeners.push(listener);
    }
    Ok((listeners, file))
}

/// The options that the sockets of a planned address get once the server that has them now has handed
/// over.
pub(crate) fn later_options(
    planned: &Planned,
    options: &ListenerOptions,
) -> Option<ListenerOptions> {
    let is_of_server = |received: &ReceivedListener| matches!(received.sender, Sender::Process(_));
    planned.received.iter().any(is_of_server).then(|| options.clone())
}

/// Binds an endpoint; a Unix socket also has a file.
#[track_caller]
fn bind(
    endpoint: &Endpoint,
    options: ListenerOptions,
    access: SocketAccess,
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
            let (listener, file) = unix::listen(path, &options, access)?;
            return Ok((listener, Some(file)));
        }
    };
    Ok((listener, None))
}

/// Whether this system lacks IPv6 or has it disabled.
fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}
